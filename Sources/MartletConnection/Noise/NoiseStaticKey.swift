import CLibsodium
public import MartletCore
import MartletIdentity

/// An X25519 key pair that lasts for many handshakes.
@_spi(Fuzzing)
public final class NoiseStaticKey: Sendable {
    public let publicKey: [UInt8]
    private let secret: SecretBytes

    public init(random: inout RandomSource) {
        var source = random
        secret = SecretBytes(count: 32, protection: .zeroed) { source.fill($0) }
        random = source
        publicKey = Self.publicKey(of: secret)
    }

    /// A given key: for test vectors.
    init(secret bytes: [UInt8]) {
        precondition(bytes.count == 32, "a secret of \(bytes.count) bytes")
        secret = SecretBytes(bytes, protection: .zeroed)
        publicKey = Self.publicKey(of: secret)
    }

    /// The pointer is valid during the call only.
    func withSecret<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
        try secret.withUnsafeBytes(body)
    }

    private static func publicKey(of secret: SecretBytes) -> [UInt8] {
        secret.withUnsafeBytes { publicKey(of: $0) }
    }

    /// - Parameter secret: 32 bytes.
    static func publicKey(of secret: UnsafeRawBufferPointer) -> [UInt8] {
        Sodium.start()
        guard let base = secret.baseAddress, secret.count == 32 else {
            preconditionFailure("a secret of \(secret.count) bytes")
        }
        var publicKey = [UInt8](repeating: 0, count: 32)
        // Fails for a result of zero only, which multiples of the base point never are.
        _ = crypto_scalarmult_base(&publicKey, base.assumingMemoryBound(to: UInt8.self))
        return publicKey
    }
}

/// libsodium, made ready by its first use: without that it falls back on its slowest code.
enum Sodium {
    private static let isReady: Bool = sodium_init() >= 0

    static func start() {
        precondition(isReady, "libsodium finds no source of randomness")
    }
}
