import CNgtcp2
public import MartletCore
public import MartletIdentity

/// The certificate of a peer, taken apart and checked: it proves that the holder of the TLS key also holds a peer's key.
///
///     let certificate = try PeerCertificate(der: bytes, now: wallTime)
///     certificate.publicKey    // whose PeerID is the peer
///
/// Specification: libp2p/specs `tls/tls.md`.
public struct PeerCertificate: Hashable, Sendable {
    /// A certificate with an RSA peer key of 8192 bits and its signature fits.
    public static let maximumByteCount = 6144
    static let signedPrefix = Array("libp2p-tls-handshake:".utf8)
    /// 1.3.6.1.4.1.53594.1.1
    static let extensionID: [UInt8] = [0x2B, 0x06, 0x01, 0x04, 0x01, 0x83, 0xA2, 0x5A, 0x01, 0x01]
    /// A larger key than RSA of 8192 bits only burns time.
    private static let maximumKeyByteCount = 1200
    /// Key usage, subject alternative name, basic constraints, extended key usage: they cannot change what is proven here.
    private static let harmlessExtensions: [[UInt8]] = [
        [0x55, 0x1D, 0x0F], [0x55, 0x1D, 0x11], [0x55, 0x1D, 0x13], [0x55, 0x1D, 0x25],
    ]

    /// The peer's own key, not the certificate's.
    public let publicKey: PublicKey
    public var peerID: PeerID { PeerID(publicKey: publicKey) }

    /// Reads and checks a certificate; `now` must lie within its time.
    public init(der: [UInt8], now: WallTime) throws(CertificateError) {
        guard der.count <= Self.maximumByteCount else {
            throw .tooLong(byteCount: der.count, limit: Self.maximumByteCount)
        }
        guard let parts = Parts(der) else { throw .malformed }
        try Self.checkSelfSignature(der, parts, now)
        publicKey = try Self.peerKey(parts)
    }

    private static func checkSelfSignature(_ der: [UInt8], _ parts: Parts, _ now: WallTime) throws(CertificateError) {
        guard parts.keyInfo.count <= maximumKeyByteCount else {
            throw .tooLong(byteCount: parts.keyInfo.count, limit: maximumKeyByteCount)
        }
        var from: Int64 = 0
        var until: Int64 = 0
        let signed = Array(parts.signed)
        guard mq_certificate_is_self_signed(der, der.count, signed, signed.count, &from, &until) != 0 else {
            throw .badSelfSignature
        }
        let seconds = now.nanosecondsSince1970 / 1_000_000_000
        guard from >= 0, from <= seconds, seconds <= until else { throw .notValidNow }
    }

    private static func peerKey(_ parts: Parts) throws(CertificateError) -> PublicKey {
        var found: ArraySlice<UInt8>?
        for item in parts.extensions {
            if item.id.elementsEqual(extensionID) {
                guard found == nil else { throw .malformed }
                found = item.value
            } else if item.isCritical, !harmlessExtensions.contains(where: { item.id.elementsEqual($0) }) {
                throw .unknownCriticalExtension(hex(item.id))
            }
        }
        guard let found else { throw .noPeerKey }
        var outer = DERReader(found)
        guard let pair = outer.next(DERReader.Tag.sequence), outer.isAtEnd else { throw .malformedPeerKey }
        var inner = pair.reader
        guard let key = inner.next(DERReader.Tag.octetString), let signature = inner.next(DERReader.Tag.octetString),
            inner.isAtEnd, let publicKey = try? PublicKey(protobuf: Array(key.content))
        else { throw .malformedPeerKey }
        let message = signedPrefix + parts.keyInfo
        guard publicKey.isValidSignature(Array(signature.content), for: message) else { throw .badPeerSignature }
        return publicKey
    }

    private static func hex(_ bytes: ArraySlice<UInt8>) -> String {
        let digits = Array("0123456789abcdef")
        return String(bytes.prefix(32).flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
    }
}

extension PeerCertificate {
    /// The parts of a certificate that count here, cut out as they were signed (RFC 5280, 4.1).
    private struct Parts {
        struct Extension {
            let id: ArraySlice<UInt8>
            let isCritical: Bool
            let value: ArraySlice<UInt8>
        }

        static let extensionLimit = 32

        /// The part that the signature covers.
        let signed: ArraySlice<UInt8>
        /// The SubjectPublicKeyInfo.
        let keyInfo: ArraySlice<UInt8>
        private(set) var extensions: [Extension] = []

        init?(_ der: [UInt8]) {
            var whole = DERReader(der[...])
            guard let certificate = whole.next(DERReader.Tag.sequence), whole.isAtEnd else { return nil }
            var outer = certificate.reader
            guard let signed = outer.next(DERReader.Tag.sequence), outer.next(DERReader.Tag.sequence) != nil,
                outer.next(DERReader.Tag.bitString) != nil, outer.isAtEnd
            else { return nil }
            self.signed = signed.bytes
            var fields = signed.reader
            _ = fields.next(DERReader.Tag.context(0))
            // Serial number, algorithm, issuer, validity, subject.
            for _ in 0..<5 where fields.next() == nil { return nil }
            guard let keyInfo = fields.next(DERReader.Tag.sequence) else { return nil }
            self.keyInfo = keyInfo.bytes
            while let field = fields.next() {
                guard field.tag == DERReader.Tag.context(3) else { continue }
                guard readExtensions(field) else { return nil }
            }
            guard fields.isAtEnd else { return nil }
        }

        private mutating func readExtensions(_ field: DERReader.Element) -> Bool {
            var wrapper = field.reader
            guard let list = wrapper.next(DERReader.Tag.sequence), wrapper.isAtEnd else { return false }
            var items = list.reader
            while let item = items.next(DERReader.Tag.sequence) {
                var parts = item.reader
                guard extensions.count < Self.extensionLimit, let id = parts.next(DERReader.Tag.objectIdentifier) else {
                    return false
                }
                let critical = parts.next(DERReader.Tag.boolean)
                guard let value = parts.next(DERReader.Tag.octetString), parts.isAtEnd else { return false }
                let isCritical = critical.map { $0.content.contains { $0 != 0 } } ?? false
                extensions.append(Extension(id: id.content, isCritical: isCritical, value: value.content))
            }
            return items.isAtEnd
        }
    }
}
