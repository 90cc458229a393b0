import TestVectors
import Testing

@testable import MartletCore

private func base(named name: String) throws -> Multibase {
    try #require(Multibase.allCases.first { "\($0)" == name }, "no encoding \(name)")
}

@Test func multibaseFollowsTheSpecification() throws {
    for row in try vectors("multibase.tsv") {
        let (file, text, value) = (row[0], row[2], try hex(row[3]))
        let base = try base(named: row[1])
        let decoded = try Multibase.decode(text)
        #expect(decoded.base == base)
        #expect(decoded.bytes == value, "\(text)")
        if file != "case_insensitivity" { #expect(base.encode(value) == text) }
    }
}

@Test(arguments: Multibase.allCases)
func everyEncodingRoundTripsBytesOfEveryLength(base: Multibase) throws {
    var random = RandomSource(seed: 5)
    for count in 0..<100 {
        // Zeros at either end are what the number-like encodings lose first.
        let bytes =
            [UInt8](repeating: 0, count: count % 4) + random.bytes(count) + [UInt8](repeating: 0, count: count % 3)
        let text = base.encode(bytes)
        #expect(text.unicodeScalars.first == base.prefix)
        #expect(try Multibase.decode(text).bytes == bytes)
        #expect(base.encodeWithoutPrefix(bytes) == String(text.dropFirst()))
        #expect(try base.decodeWithoutPrefix(text.dropFirst()) == bytes)
    }
}

@Test(arguments: [
    ("", "empty text"), ("!abc", "names no encoding"), ("7362", "names no encoding"),
    ("f0", "a character too many"), ("f0g", "not one of its characters"), ("bA1", "not one of its characters"),
    ("bab", "bits left over"), ("baaa", "a character too many"), ("z0", "not one of its characters"),
    ("zé", "byte 0x"), ("k_", "not one of its characters"), ("mAB", "bits left over"), ("mA", "a character too many"),
    ("mAA==", "not one of its characters"), ("MAA", "padding"), ("MAA=", "padding"), ("MA===", "too much padding"),
    ("M====", "too much padding"), ("MAAAA====", "too much padding"), ("mA-__", "not one of its characters"),
    ("uA+//", "not one of its characters"), ("f00 ", "byte 0x20"), ("f0\u{0}", "byte 0x0"),
])
func multibaseIsStrict(text: String, reason: String) {
    let error = failure { () throws(DecodingError) in try Multibase.decode(text).bytes }
    #expect(error?.description.contains(reason) == true, "\(text): \(String(describing: error))")
}

@Test func longTextIsRefusedBeforeItIsDecoded() {
    let million = String(repeating: "2", count: 1_000_000)
    #expect(throws: DecodingError.tooLong(field: "base58", length: 1_000_000, limit: 1024)) {
        try Base58.decode(million)
    }
    #expect(throws: DecodingError.tooLong(field: "base58", length: 2000, limit: 1024)) {
        try Multibase.decode("z" + million.prefix(2000)).bytes
    }
    #expect(throws: DecodingError.tooLong(field: "base36", length: 2000, limit: 1024)) {
        try Multibase.decode("k" + million.prefix(2000)).bytes
    }
    #expect(throws: DecodingError.tooLong(field: "multibase text", length: 1_000_001, limit: 65536)) {
        try Multibase.decode("f" + million).bytes
    }
    #expect(throws: DecodingError.tooLong(field: "multibase text", length: 9, limit: 8)) {
        try Multibase.base16.decodeWithoutPrefix("000000000", limit: 8)
    }
}

// From the Base58 draft of the Bitcoin community (draft-msporny-base58-03, section 5).
@Test(arguments: [
    ("Hello World!", "2NEpo7TZRRrLZSi2U"),
    ("The quick brown fox jumps over the lazy dog.", "USm3fpXnKG5EUBx2ndxBDMPVciP5hGey2Jh4NDv6gmeo1LkMeiKrLJUUBk6Z"),
])
func base58FollowsItsDraft(plain: String, text: String) throws {
    #expect(Base58.encode(Array(plain.utf8)) == text)
    #expect(try Base58.decode(text) == Array(plain.utf8))
}

@Test func base58KeepsLeadingZeros() throws {
    #expect(Base58.encode([0, 0, 0x28, 0x7F, 0xB4, 0xCD]) == "11233QC4")
    #expect(try Base58.decode("11233QC4") == [0, 0, 0x28, 0x7F, 0xB4, 0xCD])
    #expect(try Base58.decode("") == [])
    #expect(try Base58.decode("111") == [0, 0, 0])
}
