import MartletCore

/// The few rules of protobuf that dag-pb and UnixFS need, read strictly: known fields in rising order, shortest varints,
/// nothing else. Hashed messages must have one encoding only.
///
/// SwiftProtobuf is not used here because it writes fields in rising order, and dag-pb has Links (2) before Data (1).
enum WireField {
    static func appendVarint(_ number: UInt64, _ value: UInt64, to output: inout [UInt8]) {
        Varint.append(number << 3, to: &output)
        Varint.append(value, to: &output)
    }

    static func appendBytes(_ number: UInt64, _ value: some Collection<UInt8>, to output: inout [UInt8]) {
        Varint.append(number << 3 | 2, to: &output)
        Varint.append(UInt64(value.count), to: &output)
        output.append(contentsOf: value)
    }

    /// The size of a field that `appendBytes` writes for a number up to 15.
    static func byteCount(ofBytes count: Int) -> Int { 1 + Varint.byteCount(UInt64(count)) + count }
}

extension ByteReader {
    /// The next field's number and wire type: 0 (varint), 2 (bytes) and 5 (four bytes) occur.
    @_lifetime(self: copy self)
    mutating func readFieldTag() throws(DecodingError) -> (number: UInt64, wireType: UInt64) {
        let tag = try readVarint()
        return (tag >> 3, tag & 7)
    }
}
