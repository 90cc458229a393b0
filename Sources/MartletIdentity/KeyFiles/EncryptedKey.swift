internal import CLibsodium
internal import MartletCore

/// How much work it is to try one passphrase: passes over memory, both of Argon2id (RFC 9106).
public struct PassphraseStrength: Hashable, Sendable {
    /// The number of passes over the memory.
    public let operations: UInt32
    public let memoryKibibytes: UInt32

    /// Bounds for what a file may ask for: 1 GiB, and some ten seconds of one core.
    static let operationBounds: ClosedRange<UInt32> = 1...10
    static let memoryBounds: ClosedRange<UInt32> = 8...1_048_576

    /// 64 MiB and a tenth of a second.
    public static let interactive = PassphraseStrength(operations: 2, memoryKibibytes: 65_536)
    /// 256 MiB and half a second.
    public static let moderate = PassphraseStrength(operations: 3, memoryKibibytes: 262_144)
    /// 1 GiB and some seconds.
    public static let sensitive = PassphraseStrength(operations: 4, memoryKibibytes: 1_048_576)

    /// Passes and memory, both within bounds: 1 to 10 passes, 8 KiB to 1 GiB.
    public init?(checkedOperations operations: UInt32, memoryKibibytes: UInt32) {
        guard Self.operationBounds.contains(operations), Self.memoryBounds.contains(memoryKibibytes) else { return nil }
        self.init(operations: operations, memoryKibibytes: memoryKibibytes)
    }

    private init(operations: UInt32, memoryKibibytes: UInt32) {
        self.operations = operations
        self.memoryKibibytes = memoryKibibytes
    }
}

/// The file form of a key under a passphrase: Argon2id makes a key of the passphrase, and XChaCha20-Poly1305 encrypts with it.
///
///     "martlet key 1\n"                      14 bytes
///     passes, memory in KiB                  4 + 4 bytes, big-endian
///     salt, nonce                            16 + 24 bytes
///     encrypted PrivateKey message and tag   n + 16 bytes, authenticated together with all of the above
///     BLAKE2b-128 of all of the above        16 bytes
///
/// The last field is there to tell a damaged file from a wrong passphrase.
enum EncryptedKey {
    private static let magic = Array("martlet key 1\n".utf8)
    private static let saltByteCount = 16  // crypto_pwhash_SALTBYTES
    private static let nonceByteCount = 24  // crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
    private static let keyByteCount = 32  // crypto_aead_xchacha20poly1305_ietf_KEYBYTES
    private static let tagByteCount = 16  // crypto_aead_xchacha20poly1305_ietf_ABYTES
    private static let checksumByteCount = 16

    private static let saltOffset = magic.count + 8
    private static let nonceOffset = saltOffset + saltByteCount
    private static let headerByteCount = nonceOffset + nonceByteCount

    /// Whether `file` claims to be of this form.
    static func isRecognized(_ file: UnsafeRawBufferPointer) -> Bool { file.starts(with: magic) }

    static func seal(
        _ plain: SecretBytes, passphrase: SecretBytes, strength: PassphraseStrength
    ) throws(KeyFileError) -> SecretBytes {
        var header = magic
        for number in [strength.operations, strength.memoryKibibytes] {
            withUnsafeBytes(of: number.bigEndian) { header += $0 }
        }
        header += randomBytes(saltByteCount)
        header += randomBytes(nonceByteCount)
        let key = try deriveKey(passphrase, salt: Array(header[saltOffset..<nonceOffset]), strength: strength)
        let sealedByteCount = plain.count + tagByteCount
        return SecretBytes(count: headerByteCount + sealedByteCount + checksumByteCount) { file in
            file.copyBytes(from: header)
            plain.withUnsafeBytes { plain in
                key.withUnsafeBytes { key in
                    // The sizes are those of the libsodium constants, and the file has room for text and tag.
                    _ = crypto_aead_xchacha20poly1305_ietf_encrypt(
                        file.octets + headerByteCount, nil,
                        plain.octets, UInt64(plain.count),
                        header, UInt64(header.count), nil, Array(header[nonceOffset...]),
                        key.octets)
                }
            }
            let covered = headerByteCount + sealedByteCount
            file[covered...].copyBytes(from: checksum(UnsafeRawBufferPointer(rebasing: file[..<covered])))
        }
    }

    static func open(_ file: SecretBytes, passphrase: SecretBytes) throws(KeyFileError) -> SecretBytes {
        let plainByteCount = file.count - headerByteCount - tagByteCount - checksumByteCount
        guard plainByteCount > 0 else { throw .damaged }
        let content = file.withUnsafeBytes { Array($0) }  // nothing in it is secret: it is encrypted
        let covered = content[..<(content.count - checksumByteCount)]
        guard covered.withUnsafeBytes({ checksum($0) }).elementsEqual(content[covered.endIndex...]) else {
            throw .damaged
        }
        let operations = bigEndian(content[magic.count..<(magic.count + 4)])
        let memory = bigEndian(content[(magic.count + 4)..<saltOffset])
        // Checked before any work: a file from elsewhere must not take the machine's memory.
        guard let strength = PassphraseStrength(checkedOperations: operations, memoryKibibytes: memory) else {
            throw .strengthOutOfBounds(operations: operations, memoryKibibytes: memory)
        }
        let key = try deriveKey(passphrase, salt: Array(content[saltOffset..<nonceOffset]), strength: strength)
        let sealed = Array(covered[headerByteCount...])
        var isAuthentic = false
        let plain = SecretBytes(count: plainByteCount) { plain in
            isAuthentic = key.withUnsafeBytes { key in
                // `plain` is as long as the text without its tag.
                crypto_aead_xchacha20poly1305_ietf_decrypt(
                    plain.octets, nil, nil, sealed, UInt64(sealed.count),
                    content, UInt64(headerByteCount), Array(content[nonceOffset..<headerByteCount]),
                    key.octets) == 0
            }
        }
        guard isAuthentic else { throw .wrongPassphrase }
        return plain
    }

    private static func deriveKey(
        _ passphrase: SecretBytes, salt: [UInt8], strength: PassphraseStrength
    ) throws(KeyFileError) -> SecretBytes {
        guard passphrase.count > 0 else { throw .emptyPassphrase }
        var isDone = false
        let key = SecretBytes(count: keyByteCount) { key in
            isDone = passphrase.withUnsafeBytes { passphrase in
                crypto_pwhash(
                    key.octets, UInt64(keyByteCount),
                    UnsafeRawPointer(passphrase.octets).assumingMemoryBound(to: CChar.self), UInt64(passphrase.count),
                    salt,
                    UInt64(strength.operations), Int(strength.memoryKibibytes) * 1024, crypto_pwhash_alg_argon2id13())
                    == 0
            }
        }
        guard isDone else { throw .outOfMemory(memoryKibibytes: strength.memoryKibibytes) }
        return key
    }

    static func checksum(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
        var sum = [UInt8](repeating: 0, count: checksumByteCount)
        _ = crypto_generichash(
            &sum, sum.count, bytes.assumingMemoryBound(to: UInt8.self).baseAddress, UInt64(bytes.count), nil, 0)
        return sum
    }

    private static func randomBytes(_ count: Int) -> [UInt8] {
        var generator = RandomSource.system
        return generator.bytes(count)
    }

    private static func bigEndian(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        bytes.reduce(0) { $0 << 8 | UInt32($1) }
    }
}
