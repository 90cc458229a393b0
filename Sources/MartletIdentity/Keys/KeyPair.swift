internal import CLibsodium
public import MartletCore

/// The identity of a node: an Ed25519 private key with its public half.
///
///     let identity = KeyPair.generate()
///     let signature = identity.sign(message)
///
/// The private key lies in `SecretBytes`, is zeroed with the last reference, and appears in no description.
public final class KeyPair: Sendable {
    public let publicKey: PublicKey
    public let peerID: PeerID
    // Seed, then public key: libsodium's form.
    private let secret: SecretBytes

    /// A new identity from the operating system's randomness.
    public static func generate() -> KeyPair {
        KeyPair(protection: .guarded) { seed in
            // 32 bytes: the size of the seed that libsodium asks for.
            randombytes_buf(seed.octets, seed.count)
        }
    }

    /// The identity of a 32-byte seed (RFC 8032, 5.1.5). The caller's array is the caller's to erase.
    public convenience init(seed: [UInt8]) {
        precondition(seed.count == Ed25519.seedByteCount, "a seed of \(seed.count) bytes")
        self.init(protection: .guarded) { memory in seed.withUnsafeBytes { memory.copyMemory(from: $0) } }
    }

    /// The identity that `random` gives, the same for the same seed of a simulation. Its memory is zeroed at the end but
    /// not guarded, so that a process can hold very many of them.
    public convenience init(random: inout RandomSource) {
        self.init(protection: .zeroed) { random.fill($0) }
    }

    /// `fillSeed` writes the 32 bytes of the seed.
    private init(protection: SecretBytes.Protection, fillSeed: (UnsafeMutableRawBufferPointer) -> Void) {
        Sodium.start()
        var publicBytes = [UInt8](repeating: 0, count: Ed25519.publicKeyByteCount)
        secret = SecretBytes(count: Ed25519.secretKeyByteCount, protection: protection) { memory in
            // libsodium writes the key before it is done with the seed: they must not overlap.
            withUnsafeTemporaryAllocation(byteCount: Ed25519.seedByteCount, alignment: 8) { seed in
                fillSeed(seed)
                crypto_sign_seed_keypair(
                    &publicBytes, memory.octets,
                    seed.octets)
                sodium_memzero(seed.octets, seed.count)
            }
        }
        publicKey = PublicKey(ed25519: publicBytes)
        peerID = PeerID(publicKey: publicKey)
    }

    /// The 64-byte Ed25519 signature of `message`. Some 13 µs.
    public func sign(_ message: UnsafeRawBufferPointer) -> [UInt8] {
        var signature = [UInt8](repeating: 0, count: Ed25519.signatureByteCount)
        secret.withUnsafeBytes { key in
            _ = crypto_sign_detached(
                &signature, nil, message.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt64(message.count),
                key.octets)
        }
        return signature
    }

    /// The 64-byte Ed25519 signature of `message`.
    public func sign(_ message: [UInt8]) -> [UInt8] { message.withUnsafeBytes { sign($0) } }

    /// The 64-byte Ed25519 signature of `message`.
    public func sign(_ message: Bytes) -> [UInt8] { message.withUnsafeBytes { sign($0) } }
}

extension KeyPair: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// The peer id, nothing else.
    public var description: String { "key pair of \(peerID)" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: ["peerID": peerID]) }
}

// MARK: - The private key in libp2p's form

extension KeyPair {
    // PrivateKey { type: ED25519, data: <64 or 96 bytes> }. Read and written by hand: a protobuf library would leave
    // copies of the key in memory that nobody zeroes.
    private static let currentHeader: [UInt8] = [0x08, 0x01, 0x12, 0x40]
    private static let legacyHeader: [UInt8] = [0x08, 0x01, 0x12, 0x60]

    /// The size of `privateKeyProtobuf`.
    static let privateKeyProtobufByteCount = currentHeader.count + Ed25519.secretKeyByteCount

    /// The private key as other libp2p implementations read it: the `PrivateKey` message of the peer-ids specification.
    public var privateKeyProtobuf: SecretBytes {
        SecretBytes(count: Self.privateKeyProtobufByteCount) { memory in
            memory.copyBytes(from: Self.currentHeader)
            secret.withUnsafeBytes { key in
                UnsafeMutableRawBufferPointer(rebasing: memory[Self.currentHeader.count...]).copyMemory(from: key)
            }
        }
    }

    /// Reads the `PrivateKey` message of the peer-ids specification: seed and public key (64 bytes), or the older form
    /// with the public key twice (96 bytes). Ed25519 only.
    public convenience init(privateKeyProtobuf bytes: UnsafeRawBufferPointer) throws(KeyError) {
        let current = bytes.count == Self.privateKeyProtobufByteCount && bytes.starts(with: Self.currentHeader)
        let legacy = bytes.count == Self.legacyHeader.count + 96 && bytes.starts(with: Self.legacyHeader)
        guard current || legacy else {
            if bytes.count > 1, bytes[0] == 0x08, bytes[1] != 0x01 {
                throw .unsupported(reason: "a private key that is not Ed25519")
            }
            throw .malformed(reason: "not an Ed25519 PrivateKey message")
        }
        let seed = bytes[4..<36]
        self.init(protection: .guarded) { $0.copyBytes(from: seed) }
        // Signing with another public half than the one that belongs to the seed gives the private key away.
        guard bytes[36..<68].elementsEqual(publicKey.rawBytes) else { throw .halvesDiffer }
        guard current || bytes[68..<100].elementsEqual(publicKey.rawBytes) else { throw .halvesDiffer }
    }

    /// Reads the `PrivateKey` message of the peer-ids specification. The caller's array is the caller's to erase.
    public static func decode(privateKeyProtobuf bytes: [UInt8]) throws(KeyError) -> KeyPair {
        try bytes.span.bytes.withUnsafeBytes { bytes throws(KeyError) in try KeyPair(privateKeyProtobuf: bytes) }
    }
}
