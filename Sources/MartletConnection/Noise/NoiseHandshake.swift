import CLibsodium
public import MartletCore

/// The Noise handshake `XX` with X25519, ChaCha20-Poly1305 and SHA-256, without the framing and without knowing what its
/// payloads mean.
///
///     -> e
///     <- e, ee, s, es
///     -> s, se
///
/// All secrets lie in one block that is wiped at the end. An error ends the handshake; it must not be used on.
///
/// Specification: The Noise Protocol Framework, revision 34, 5 and 7.5.
@_spi(Fuzzing)
public final class NoiseHandshake {
    /// Exactly the size of a hash, so it starts the transcript as it is.
    private static let protocolName = "Noise_XX_25519_ChaChaPoly_SHA256"
    private static let keyByteCount = 32
    private static let tagByteCount = 16

    private let role: ConnectionRole
    private let staticKey: NoiseStaticKey
    private let secrets = NoiseSecrets()
    private var hasKey = false
    private var counter: UInt64 = 0
    /// How many of the three messages have passed.
    private var messageCount = 0
    private var remoteEphemeral = [UInt8](repeating: 0, count: 32)

    /// The peer's static key; zeros until the message that carries it has been read.
    public private(set) var remoteStatic = [UInt8](repeating: 0, count: 32)

    public init(role: ConnectionRole, staticKey: NoiseStaticKey, prologue: [UInt8] = [], random: inout RandomSource) {
        Sodium.start()
        self.role = role
        self.staticKey = staticKey
        random.fill(secrets.ephemeral)
        secrets.hash.copyBytes(from: Self.protocolName.utf8)
        secrets.chainingKey.copyMemory(from: UnsafeRawBufferPointer(secrets.hash))
        mixHash(prologue)
    }

    /// A handshake with a given ephemeral key: for test vectors.
    convenience init(role: ConnectionRole, staticKey: NoiseStaticKey, prologue: [UInt8], ephemeral: [UInt8]) {
        var random = RandomSource.system
        self.init(role: role, staticKey: staticKey, prologue: prologue, random: &random)
        secrets.ephemeral.copyBytes(from: ephemeral)
    }

    public var isComplete: Bool { messageCount == 3 }

    /// Whether it is this side that sends the next message.
    public var writesNext: Bool { !isComplete && (messageCount % 2 == 0) == (role == .dialer) }

    /// The hash of all that was said, the same on both sides and bound to this one handshake.
    public var transcriptHash: [UInt8] { Array(secrets.hash) }

    // MARK: Messages

    /// The next message, carrying `payload` (in the clear in the first message, which therefore should carry none).
    public func writeMessage(payload: [UInt8]) throws(NoiseError) -> [UInt8] {
        precondition(writesNext, "message \(messageCount) is the peer's")
        var message: [UInt8] = []
        switch messageCount {
        case 0:
            writeEphemeral(to: &message)
        case 1:
            writeEphemeral(to: &message)
            try mixKey(own: UnsafeRawBufferPointer(secrets.ephemeral), remote: remoteEphemeral)
            encryptAndHash(staticKey.publicKey, to: &message)
            try staticKey.withSecret { key throws(NoiseError) in try mixKey(own: key, remote: remoteEphemeral) }
        default:
            encryptAndHash(staticKey.publicKey, to: &message)
            try staticKey.withSecret { key throws(NoiseError) in try mixKey(own: key, remote: remoteEphemeral) }
        }
        encryptAndHash(payload, to: &message)
        messageCount += 1
        return message
    }

    /// Takes the peer's next message and returns its payload.
    public func readMessage(_ message: UnsafeRawBufferPointer) throws(NoiseError) -> [UInt8] {
        precondition(!isComplete && !writesNext, "message \(messageCount) is not the peer's")
        var rest = message
        switch messageCount {
        case 0:
            remoteEphemeral = try take(Self.keyByteCount, from: &rest)
            mixHash(remoteEphemeral)
        case 1:
            remoteEphemeral = try take(Self.keyByteCount, from: &rest)
            mixHash(remoteEphemeral)
            try mixKey(own: UnsafeRawBufferPointer(secrets.ephemeral), remote: remoteEphemeral)
            remoteStatic = try decryptAndHash(try take(Self.keyByteCount + Self.tagByteCount, from: &rest))
            try mixKey(own: UnsafeRawBufferPointer(secrets.ephemeral), remote: remoteStatic)
        default:
            remoteStatic = try decryptAndHash(try take(Self.keyByteCount + Self.tagByteCount, from: &rest))
            try mixKey(own: UnsafeRawBufferPointer(secrets.ephemeral), remote: remoteStatic)
        }
        let payload = try decryptAndHash(Array(rest))
        messageCount += 1
        return payload
    }

    /// The ciphers for what follows the handshake.
    func split(choice: RecordCipherChoice) -> (sending: RecordCipher, receiving: RecordCipher) {
        precondition(isComplete, "keys before the handshake is complete")
        // The dialer's key is the first; `shared` is free for the second.
        deriveKeys(from: nil, first: secrets.key, second: secrets.shared)
        let dialers = RecordCipher(key: UnsafeRawBufferPointer(secrets.key), choice: choice)
        let listeners = RecordCipher(key: UnsafeRawBufferPointer(secrets.shared), choice: choice)
        secrets.wipe()
        return role == .dialer ? (dialers, listeners) : (listeners, dialers)
    }

    // MARK: The symmetric state (Noise 5.2)

    private func take(_ count: Int, from rest: inout UnsafeRawBufferPointer) throws(NoiseError) -> [UInt8] {
        guard rest.count >= count else { throw .messageTooShort(rest.count) }
        defer { rest = UnsafeRawBufferPointer(rebasing: rest[count...]) }
        return Array(rest[0..<count])
    }

    private func writeEphemeral(to message: inout [UInt8]) {
        let publicKey = NoiseStaticKey.publicKey(of: UnsafeRawBufferPointer(secrets.ephemeral))
        message += publicKey
        mixHash(publicKey)
    }

    private func mixHash(_ bytes: [UInt8]) {
        var state = crypto_hash_sha256_state()
        crypto_hash_sha256_init(&state)
        crypto_hash_sha256_update(&state, pointer(secrets.hash), UInt64(Self.keyByteCount))
        crypto_hash_sha256_update(&state, bytes, UInt64(bytes.count))
        crypto_hash_sha256_final(&state, pointer(secrets.hash))
    }

    /// Agrees on a secret and mixes it in. A key of small order, with which the secret would be known to all, is refused.
    private func mixKey(own: UnsafeRawBufferPointer, remote: [UInt8]) throws(NoiseError) {
        guard crypto_scalarmult(pointer(secrets.shared), own.bindMemory(to: UInt8.self).baseAddress!, remote) == 0
        else { throw .weakKey }
        deriveKeys(from: secrets.shared, first: secrets.chainingKey, second: secrets.key)
        hasKey = true
        counter = 0
    }

    /// HKDF with two outputs (Noise 4.3): HMAC-SHA256 keyed with the chaining key, over `input`.
    private func deriveKeys(
        from input: UnsafeMutableRawBufferPointer?, first: UnsafeMutableRawBufferPointer,
        second: UnsafeMutableRawBufferPointer
    ) {
        let temporary = secrets.temporary
        hmac(key: secrets.chainingKey, input.map { UnsafeRawBufferPointer($0) }, nil, to: temporary)
        // The second output is made from the first; it may be written over the input, which is used up.
        hmac(key: temporary, nil, 1, to: first)
        hmac(key: temporary, UnsafeRawBufferPointer(first), 2, to: second)
        sodium_memzero(pointer(temporary), temporary.count)
    }

    private func hmac(
        key: UnsafeMutableRawBufferPointer, _ input: UnsafeRawBufferPointer?, _ last: UInt8?,
        to output: UnsafeMutableRawBufferPointer
    ) {
        var state = crypto_auth_hmacsha256_state()
        crypto_auth_hmacsha256_init(&state, pointer(key), key.count)
        if let input, let base = input.baseAddress {
            crypto_auth_hmacsha256_update(&state, base.assumingMemoryBound(to: UInt8.self), UInt64(input.count))
        }
        if var last { crypto_auth_hmacsha256_update(&state, &last, 1) }
        crypto_auth_hmacsha256_final(&state, pointer(output))
        sodium_memzero(&state, MemoryLayout.size(ofValue: state))
    }

    private func encryptAndHash(_ plaintext: [UInt8], to message: inout [UInt8]) {
        guard hasKey else {
            message += plaintext
            mixHash(plaintext)
            return
        }
        var ciphertext = [UInt8](repeating: 0, count: plaintext.count + Self.tagByteCount)
        crypto_aead_chacha20poly1305_ietf_encrypt(
            &ciphertext, nil, plaintext, UInt64(plaintext.count), pointer(secrets.hash), UInt64(Self.keyByteCount), nil,
            nonce, pointer(secrets.key))
        counter += 1
        message += ciphertext
        mixHash(ciphertext)
    }

    private func decryptAndHash(_ ciphertext: [UInt8]) throws(NoiseError) -> [UInt8] {
        guard hasKey else {
            mixHash(ciphertext)
            return ciphertext
        }
        guard ciphertext.count >= Self.tagByteCount else { throw .messageTooShort(ciphertext.count) }
        // One byte more than needed, so that an empty plaintext has an address as well.
        var plaintext = [UInt8](repeating: 0, count: ciphertext.count - Self.tagByteCount + 1)
        let status = crypto_aead_chacha20poly1305_ietf_decrypt(
            &plaintext, nil, nil, ciphertext, UInt64(ciphertext.count), pointer(secrets.hash),
            UInt64(Self.keyByteCount), nonce, pointer(secrets.key))
        guard status == 0 else { throw .notAuthentic }
        plaintext.removeLast()
        counter += 1
        mixHash(ciphertext)
        return plaintext
    }

    /// 4 zero bytes and the counter, little-endian. A handshake of three messages counts no further than 1.
    private var nonce: [UInt8] {
        [0, 0, 0, 0] + withUnsafeBytes(of: counter.littleEndian) { Array($0) }
    }
}

/// The secrets of one handshake, each of 32 bytes, wiped with the object.
private final class NoiseSecrets {
    private let base = UnsafeMutableRawBufferPointer.allocate(byteCount: 6 * 32, alignment: 16)

    init() { wipe() }

    deinit {
        wipe()
        base.deallocate()
    }

    func wipe() { sodium_memzero(pointer(base), base.count) }

    var chainingKey: UnsafeMutableRawBufferPointer { slot(0) }
    var hash: UnsafeMutableRawBufferPointer { slot(1) }
    var key: UnsafeMutableRawBufferPointer { slot(2) }
    var ephemeral: UnsafeMutableRawBufferPointer { slot(3) }
    var shared: UnsafeMutableRawBufferPointer { slot(4) }
    var temporary: UnsafeMutableRawBufferPointer { slot(5) }

    private func slot(_ index: Int) -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(rebasing: base[index * 32..<index * 32 + 32])
    }
}

/// The address of a buffer that is never empty here, in the type C wants. Valid while its owner lives, which in this
/// file is the handshake or a closure's caller.
private func pointer(_ buffer: UnsafeMutableRawBufferPointer) -> UnsafeMutablePointer<UInt8> {
    guard let base = buffer.baseAddress else { preconditionFailure("an empty buffer for a secret") }
    return base.assumingMemoryBound(to: UInt8.self)
}
