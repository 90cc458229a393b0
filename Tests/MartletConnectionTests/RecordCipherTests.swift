import MartletCore
import TestVectors
import Testing

@testable import MartletConnection

@Suite struct RecordCipherTests {
    private let key = (0..<32).map { UInt8($0) }

    private func cipher(_ choice: RecordCipherChoice, counter: UInt64 = 0) -> RecordCipher {
        key.withUnsafeBytes { RecordCipher(key: $0, choice: choice, counter: counter) }
    }

    private func seal(_ plaintext: [UInt8], with cipher: RecordCipher, tail: Int = 0) throws -> [UInt8] {
        var record = plaintext + [UInt8](repeating: 0, count: 16)
        let end = Bytes(Array(plaintext.suffix(tail)))
        // What is given apart must not be read from the record.
        for index in plaintext.count - tail..<plaintext.count { record[index] = 0xEE }
        try record.withUnsafeMutableBytes { try cipher.seal($0, tail: end) }
        return record
    }

    private func open(_ record: [UInt8], with cipher: RecordCipher) throws(RecordError) -> [UInt8] {
        let region = ReceivedRegion(copying: record)
        try cipher.open(region.mutableBytes)
        return Array(region.slice(0..<record.count - 16).array)
    }

    /// Both libraries, in every mix of sizes around the thresholds, produce and accept the same bytes.
    @Test func librariesAreByteIdentical() throws {
        var random = RandomSource(seed: 5)
        let sodium = cipher(.libsodium)
        let automatic = cipher(.automatic)
        let sodiumOpens = cipher(.libsodium)
        let automaticOpens = cipher(.automatic)
        let sizes = [0, 1, 15, 16, 17, 63, 64, 65, 511, 512, 513, 2047, 2048, 2049, 4096, 16_396, 32_792, 65_519]
        for size in sizes + sizes.reversed() {
            let plaintext = random.bytes(size)
            let one = try seal(plaintext, with: sodium)
            let other = try seal(plaintext, with: automatic)
            #expect(one == other, "records of \(size) bytes differ")
            #expect(try open(one, with: automaticOpens) == plaintext)
            #expect(try open(other, with: sodiumOpens) == plaintext)
        }
        #expect(automatic.holdsContext && automaticOpens.holdsContext)
        #expect(!sodium.holdsContext && !sodiumOpens.holdsContext)
        #expect(sodium.counter == UInt64(2 * sizes.count))
    }

    @Test func payloadGivenApartIsSealedTheSame() throws {
        var random = RandomSource(seed: 6)
        for size in [16_384, 12_300, 2048, 100] {
            let plaintext = random.bytes(size + 12)
            for choice in [RecordCipherChoice.automatic, .libsodium] {
                let whole = try seal(plaintext, with: cipher(choice))
                let parts = try seal(plaintext, with: cipher(choice), tail: size)
                #expect(whole == parts)
            }
        }
    }

    @Test func contextIsReleasedAndMadeAnew() throws {
        let sealing = cipher(.automatic)
        let opening = cipher(.libsodium)
        for round in 0..<4 {
            let plaintext = [UInt8](repeating: UInt8(round), count: 5000)
            #expect(try open(try seal(plaintext, with: sealing), with: opening) == plaintext)
            sealing.releaseContext()
            #expect(!sealing.holdsContext)
            #expect(try open(try seal([1, 2], with: sealing), with: opening) == [1, 2])
        }
    }

    /// hostile-inputs 11 (RUSTSEC-2024-0011): a forged record must not move the nonce on.
    @Test(arguments: [10, 5000]) func failedDecryptionLeavesTheNonce(_ size: Int) throws {
        let sealing = cipher(.automatic)
        let opening = cipher(.automatic)
        let record = try seal([UInt8](repeating: 1, count: size), with: sealing)
        for index in [0, size / 2, size, size + 15] {
            var forged = record
            forged[index] ^= 1
            #expect(failure { () throws(RecordError) in try open(forged, with: opening) } == .notAuthentic)
            #expect(opening.counter == 0)
        }
        #expect(try open(record, with: opening).count == size)
        #expect(opening.counter == 1)
    }

    @Test func lastNonceIsRefused() throws {
        let sealing = cipher(.automatic, counter: .max - 1)
        let opening = cipher(.automatic, counter: .max - 1)
        #expect(try open(try seal([1], with: sealing), with: opening) == [1])
        #expect(throws: RecordError.nonceExhausted) { try seal([1], with: sealing) }
        #expect(throws: RecordError.nonceExhausted) { try open([UInt8](repeating: 0, count: 20), with: opening) }
    }

    @Test func nonceUsesAllItsBits() throws {
        let far = cipher(.libsodium, counter: 0x0102_0304_0506_0708)
        let sameInOpenSSL = cipher(.automatic, counter: 0x0102_0304_0506_0708)
        let near = cipher(.libsodium, counter: 0x0506_0708)
        let plaintext = [UInt8](repeating: 9, count: 4000)
        let record = try seal(plaintext, with: far)
        #expect(try seal(plaintext, with: sameInOpenSSL) == record)
        #expect(try seal(plaintext, with: near) != record)
    }

    @Test(arguments: 0..<16) func recordShorterThanItsTagIsRefused(_ size: Int) {
        let record = [UInt8](repeating: 0, count: size)
        #expect(failure { () throws(RecordError) in try open(record, with: cipher(.automatic)) } == .tooShort(size))
    }
}
