import MartletCore
import Testing

private let message: [UInt8] = [0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07]

@Test func readerReadsIntegersBytesAndWhatIsLeft() throws {
    var reader = ByteReader(message.span.bytes)
    #expect(try reader.readByte() == 1)
    #expect(try reader.readBigEndian(UInt16.self) == 0x0203)
    #expect(reader.position == 3)
    #expect(reader.remaining == 4)
    #expect(try reader.readBytes(2) == [4, 5])
    #expect(reader.remaining > 0)
    #expect(reader.readRemaining() == [6, 7])
    #expect(reader.remaining == 0)
    #expect(reader.readRemaining() == [])
}

@Test func readerStaysWhereItIsWhenTheMessageEnds() throws {
    var reader = ByteReader(message.span.bytes)
    try reader.skip(5)
    let expected = DecodingError.truncated(needed: 4, remaining: 2)
    #expect(throws: expected) { try reader.readBigEndian(UInt32.self) }
    #expect(throws: expected) { try reader.readBytes(4) }
    #expect(throws: expected) { try reader.skip(4) }
    #expect(throws: expected) { try reader.readSpan(4).byteCount }
    #expect(throws: DecodingError.self) { try reader.readBytes(-1) }
    #expect(throws: DecodingError.self) { try reader.readBytes(.max) }
    #expect(reader.position == 5)
    #expect(try reader.readBigEndian(UInt16.self) == 0x0607)
}

@Test func readerGoesBack() throws {
    var reader = ByteReader(message.span.bytes)
    try reader.skip(4)
    reader.rewind(to: 1)
    #expect(try reader.readByte() == 2)
}

@Test func readerGivesViewsThatOutliveItsNextSteps() throws {
    var reader = ByteReader(message.span.bytes)
    let head = try reader.readSpan(3)
    let tail = try reader.readSpan(4)
    #expect(head.withUnsafeBytes { Array($0) } == [1, 2, 3])
    #expect(tail.withUnsafeBytes { Array($0) } == [4, 5, 6, 7])
}

@Test func lengthPrefixedBytesAreBoundedBeforeTheyAreRead() throws {
    let claim = Varint.encode(UInt64(Int64.max))
    var reader = ByteReader(claim.span.bytes)
    #expect(throws: DecodingError.tooLong(field: "name", length: UInt64(Int64.max), limit: 10)) {
        try reader.readLengthPrefixed(limit: 10, field: "name")
    }
    #expect(reader.position == 0)
}

@Test func lengthPrefixedBytesCutShortLeaveTheReaderBeforeTheLength() throws {
    let whole: [UInt8] = [3, 7, 8, 9]
    for count in 0..<whole.count {
        let part = Array(whole[..<count])
        var reader = ByteReader(part.span.bytes)
        #expect(throws: DecodingError.self) { try reader.readLengthPrefixed(limit: 10, field: "name") }
        #expect(reader.position == 0)
    }
    var reader = ByteReader(whole.span.bytes)
    #expect(try reader.readLengthPrefixed(limit: 3, field: "name") == [7, 8, 9])
}
