import MartletCore

/// A varint that decodes is the shortest encoding of its value, so encoding it again gives the bytes that were read.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    let bytes = UnsafeRawBufferPointer(start: data, count: size)
    do throws(DecodingError) {
        switch try Varint.decode(bytes.bytes) {
        case .value(let value, let byteCount):
            guard Varint.encode(value).elementsEqual(bytes.prefix(byteCount)) else {
                fatalError("\(value) was read from other bytes than it is written as")
            }
            guard byteCount == Varint.byteCount(value) else { fatalError("the size of \(value) is wrong") }
        case .incomplete:
            guard size < Varint.maximumByteCount else { fatalError("\(size) bytes are enough for any varint") }
        }
    } catch {}
    return 0
}
