import MartletCore
import MartletRPC
import TestVectors
import Testing

private func refusal(_ bytes: [UInt8], _ change: (inout PickleLimits) -> Void = { _ in }) -> PickleError? {
    var limits = PickleLimits()
    change(&limits)
    return failure { () throws(PickleError) in try PickleValue(pickled: Bytes(bytes), limits: limits) }
}

private func name(_ error: PickleError?) -> String? {
    if case .limit(let name, _, _) = error { name } else { nil }
}

@Test func nestingBeyondTheLimitIsRefusedBothWays() throws {
    func nested(_ depth: Int) -> [UInt8] {
        [UInt8](repeating: 0x5D, count: depth) + [UInt8](repeating: 0x61, count: depth - 1) + [0x2E]
    }
    #expect(refusal(nested(100)) == nil)
    #expect(name(refusal(nested(101))) == "depth")
    #expect(name(refusal(nested(400_000))) == "depth")
    let value = (0..<100).reduce(PickleValue.list([])) { inner, _ in [inner] }
    let error = failure { () throws(PickleError) in try value.pickled() }
    #expect(name(error) == "depth")
}

@Test func nestingByWayOfTheMemoCountsAsNesting() {
    // Each list holds the one before, taken from the memo, so that no step goes deep.
    var bytes: [UInt8] = [0x5D, 0x94, 0x30]
    for index in 0..<120 {
        bytes += [0x5D, 0x68, UInt8(index), 0x61, 0x94, 0x30]
    }
    #expect(name(refusal(bytes + [0x68, 120, 0x2E])) == "depth")
    #expect(refusal(bytes + [0x68, 90, 0x2E]) == nil)
}

@Test func sharingCannotMakeAFewBytesComeToMillionsOfValues() {
    // ((((x, x), (x, x)), …: 2 to the power of 60.
    let bytes: [UInt8] = [0x4E] + (0..<60).flatMap { _ in [0x32, 0x86] as [UInt8] } + [0x2E]
    #expect(name(refusal(bytes)) == "valueCount")
    #expect(refusal([0x4E] + (0..<18).flatMap { _ in [0x32, 0x86] as [UInt8] } + [0x2E]) == nil)
}

@Test func sharingCannotMakeAFewBytesComeToGigabytes() {
    let text: [UInt8] = [0x58, 0, 4, 0, 0] + [UInt8](repeating: 0x78, count: 1024)
    let bytes = text + (0..<5).flatMap { _ in [0x32, 0x86] as [UInt8] } + [0x2E]
    #expect(name(refusal(bytes) { $0.expandedByteCount = 32 * 1024 - 1 }) == "expandedByteCount")
    #expect(refusal(bytes) { $0.expandedByteCount = 32 * 1024 } == nil)
}

@Test func moreValuesThanTheLimitAreRefused() {
    let values: [UInt8] = [0x28] + [UInt8](repeating: 0x4E, count: 10) + [0x6C, 0x2E]
    #expect(name(refusal(values) { $0.valueCount = 10 }) == "valueCount")
    #expect(refusal(values) { $0.valueCount = 11 } == nil)
    // References cost no value, but room.
    let references: [UInt8] = [0x4E] + [UInt8](repeating: 0x32, count: 20) + [0x2E]
    #expect(name(refusal(references) { $0.valueCount = 20 }) == "valueCount")
}

@Test func moreMemoEntriesThanTheLimitAreRefused() {
    let bytes: [UInt8] = [0x4E] + [UInt8](repeating: 0x94, count: 9) + [0x2E]
    #expect(name(refusal(bytes) { $0.memoCount = 8 }) == "memoCount")
    #expect(refusal(bytes) { $0.memoCount = 9 } == nil)
}

@Test func longIntegersAndPicklesBeyondTheirLimitAreRefused() {
    let announced: [UInt8] = [0x8B, 0xFF, 0xFF, 0xFF, 0xFF, 1, 0x2E]
    #expect(name(refusal(announced)) == "integerByteCount")
    let digits = [0x4C] + [UInt8](repeating: UInt8(ascii: "9"), count: 700) + [0x4C, 0x0A, 0x2E]
    #expect(name(refusal(digits)) == "integerByteCount")
    let line = [0x4C] + [UInt8](repeating: UInt8(ascii: "9"), count: 5000) + [0x4C, 0x0A, 0x2E]
    guard case .invalid = refusal(line) else {
        Issue.record("a line of 5,000 digits was taken")
        return
    }
    #expect(name(refusal([0x4E, 0x2E]) { $0.byteCount = 1 }) == "byteCount")
    let long = PickleValue.longInt(PickleInteger(littleEndian: [UInt8](repeating: 0x5A, count: 257)))
    #expect(name(failure { () throws(PickleError) in try long.pickled() }) == "integerByteCount")
    var limits = PickleLimits()
    limits.byteCount = 100
    let text = PickleValue.string(String(repeating: "x", count: 100))
    #expect(name(failure { () throws(PickleError) in try text.pickled(limits: limits) }) == "byteCount")
}

@Test func announcedLengthsThatAreNotThereAreRefused() {
    for bytes in [
        [0x8C, 200, 1], [0x58, 0xFF, 0xFF, 0xFF, 0xFF, 1], [0x42, 0xFF, 0xFF, 0xFF, 0x7F, 1],
        [0x8E, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 1], [0x8D] + [UInt8](repeating: 0xFF, count: 8),
    ] as [[UInt8]] {
        guard case .truncated = refusal(bytes + [0x2E]) else {
            Issue.record("\(bytes) was taken")
            continue
        }
    }
}

@Test func integersOfAnySizeKeepTheirValue() throws {
    for text in ["0", "-1", "127", "128", "-128", "-129", "255", "256", "18446744073709551615", "-9223372036854775809"]
    {
        #expect(try #require(PickleInteger(decimal: text)).description == text)
    }
    #expect(PickleInteger(littleEndian: [0xFF, 0xFF, 0xFF]).bytes == [0xFF])
    #expect(PickleInteger(littleEndian: [0x80, 0x00]).int == 128)
    #expect(PickleInteger(littleEndian: [0x80]).int == -128)
    #expect(PickleInteger(UInt64.max).uint64 == .max)
    #expect(PickleInteger(Int.min).int == .min)
    #expect(PickleInteger(-1).uint64 == nil)
    #expect(PickleInteger(decimal: "12 ") == nil)
    #expect(PickleInteger(decimal: "") == nil)
}
