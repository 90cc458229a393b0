import MartletCore
import MartletRPC

/// A message of Lattica's unary protocol, cut in pieces as the first byte says: what is read is written back the same, and no
/// more comes out than went in.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    guard size > 0 else { return 0 }
    let size = size - 1
    let bytes = Bytes(Array(UnsafeBufferPointer(start: data + 1, count: size)))
    let cut = size == 0 ? 0 : Int(data[0]) % size
    let message = RPCMessage(pieces: [bytes.prefix(cut), bytes.dropFirst(cut)])
    if let decoded = try? LatticaMessage(decoding: message) { check(decoded, size) }
    values(message)

    var limits = LatticaLimits()
    limits.messageSize = 1000
    var server = LatticaUnaryServer(limits: limits)
    server.received(bytes.prefix(cut))
    server.received(bytes.dropFirst(cut))
    if case .call(_, _, let argument)? = try? server.finished(), argument.byteCount > 1000 {
        fatalError("an argument beyond the limit")
    }
    var client = LatticaUnaryClient(limits: limits)
    if (try? client.received(bytes)) != nil, case .result(let result)? = try? client.finished(), result.byteCount > 1000
    {
        fatalError("a result beyond the limit")
    }
    return 0
}

private func check(_ message: LatticaMessage, _ size: Int) {
    let encoded = message.encoded
    guard encoded.byteCount <= size + 1, let again = try? LatticaMessage(decoding: encoded), again == message else {
        fatalError("a message reads differently when it was written")
    }
}

/// The values one after the other, chosen by what is read.
private func values(_ message: RPCMessage) {
    var reader = BincodeReader(message)
    while reader.remaining > 0 {
        let before = reader.remaining
        do {
            switch try reader.readByte() % 6 {
            case 0: _ = try reader.readInteger()
            case 1:
                let text = try reader.readString(limit: 100, field: "text")
                guard text.utf8.count <= 100 else { fatalError("text beyond the limit") }
            case 2:
                let bytes = try reader.readBytes(limit: 1 << 40, field: "bytes")
                guard bytes.byteCount < before else { fatalError("more bytes than there were") }
            case 3: _ = try reader.readDouble()
            case 4: _ = try reader.readOption(field: "option")
            default: _ = try reader.readTag(count: 3, field: "tag")
            }
        } catch {
            return
        }
        guard reader.remaining < before, reader.position + reader.remaining == message.byteCount else {
            fatalError("the reader lost its place")
        }
    }
}
