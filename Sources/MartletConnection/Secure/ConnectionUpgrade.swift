import MartletCore
import MartletIdentity

/// The first part of a connection: multistream-select for `/noise`, then the handshake. Dropped when that is done.
///
/// The dialer proposes `/noise` alone and so sends the first handshake message with it: one round trip in all.
///
/// Specification: libp2p/specs `noise/README.md`, `connections/inlined-muxer-negotiation.md`.
final class ConnectionUpgrade {
    static let protocolID = "/noise"
    /// The longest handshake message accepted. An RSA key of 8192 bits with its signature takes 2.3 KiB.
    static let messageLimit = 8192

    /// What the upgrade came to.
    struct Result {
        var peerID: PeerID
        var publicKey: PublicKey
        var sending: RecordCipher
        var receiving: RecordCipher
        /// Whether Yamux was agreed on in the handshake; otherwise multistream-select decides, inside the channel.
        var hasMuxer: Bool
    }

    private let role: ConnectionRole
    private let identity: NoiseIdentity
    private let expectedPeer: PeerID?
    private let cipher: RecordCipherChoice
    private var negotiation: Negotiation?
    private let noise: NoiseHandshake
    private var remote: (peerID: PeerID, publicKey: PublicKey, hasMuxer: Bool)?

    /// What is to be sent.
    var output: [UInt8] = []

    init(
        role: ConnectionRole, identity: NoiseIdentity, expectedPeer: PeerID?, cipher: RecordCipherChoice,
        random: inout RandomSource
    ) {
        self.role = role
        self.identity = identity
        self.expectedPeer = expectedPeer
        self.cipher = cipher
        noise = NoiseHandshake(role: role, staticKey: identity.staticKey, random: &random)
        var negotiation = Negotiation(role: role, protocolID: Self.protocolID)
        output = negotiation.takeOutput()
        self.negotiation = negotiation
        // The first message holds but a fresh key, so writing it ahead gives nothing away; it cannot fail.
        if role == .dialer { try? writeMessage() }
    }

    var phase: ConnectionPhase { negotiation == nil ? .securing : .negotiatingSecurity }

    /// Takes bytes from `position` on; returns the result once the peer is proven. Bytes after that, and an unfinished
    /// message, are left where they are.
    func receive(_ bytes: UnsafeRawBufferPointer, at position: inout Int) throws(HandshakeError) -> Result? {
        if var machine = negotiation {
            negotiation = nil
            let progress = try machine.receive(UnsafeRawBufferPointer(rebasing: bytes[position...]))
            position += progress.consumed
            output += machine.takeOutput()
            guard progress.agreed != nil else {
                negotiation = machine
                return nil
            }
        }
        while let message = try nextMessage(bytes, at: &position) {
            let payload: [UInt8]
            do {
                payload = try noise.readMessage(message)
            } catch {
                throw .noise(error)
            }
            // The first message carries nothing that could be trusted; its payload is ignored.
            if role == .dialer || noise.isComplete { try identifyPeer(payload) }
            if noise.writesNext {
                do { try writeMessage() } catch { throw .noise(error) }
            }
            if noise.isComplete { return finish() }
        }
        return nil
    }

    private func nextMessage(
        _ bytes: UnsafeRawBufferPointer, at position: inout Int
    ) throws(HandshakeError) -> UnsafeRawBufferPointer? {
        guard bytes.count - position >= 2 else { return nil }
        let size = Int(bytes[position]) << 8 | Int(bytes[position + 1])
        guard size <= Self.messageLimit else { throw .noise(.messageTooLong(size, limit: Self.messageLimit)) }
        guard bytes.count - position >= 2 + size else { return nil }
        defer { position += 2 + size }
        return UnsafeRawBufferPointer(rebasing: bytes[position + 2..<position + 2 + size])
    }

    private func writeMessage() throws(NoiseError) {
        let isFirst = role == .dialer && remote == nil
        let message = try noise.writeMessage(payload: isFirst ? [] : identity.payload)
        output.append(UInt8(message.count >> 8))
        output.append(UInt8(message.count & 0xFF))
        output += message
    }

    /// Checks who the peer is, before anything is sent to it that a stranger must not see.
    private func identifyPeer(_ bytes: [UInt8]) throws(HandshakeError) {
        let payload: NoisePayload
        let publicKey: PublicKey
        do {
            payload = try NoisePayload(decoding: bytes)
            publicKey = try payload.verify(staticKey: noise.remoteStatic)
        } catch {
            throw .noise(error)
        }
        let peerID = publicKey.peerID
        if let expectedPeer, peerID != expectedPeer { throw .wrongPeer(expected: expectedPeer, actual: peerID) }
        let hasMuxer = payload.muxers.contains(YamuxSession.protocolID)
        guard hasMuxer || payload.muxers.isEmpty else { throw .noCommonMuxer(offered: payload.muxers) }
        remote = (peerID, publicKey, hasMuxer)
    }

    private func finish() -> Result {
        guard let remote else { preconditionFailure("a handshake ended without the peer's identity") }
        let (sending, receiving) = noise.split(choice: cipher)
        return Result(
            peerID: remote.peerID, publicKey: remote.publicKey, sending: sending, receiving: receiving,
            hasMuxer: remote.hasMuxer)
    }
}
