import MartletCore
import Testing

// The examples of multiformats/unsigned-varint b43ec10, README.md, and the ends of the range.
private let examples: [(UInt64, [UInt8])] = [
    (0, [0x00]), (1, [0x01]), (127, [0x7F]), (128, [0x80, 0x01]), (255, [0xFF, 0x01]), (300, [0xAC, 0x02]),
    (16384, [0x80, 0x80, 0x01]), (UInt64(Int64.max), [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]),
]

@Test(arguments: examples)
func varintFollowsTheSpecification(value: UInt64, bytes: [UInt8]) throws {
    #expect(Varint.encode(value) == bytes)
    #expect(Varint.byteCount(value) == bytes.count)
    #expect(try Varint.decode(bytes.span.bytes) == .value(value, byteCount: bytes.count))

    var buffer = [UInt8](repeating: 0xEE, count: bytes.count + 1)
    let written = buffer.withUnsafeMutableBytes { Varint.write(value, to: $0) }
    #expect(Array(buffer[..<written]) == bytes)
    #expect(buffer.last == 0xEE)
}

@Test(arguments: examples)
func varintFedByteByByteIsIncompleteUntilItsLastByte(value: UInt64, bytes: [UInt8]) throws {
    for count in 0..<bytes.count {
        #expect(try Varint.decode(Array(bytes[..<count]).span.bytes) == .incomplete)
    }
    // What follows does not belong to it.
    #expect(try Varint.decode((bytes + [0xFF]).span.bytes) == .value(value, byteCount: bytes.count))
}

@Test(arguments: [
    [0x80, 0x00], [0x81, 0x00], [0xFF, 0x80, 0x00], [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
])
func varintWithNeedlessZerosIsRefused(bytes: [UInt8]) {
    #expect(throws: DecodingError.varintNotMinimal) { try Varint.decode(bytes.span.bytes) }
}

@Test func varintLongerThanNineBytesIsRefusedAtTheNinth() throws {
    let endless = [UInt8](repeating: 0xFF, count: 20)
    for count in 0..<9 { #expect(try Varint.decode(Array(endless[..<count]).span.bytes) == .incomplete) }
    for count in 9..<20 {
        #expect(throws: DecodingError.varintTooLong) { try Varint.decode(Array(endless[..<count]).span.bytes) }
    }
    // 2^63 takes ten bytes.
    let tooLarge = [UInt8](repeating: 0x80, count: 9) + [0x01]
    #expect(throws: DecodingError.varintTooLong) { try Varint.decode(tooLarge.span.bytes) }
}

@Test func varintsOfEverySizeRoundTrip() throws {
    var random = RandomSource(seed: 1)
    for bits in 1...63 {
        for _ in 0..<20 {
            let value = random.next() >> UInt64(64 - bits)
            let bytes = Varint.encode(value)
            #expect(bytes.count == Varint.byteCount(value))
            #expect(try Varint.decode(bytes.span.bytes) == .value(value, byteCount: bytes.count))
        }
    }
}
