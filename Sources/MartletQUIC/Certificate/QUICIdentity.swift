import CNgtcp2
public import MartletCore
public import MartletIdentity

/// The certificate with which a node proves who it is over QUIC, made once and used by all its connections.
///
/// The key of the certificate is a fresh one of P-256 from GnuTLS, which takes its randomness from the system; the node's own
/// key signs it. Specification: libp2p/specs `tls/tls.md`.
public final class QUICIdentity: Sendable {
    /// How long the certificate is valid. Long, as its key is never written anywhere and dies with the process.
    private static let lifetime: Int64 = 10 * 365 * 86_400
    /// How far other clocks may be behind.
    private static let backdating: Int64 = 86_400

    public let peerID: PeerID
    // Filled by init, then only read, by GnuTLS too.
    nonisolated(unsafe) let credentials: OpaquePointer
    /// Makes the tokens of stateless resets. It depends on the node's key alone, so that after a restart peers learn at once
    /// that their old connections are gone.
    let resetSecret: [UInt8]

    /// - Parameter isCritical: whether the extension is marked critical. Rust nodes do so, Go nodes do not; both are right.
    public init(identity: KeyPair, wallTime: WallTime, random: inout RandomSource, isCritical: Bool = false) {
        peerID = identity.peerID
        resetSecret = SHA256.hash(identity.sign(Array("martlet-quic-stateless-reset:".utf8))).bytes
        guard let key = mq_key_create() else { preconditionFailure("GnuTLS makes no P-256 key") }
        defer { mq_key_free(key) }
        var info = [UInt8](repeating: 0, count: 256)
        let count = mq_key_public(key, &info, info.count)
        precondition(count > 0, "GnuTLS does not tell the key")
        let signature = identity.sign(PeerCertificate.signedPrefix + info.prefix(count))
        let octets = DERReader.Tag.octetString
        let pair = DERWriter.element(
            DERReader.Tag.sequence,
            DERWriter.element(octets, identity.publicKey.protobuf) + DERWriter.element(octets, signature))
        var serial = random.bytes(8)
        // A positive number whose encoding has eight bytes.
        serial[0] = serial[0] & 0x3F | 0x40
        let now = wallTime.nanosecondsSince1970 / 1_000_000_000
        guard
            let made = mq_credentials_create(
                key, pair, pair.count, isCritical ? 1 : 0, serial, now - Self.backdating, now + Self.lifetime)
        else { preconditionFailure("GnuTLS signs no certificate") }
        credentials = made
    }

    deinit { mq_credentials_free(credentials) }

    /// The certificate as it is sent.
    public var certificate: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: PeerCertificate.maximumByteCount)
        let count = mq_credentials_certificate(credentials, &bytes, bytes.count)
        return Array(bytes.prefix(count))
    }
}
