import MartletCore
import MartletIdentity
import MartletTestSupport
import TestVectors
import Testing

@testable @_spi(Fuzzing) import MartletConnection

@Suite struct NoiseHandshakeTests {
    private func read(_ handshake: NoiseHandshake, _ message: [UInt8]) throws(NoiseError) -> [UInt8] {
        try Bytes(message).withUnsafeBytes { buffer throws(NoiseError) in try handshake.readMessage(buffer) }
    }

    @Test func vectorsOfTheNoiseProject() throws {
        for fields in try vectors("noise-xx.tsv") {
            let prologue = try hex(fields[1])
            let dialer = NoiseHandshake(
                role: .dialer, staticKey: NoiseStaticKey(secret: try hex(fields[2])), prologue: prologue,
                ephemeral: try hex(fields[3]))
            let listener = NoiseHandshake(
                role: .listener, staticKey: NoiseStaticKey(secret: try hex(fields[4])), prologue: prologue,
                ephemeral: try hex(fields[5]))
            let messages = try fields[7...].map { try hex($0) }
            var ciphers: [(RecordCipher, RecordCipher)] = []
            for index in stride(from: 0, to: messages.count, by: 2) {
                let (payload, expected) = (messages[index], messages[index + 1])
                let number = index / 2
                if number < 3 {
                    let (writer, reader) = number % 2 == 0 ? (dialer, listener) : (listener, dialer)
                    #expect(writer.writesNext && !reader.writesNext)
                    let message = try writer.writeMessage(payload: payload)
                    #expect(message == expected, "\(fields[0]) message \(number)")
                    #expect(try read(reader, message) == payload)
                    if number == 2 {
                        if !fields[6].isEmpty { #expect(dialer.transcriptHash == (try hex(fields[6]))) }
                        #expect(dialer.transcriptHash == listener.transcriptHash)
                        #expect(dialer.remoteStatic == NoiseStaticKey(secret: try hex(fields[4])).publicKey)
                        #expect(listener.remoteStatic == NoiseStaticKey(secret: try hex(fields[2])).publicKey)
                        let (one, other) = (dialer.split(choice: .automatic), listener.split(choice: .automatic))
                        ciphers = [(one.sending, other.receiving), (other.sending, one.receiving)]
                    }
                } else {
                    // After the handshake the turns go on; the cipher of a direction counts for itself.
                    let (sending, receiving) = ciphers[number % 2]
                    var record = payload + [UInt8](repeating: 0, count: 16)
                    try record.withUnsafeMutableBytes { try sending.seal($0) }
                    #expect(record == expected, "\(fields[0]) message \(number)")
                    try record.withUnsafeMutableBytes { try receiving.open($0) }
                    #expect(Array(record.dropLast(16)) == payload)
                }
            }
        }
    }

    private func pair(seed: UInt64 = 1) -> (NoiseHandshake, NoiseHandshake) {
        var random = RandomSource(seed: seed)
        let one = NoiseStaticKey(random: &random)
        let other = NoiseStaticKey(random: &random)
        return (
            NoiseHandshake(role: .dialer, staticKey: one, random: &random),
            NoiseHandshake(role: .listener, staticKey: other, random: &random)
        )
    }

    @Test func ephemeralKeysComeFromTheSourceGiven() throws {
        let first = try pair(seed: 3).0.writeMessage(payload: [])
        #expect(try pair(seed: 3).0.writeMessage(payload: []) == first)
        #expect(try pair(seed: 4).0.writeMessage(payload: []) != first)
    }

    @Test func everyChangedByteOfAMessageIsRefused() throws {
        for changed in 0..<96 {
            let (dialer, listener) = pair()
            _ = try read(listener, try dialer.writeMessage(payload: []))
            var message = try listener.writeMessage(payload: [])
            #expect(message.count == 96)
            message[changed] ^= 0x40
            #expect(throws: NoiseError.self) { try read(dialer, message) }
        }
    }

    @Test func messageForAnotherHandshakeIsRefused() throws {
        let (dialer, listener) = pair(seed: 1)
        let (otherDialer, otherListener) = pair(seed: 2)
        _ = try read(listener, try dialer.writeMessage(payload: []))
        _ = try read(otherListener, try otherDialer.writeMessage(payload: []))
        let message = try otherListener.writeMessage(payload: [1])
        #expect(failure { () throws(NoiseError) in try read(dialer, message) } == .notAuthentic)
    }

    @Test func shortMessagesAreRefused() throws {
        for size in 0..<32 {
            let (_, listener) = pair()
            let message = [UInt8](repeating: 1, count: size)
            #expect(failure { () throws(NoiseError) in try read(listener, message) } == .messageTooShort(size))
        }
        for size in 0..<96 {
            let (dialer, listener) = pair()
            _ = try read(listener, try dialer.writeMessage(payload: []))
            let message = Array(try listener.writeMessage(payload: []).prefix(size))
            #expect(throws: NoiseError.self) { try read(dialer, message) }
        }
    }

    /// hostile-inputs 11: points with which everybody shares the same "secret".
    @Test(arguments: [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ])
    func keysOfSmallOrderAreRefused(_ text: String) throws {
        let (_, listener) = pair()
        _ = try read(listener, try hex(text))
        #expect(failure { () throws(NoiseError) in try listener.writeMessage(payload: []) } == .weakKey)
    }

    // MARK: Payload

    @Test func payloadSurvivesItsEncoding() throws {
        let payload = NoisePayload(identityKey: [1, 2], signature: [3], muxers: ["/yamux/1.0.0", "/x"])
        #expect(try NoisePayload(decoding: payload.encoded) == payload)
        // Key and signature, then extensions as field 4 with the muxers as its field 2.
        let bytes = NoisePayload(identityKey: [1, 2], signature: [3], muxers: ["/y"]).encoded
        #expect(bytes == [0x0A, 2, 1, 2, 0x12, 1, 3, 0x22, 4, 0x12, 2, 0x2F, 0x79])
    }

    @Test func payloadWithoutKeyOrSignatureIsRefused() {
        let inputs: [[UInt8]] = [[], [0x0A, 1, 1], [0x12, 1, 1], [0xFF], [0x0A, 0xFF, 0xFF, 0xFF, 0x7F]]
        for input in inputs { #expect(throws: NoiseError.self) { try NoisePayload(decoding: input) } }
    }

    @Test func payloadNamingTooManyMuxersIsRefused() {
        let muxers = (0...NoisePayload.muxerLimit).map { "/m\($0)" }
        let bytes = NoisePayload(identityKey: [1], signature: [1], muxers: muxers).encoded
        #expect(throws: NoiseError.self) { try NoisePayload(decoding: bytes) }
    }

    /// hostile-inputs 10 (CVE-2022-24759, CVE-2019-15545): the signature over the static key is what proves the peer.
    @Test func signatureOverAnotherKeyIsRefused() throws {
        let identity = KeyPair(seed: [UInt8](repeating: 1, count: 32))
        let staticKey = [UInt8](repeating: 9, count: 32)
        let prefix = Array("noise-libp2p-static-key:".utf8)
        func payload(signing message: [UInt8]) -> NoisePayload {
            NoisePayload(
                identityKey: identity.publicKey.protobuf, signature: identity.sign(message), muxers: [])
        }
        #expect(try payload(signing: prefix + staticKey).verify(staticKey: staticKey) == identity.publicKey)
        let forged = [
            payload(signing: staticKey), payload(signing: prefix), payload(signing: []),
            payload(signing: prefix + [UInt8](repeating: 8, count: 32)),
            NoisePayload(identityKey: identity.publicKey.protobuf, signature: [], muxers: []),
            NoisePayload(
                identityKey: identity.publicKey.protobuf, signature: [UInt8](repeating: 0, count: 64), muxers: []),
        ]
        for payload in forged {
            #expect(
                failure { () throws(NoiseError) in try payload.verify(staticKey: staticKey) } == .badSignature)
        }
    }
}
