import MartletCore
import MartletIdentity
import MartletTestSupport
import Testing

@testable @_spi(Fuzzing) import MartletConnection

/// The other end, played by hand: honest unless told otherwise.
private final class RawPeer {
    let identity = KeyPair(seed: [UInt8](repeating: 42, count: 32))
    let staticKey: NoiseStaticKey
    let handshake: NoiseHandshake
    var payload: NoisePayload
    var ciphers: (sending: RecordCipher, receiving: RecordCipher)?
    private var received: [UInt8] = []

    init(_ role: ConnectionRole, muxers: [String] = []) {
        var random = RandomSource(seed: 99)
        staticKey = NoiseStaticKey(random: &random)
        handshake = NoiseHandshake(role: role, staticKey: staticKey, random: &random)
        payload = NoisePayload(
            identityKey: identity.publicKey.protobuf,
            signature: identity.sign(NoisePayload.signaturePrefix + staticKey.publicKey), muxers: muxers)
    }

    static let header: [UInt8] = [0x13] + Array("/multistream/1.0.0\n".utf8)
    static let noise: [UInt8] = [7] + Array("/noise\n".utf8)

    func message() throws -> [UInt8] {
        let message = try handshake.writeMessage(payload: payload.encoded)
        return [UInt8(message.count >> 8), UInt8(message.count & 0xFF)] + message
    }

    func firstMessage() throws -> [UInt8] {
        let message = try handshake.writeMessage(payload: [])
        return [0, 32] + message
    }

    /// Reads one handshake message from the front of `bytes`.
    func read(_ bytes: inout [UInt8]) throws -> [UInt8] {
        let size = Int(bytes[0]) << 8 | Int(bytes[1])
        let message = Array(bytes[2..<2 + size])
        bytes.removeFirst(2 + size)
        return try message.withUnsafeBytes { try handshake.readMessage($0) }
    }

    func split() { ciphers = handshake.split(choice: .automatic) }

    func seal(_ plaintext: [UInt8]) throws -> [UInt8] {
        var record = plaintext + [UInt8](repeating: 0, count: 16)
        try record.withUnsafeMutableBytes { try ciphers!.sending.seal($0) }
        return [UInt8(record.count >> 8), UInt8(record.count & 0xFF)] + record
    }

    /// The plaintext of all records in `bytes`.
    func open(_ bytes: [UInt8]) throws -> [UInt8] {
        received += bytes
        var plaintext: [UInt8] = []
        while received.count >= 2, received.count >= 2 + (Int(received[0]) << 8 | Int(received[1])) {
            let size = Int(received[0]) << 8 | Int(received[1])
            var record = Array(received[2..<2 + size])
            received.removeFirst(2 + size)
            try record.withUnsafeMutableBytes { try ciphers!.receiving.open($0) }
            plaintext += record.dropLast(16)
        }
        return plaintext
    }

    /// The handshake with a listener, up to and including the third message.
    func dial(_ connection: SecureConnection) throws {
        give(Self.header + Self.noise + (try firstMessage()), to: connection)
        var answer = transmitted(by: connection)
        #expect(answer.starts(with: Self.header + Self.noise))
        answer.removeFirst(Self.header.count + Self.noise.count)
        _ = try read(&answer)
        #expect(answer.isEmpty)
        give(try message(), to: connection)
        split()
    }

    /// The handshake with a dialer.
    func answer(_ connection: SecureConnection) throws {
        var bytes = transmitted(by: connection)
        #expect(bytes.starts(with: Self.header + Self.noise))
        bytes.removeFirst(Self.header.count + Self.noise.count)
        _ = try read(&bytes)
        give(Self.header + Self.noise + (try message()), to: connection)
        bytes = transmitted(by: connection)
        guard !bytes.isEmpty else { return }
        _ = try read(&bytes)
        split()
        received = bytes
    }
}

@Suite struct UpgradeTests {
    private static let yamuxLine: [UInt8] = [13] + Array("/yamux/1.0.0\n".utf8)

    private func connection(
        _ role: ConnectionRole, expecting peer: PeerID? = nil,
        configure: (inout ConnectionConfiguration) -> Void = { _ in }
    ) -> SecureConnection {
        var configuration = ConnectionConfiguration()
        configure(&configuration)
        return SecureConnection(
            role: role, identity: TestIdentities.shared.first, expectedPeer: peer, configuration: configuration,
            budget: nil, random: RandomSource(seed: 1), now: testStart)
    }

    // MARK: The ways to agree on the muxer

    @Test func listenerAgreesOnTheMuxerInsideTheChannelWhenThePeerOffersNone() throws {
        let listener = connection(.listener)
        let peer = RawPeer(.dialer)
        try peer.dial(listener)
        #expect(listener.phase == .negotiatingMuxer)
        #expect(events(of: listener).isEmpty)
        // The negotiation and the first frames in one record.
        let frames: [UInt8] = [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 5, 6]
        give(try peer.seal(RawPeer.header + Self.yamuxLine + frames), to: listener)
        #expect(listener.phase == .established)
        let seen = events(of: listener)
        #expect(seen.count == 3)
        guard case .established(let remote) = seen[0] else { Issue.record("\(seen)"); return }
        #expect(!remote.earlyMuxer && remote.peerID == peer.identity.peerID)
        guard case .data(StreamID(rawValue: 1), let bytes) = seen[2] else { Issue.record("\(seen)"); return }
        #expect(bytes.array == [5, 6])
        #expect(try peer.open(transmitted(by: listener)).starts(with: RawPeer.header + Self.yamuxLine))
    }

    @Test func dialerAgreesOnTheMuxerInsideTheChannelWhenThePeerOffersNone() throws {
        let dialer = connection(.dialer)
        let peer = RawPeer(.listener)
        try peer.answer(dialer)
        #expect(dialer.phase == .negotiatingMuxer)
        #expect(throws: StreamOpenError.notEstablished) { try dialer.openStream(now: testStart) }
        #expect(try peer.open([]) == RawPeer.header + Self.yamuxLine)
        for byte in RawPeer.header + Self.yamuxLine { give(try peer.seal([byte]), to: dialer) }
        guard case .established(let remote)? = events(of: dialer).first else { Issue.record("not established"); return }
        #expect(!remote.earlyMuxer)
        #expect(dialer.phase == .established)
    }

    @Test(arguments: [ConnectionRole.dialer, .listener])
    func muxerAmongOthersIsTaken(_ role: ConnectionRole) throws {
        let machine = connection(role)
        let peer = RawPeer(role == .dialer ? .listener : .dialer, muxers: ["/mplex/6.7.0", "/yamux/1.0.0"])
        try role == .dialer ? peer.answer(machine) : peer.dial(machine)
        guard case .established(let remote)? = events(of: machine).first else {
            Issue.record("not established"); return
        }
        #expect(remote.earlyMuxer && remote.muxer == "/yamux/1.0.0")
    }

    @Test(arguments: [ConnectionRole.dialer, .listener])
    func noCommonMuxerFails(_ role: ConnectionRole) throws {
        let machine = connection(role)
        let peer = RawPeer(role == .dialer ? .listener : .dialer, muxers: ["/mplex/6.7.0"])
        try role == .dialer ? peer.answer(machine) : peer.dial(machine)
        #expect(closeReason(of: machine) == .handshakeFailed(.noCommonMuxer(offered: ["/mplex/6.7.0"])))
    }

    @Test func refusedMuxerFails() throws {
        let dialer = connection(.dialer)
        let peer = RawPeer(.listener)
        try peer.answer(dialer)
        give(try peer.seal(RawPeer.header + [3] + Array("na\n".utf8)), to: dialer)
        #expect(closeReason(of: dialer) == .handshakeFailed(.negotiation(.refused(proposed: ["/yamux/1.0.0"]))))
    }

    @Test func dataRightBehindTheHandshakeIsNotLost() throws {
        let listener = connection(.listener)
        let peer = RawPeer(.dialer, muxers: ["/yamux/1.0.0"])
        give(RawPeer.header + RawPeer.noise + (try peer.firstMessage()), to: listener)
        var answer = transmitted(by: listener)
        answer.removeFirst(RawPeer.header.count + RawPeer.noise.count)
        _ = try peer.read(&answer)
        let last = try peer.message()
        peer.split()
        give(last + (try peer.seal([0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 1, 77])), to: listener)
        let seen = events(of: listener)
        #expect(seen.count == 4)
        guard case .data(_, let bytes) = seen[2], case .remoteFinished = seen[3] else {
            Issue.record("\(seen)"); return
        }
        #expect(bytes.array == [77])
    }

    // MARK: Peers that are not what they should be

    @Test(arguments: [ConnectionRole.dialer, .listener])
    func forgedSignatureIsRefused(_ role: ConnectionRole) throws {
        let machine = connection(role)
        let peer = RawPeer(role == .dialer ? .listener : .dialer, muxers: ["/yamux/1.0.0"])
        peer.payload.signature[10] ^= 1
        try role == .dialer ? peer.answer(machine) : peer.dial(machine)
        #expect(closeReason(of: machine) == .handshakeFailed(.noise(.badSignature)))
        #expect(machine.remote == nil)
        #expect(!machine.hasPendingTransmit)
    }

    /// hostile-inputs 10: a peer that shows another's key, with which it cannot sign.
    @Test func borrowedIdentityIsRefused() throws {
        let victim = TestIdentities.shared.second
        let dialer = connection(.dialer, expecting: victim.identity.peerID)
        let peer = RawPeer(.listener, muxers: ["/yamux/1.0.0"])
        peer.payload.identityKey = victim.identity.publicKey.protobuf
        try peer.answer(dialer)
        #expect(closeReason(of: dialer) == .handshakeFailed(.noise(.badSignature)))
        // The same with the victim's own payload, which belongs to another static key.
        let second = connection(.dialer, expecting: victim.identity.peerID)
        let replaying = RawPeer(.listener)
        replaying.payload = try NoisePayload(decoding: victim.payload)
        try replaying.answer(second)
        #expect(closeReason(of: second) == .handshakeFailed(.noise(.badSignature)))
    }

    @Test(arguments: [ConnectionRole.dialer, .listener])
    func otherPeerThanExpectedIsRefusedBeforeAnythingElse(_ role: ConnectionRole) throws {
        let expected = TestIdentities.shared.third.identity.peerID
        let machine = connection(role, expecting: expected)
        let peer = RawPeer(role == .dialer ? .listener : .dialer, muxers: ["/yamux/1.0.0"])
        try role == .dialer ? peer.answer(machine) : peer.dial(machine)
        let actual = peer.identity.peerID
        #expect(closeReason(of: machine) == .handshakeFailed(.wrongPeer(expected: expected, actual: actual)))
        #expect(!machine.hasPendingTransmit)
    }

    /// hostile-inputs 7 (CVE-2023-39533) and 8: keys that are too large, and none at all.
    @Test(arguments: [ConnectionRole.dialer, .listener])
    func unusableIdentityKeysAreRefused(_ role: ConnectionRole) throws {
        // An RSA key message of 7 KB, an empty one, garbage, an Ed25519 key of 31 bytes.
        let keys: [[UInt8]] = [
            [0x08, 0x00, 0x12, 0xD8, 0x36] + [UInt8](repeating: 0x30, count: 7000), [], [1, 2, 3],
            [0x08, 0x01, 0x12, 31] + [UInt8](repeating: 5, count: 31),
        ]
        for key in keys {
            let machine = connection(role)
            let peer = RawPeer(role == .dialer ? .listener : .dialer)
            peer.payload.identityKey = key
            try role == .dialer ? peer.answer(machine) : peer.dial(machine)
            guard case .handshakeFailed(.noise(.badIdentityKey))? = closeReason(of: machine) else {
                Issue.record("a key of \(key.count) bytes was not refused")
                continue
            }
        }
    }

    // MARK: Garbage

    @Test(arguments: ["GET / HTTP/1.1\r\n", "\u{16}\u{3}\u{1}\u{2}", "\u{0}"])
    func garbageIsRefusedAtOnceAndUnanswered(_ text: String) {
        let listener = connection(.listener)
        give(Array(text.utf8), to: listener)
        #expect(closeReason(of: listener) == .handshakeFailed(.negotiation(.notMultistream)))
        #expect(!listener.hasPendingTransmit)
        #expect(transmitted(by: listener).isEmpty)
    }

    @Test func oversizedHandshakeMessageIsRefusedByItsLength() {
        let listener = connection(.listener)
        give(RawPeer.header + RawPeer.noise + [0xFF, 0xFF], to: listener)
        #expect(
            closeReason(of: listener)
                == .handshakeFailed(.noise(.messageTooLong(65_535, limit: ConnectionUpgrade.messageLimit))))
    }

    @Test func tooShortHandshakeMessageIsRefused() {
        let listener = connection(.listener)
        give(RawPeer.header + RawPeer.noise + [0, 3, 1, 2, 3], to: listener)
        #expect(closeReason(of: listener) == .handshakeFailed(.noise(.messageTooShort(3))))
    }

    @Test func leftoverOfAHandshakeIsBounded() {
        let listener = connection(.listener)
        give(RawPeer.header + RawPeer.noise + [0x1F, 0xFF], to: listener)
        for _ in 0..<100 { give([UInt8](repeating: 1, count: 100), to: listener) }
        #expect(listener.leftover.count <= ConnectionUpgrade.messageLimit + 2)
        #expect(closeReason(of: listener) != nil)
    }

    @Test func handshakeTimesOutInThePhaseItHangs() {
        let listener = connection(.listener)
        #expect(listener.deadline == testStart + .seconds(10))
        listener.handleTimeout(now: testStart + .seconds(9))
        #expect(events(of: listener).isEmpty)
        give(RawPeer.header + RawPeer.noise, to: listener, now: testStart + .seconds(9))
        listener.handleTimeout(now: testStart + .seconds(10))
        #expect(closeReason(of: listener) == .handshakeTimedOut(.securing, after: .seconds(10)))
        #expect(listener.deadline == nil)
    }

    @Test func endOfFileDuringTheHandshakeNamesThePhase() {
        let dialer = connection(.dialer)
        dialer.transportClosed(.endOfFile, now: testStart)
        #expect(closeReason(of: dialer) == .closedByPeer(.negotiatingSecurity))
        #expect(!dialer.hasPendingTransmit)
    }

    @Test func closingDuringTheHandshakeEndsAtOnce() {
        let dialer = connection(.dialer)
        dialer.close(now: testStart)
        #expect(closeReason(of: dialer) == .closedLocally)
    }

    // MARK: Records

    private func established(_ peer: RawPeer) throws -> SecureConnection {
        let listener = connection(.listener)
        try peer.dial(listener)
        _ = events(of: listener)
        return listener
    }

    /// hostile-inputs 11: one forged record ends the connection; nothing of it is delivered.
    @Test func forgedRecordEndsTheConnection() throws {
        let peer = RawPeer(.dialer, muxers: ["/yamux/1.0.0"])
        let listener = try established(peer)
        var record = try peer.seal([0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 77])
        record[8] ^= 1
        give(record + (try peer.seal([0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 1, 77])), to: listener)
        let seen = events(of: listener)
        #expect(seen.count == 1)
        guard case .closed(.recordFailed(.notAuthentic))? = seen.first else { Issue.record("\(seen)"); return }
        #expect(listener.leftover.isEmpty)
    }

    @Test func replayedRecordEndsTheConnection() throws {
        let peer = RawPeer(.dialer, muxers: ["/yamux/1.0.0"])
        let listener = try established(peer)
        let record = try peer.seal([0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 77])
        give(record, to: listener)
        #expect(events(of: listener).count == 2)
        give(record, to: listener)
        #expect(closeReason(of: listener) == .recordFailed(.notAuthentic))
    }

    @Test func recordShorterThanItsTagEndsTheConnectionByItsLength() throws {
        let peer = RawPeer(.dialer, muxers: ["/yamux/1.0.0"])
        let listener = try established(peer)
        give([0, 15], to: listener)
        #expect(closeReason(of: listener) == .recordFailed(.tooShort(15)))
    }

    @Test func emptyRecordIsHarmless() throws {
        let peer = RawPeer(.dialer, muxers: ["/yamux/1.0.0"])
        let listener = try established(peer)
        give(try peer.seal([]), to: listener)
        #expect(events(of: listener).isEmpty)
        #expect(listener.phase == .established)
    }

    @Test func violationIsToldToThePeer() throws {
        let peer = RawPeer(.dialer, muxers: ["/yamux/1.0.0"])
        let listener = try established(peer)
        _ = try peer.open(transmitted(by: listener))
        give(try peer.seal([9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), to: listener)
        #expect(closeReason(of: listener) == .muxerViolation(.unknownVersion(9)))
        #expect(listener.hasPendingTransmit)
        #expect(try peer.open(transmitted(by: listener)) == [0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
        #expect(!listener.hasPendingTransmit)
    }

    @Test func largestRecordIsRead() throws {
        let peer = RawPeer(.dialer, muxers: ["/yamux/1.0.0"])
        let listener = try established(peer)
        let payload = [UInt8](repeating: 3, count: 65_519 - 12)
        let header: [UInt8] = [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0xFF, 0xE3]
        give(try peer.seal(header + payload), to: listener)
        let seen = events(of: listener)
        guard seen.count == 2, case .data(_, let bytes) = seen[1] else { Issue.record("\(seen)"); return }
        #expect(bytes.array == payload)
    }
}
