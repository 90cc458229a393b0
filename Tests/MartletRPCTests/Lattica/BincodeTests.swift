import MartletCore
import MartletRPC
import MartletTestSupport
import TestVectors
import Testing

// Lengths and integers as bincode 2's documentation has them (configuration "standard").
@Test(
    arguments: [
        (0, [0]), (250, [250]), (251, [251, 251, 0]), (0xFFFF, [251, 0xFF, 0xFF]), (0x1_0000, [252, 0, 0, 1, 0]),
        (0xFFFF_FFFF, [252, 0xFF, 0xFF, 0xFF, 0xFF]), (0x1_0000_0000, [253, 0, 0, 0, 0, 1, 0, 0, 0]),
        (UInt64.max, [253, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
    ] as [(UInt64, [UInt8])])
func integersTakeAsFewBytesAsBincodeSays(value: UInt64, bytes: [UInt8]) throws {
    var writer = BincodeWriter()
    writer.write(integer: value)
    #expect(writer.finish().array == bytes)
    try DecoderVerifier.verifyMessage(bytes, expecting: value) {
        var reader = BincodeReader(Bytes($0))
        return try reader.readInteger()
    }
}

@Test func aLongerFormThanNeededIsTaken() throws {
    var reader = BincodeReader([253, 7, 0, 0, 0, 0, 0, 0, 0])
    #expect(try reader.readInteger() == 7)
    #expect(reader.remaining == 0)
}

@Test(arguments: [254, 255] as [UInt8])
func integersOfMoreThan64BitsAreRefused(mark: UInt8) {
    var reader = BincodeReader(Bytes([mark] + [UInt8](repeating: 0, count: 16)))
    #expect(throws: DecodingError.self) { try reader.readInteger() }
}

/// The index of a key with the subkeys alice and bob, as a Lattica node stores it.
@Test func aListOfTextWithAnExpiryReadsAsLatticaWritesIt() throws {
    var writer = BincodeWriter()
    writer.write(integer: 2)
    writer.write(string: "alice")
    writer.write(string: "bob")
    writer.write(double: 1_700_000_000.5)
    let written = writer.finish()
    #expect(written.array.prefix(11) == [2, 5, 0x61, 0x6C, 0x69, 0x63, 0x65, 3, 0x62, 0x6F, 0x62])
    var reader = BincodeReader(written)
    #expect(try reader.readInteger() == 2)
    #expect(try reader.readString(limit: 5, field: "subkey") == "alice")
    #expect(try reader.readString(limit: 5, field: "subkey") == "bob")
    #expect(try reader.readDouble() == 1_700_000_000.5)
    #expect(reader.remaining == 0)
}

@Test func anAnnouncedLengthThatIsNotThereIsRefusedBeforeAnythingIsAllocated() {
    var reader = BincodeReader([253, 0, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3])
    let error = failure { () throws(DecodingError) in try reader.readBytes(limit: .max, field: "data") }
    #expect(error == .truncated(needed: 1 << 48, remaining: 3))
    var whole = BincodeReader([253, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF])
    let limited = failure { () throws(DecodingError) in try whole.readBytes(limit: 1000, field: "data") }
    #expect(limited == .tooLong(field: "data", length: .max, limit: 1000))
}

@Test func textThatIsNoUTF8AndFlagsThatAreNoneAreRefused() {
    var text = BincodeReader([2, 0xC3, 0x28])
    #expect(throws: DecodingError.self) { try text.readString(limit: 10, field: "text") }
    var flag = BincodeReader([2])
    #expect(throws: DecodingError.self) { try flag.readBool(field: "flag") }
    var option = BincodeReader([7])
    #expect(throws: DecodingError.self) { try option.readOption(field: "option") }
}

@Test func valuesThatLieAcrossPiecesAreRead() throws {
    var writer = BincodeWriter()
    writer.write(integer: 70_000)
    writer.write(string: "grüße")
    writer.write(bytes: RPCMessage(Lattica.pattern(10_000)))
    writer.write(isPresent: true)
    writer.write(bool: true)
    let bytes = writer.finish().contiguous()
    for size in [1, 2, 3, 7, 4096] {
        var pieces: [Bytes] = []
        var rest = bytes
        while !rest.isEmpty { pieces.append(rest.takeFirst(min(size, rest.count))) }
        var reader = BincodeReader(RPCMessage(pieces: pieces))
        #expect(try reader.readInteger() == 70_000)
        #expect(try reader.readString(limit: 7, field: "text") == "grüße")
        #expect(try reader.readBytes(limit: 10_000, field: "data") == RPCMessage(Lattica.pattern(10_000)))
        #expect(try reader.readOption(field: "option"))
        #expect(try reader.readBool(field: "flag"))
        #expect(reader.remaining == 0)
    }
}

@Test func largePayloadsAreWrittenByReference() {
    let payload = Lattica.pattern(100_000)
    var writer = BincodeWriter()
    writer.write(string: "id")
    writer.write(bytes: RPCMessage(payload))
    writer.write(bool: false)
    let message = writer.finish()
    #expect(message.pieces.count == 3)
    let isSame = message.pieces[1].withUnsafeBytes { written in
        payload.withUnsafeBytes { written.baseAddress == $0.baseAddress }
    }
    #expect(isSame)
}
