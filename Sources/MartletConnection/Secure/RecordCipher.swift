import CLibcrypto
import CLibsodium
import MartletCore

/// Seals or opens the records of one direction with ChaCha20-Poly1305 (RFC 8439), in place, counting the nonce itself.
///
/// libsodium is the cipher. Large records go to OpenSSL's implementation of the same algorithm, which is up to three
/// times as fast; its context is made with the first such record and let go with `releaseContext` when the connection
/// rests. No call allocates but the one that makes the context.
///
/// A record that fails to open leaves the nonce where it was, and the connection ends (snow RUSTSEC-2024-0011).
///
/// Specification: The Noise Protocol Framework, 5.1 and 12.3: a nonce is 4 zero bytes and a 64-bit little-endian
/// counter, of which the value 2^64 − 1 is reserved.
final class RecordCipher {
    /// How many bytes a record grows by.
    static let tagByteCount = 16

    /// From which record size on OpenSSL is used when its context is there, and from which one is made for it.
    /// Measured: below 512 bytes the two are equal; a context costs a microsecond and a kilobyte.
    private static let reuseThreshold = 512
    private static let createThreshold = 2048

    /// 32 bytes of key, then the 12 of the next nonce: at a fixed address, as C wants them, and wiped at the end.
    private let secret: UnsafeMutablePointer<UInt8>
    private static let keyByteCount = 32
    private static let secretByteCount = 44

    /// The number of the next record.
    private(set) var counter: UInt64
    private var context: OpaquePointer?
    private let choice: RecordCipherChoice

    /// - Parameters:
    ///   - key: 32 bytes, of which the cipher keeps a copy.
    ///   - counter: the number of the first record, other than 0 in tests only.
    init(key: UnsafeRawBufferPointer, choice: RecordCipherChoice, counter: UInt64 = 0) {
        precondition(key.count == Self.keyByteCount, "a key of \(key.count) bytes")
        self.choice = choice
        self.counter = counter
        secret = .allocate(capacity: Self.secretByteCount)
        UnsafeMutableRawBufferPointer(start: secret, count: Self.keyByteCount).copyMemory(from: key)
        setNonce()
    }

    deinit {
        releaseContext()
        sodium_memzero(secret, Self.secretByteCount)
        secret.deallocate()
    }

    /// Whether an OpenSSL context is held.
    var holdsContext: Bool { context != nil }

    /// Gives OpenSSL's context back (it wipes its copy of the key); the next large record makes a new one.
    func releaseContext() {
        guard let context else { return }
        EVP_CIPHER_CTX_free(context)
        self.context = nil
    }

    /// Encrypts `record` where it stands. Its last 16 bytes are room for the tag.
    ///
    /// - Parameter tail: the end of the plaintext when it is not in `record` yet but elsewhere: OpenSSL encrypts from
    ///   there to here, which saves copying it.
    func seal(_ record: UnsafeMutableRawBufferPointer, tail: Bytes = Bytes()) throws(RecordError) {
        guard counter < .max else { throw .nonceExhausted }
        let count = record.count - Self.tagByteCount
        // `record` has at least the tag's room by contract, so its base address is there.
        guard count >= tail.count, let base = record.baseAddress?.assumingMemoryBound(to: UInt8.self) else {
            preconditionFailure("a record of \(record.count) bytes has no room for its parts")
        }
        if let context = context(forRecordOf: count, sealing: true) {
            let head = count - tail.count
            var written: Int32 = 0
            var isDone =
                EVP_EncryptInit_ex(context, nil, nil, nil, nonce) == 1
                && EVP_EncryptUpdate(context, base, &written, base, Int32(head)) == 1
            if isDone, !tail.isEmpty {
                isDone = tail.withUnsafeBytes {
                    let source = $0.baseAddress?.assumingMemoryBound(to: UInt8.self)
                    return EVP_EncryptUpdate(context, base + head, &written, source, Int32($0.count)) == 1
                }
            }
            isDone =
                isDone && EVP_EncryptFinal_ex(context, base + count, &written) == 1
                && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, Int32(Self.tagByteCount), base + count) == 1
            precondition(isDone, "OpenSSL failed to encrypt a record of \(count) bytes")
        } else {
            if !tail.isEmpty {
                let room = UnsafeMutableRawBufferPointer(rebasing: record[count - tail.count..<count])
                tail.withUnsafeBytes { room.copyMemory(from: $0) }
            }
            crypto_aead_chacha20poly1305_ietf_encrypt(base, nil, base, UInt64(count), nil, 0, nil, nonce, secret)
        }
        advance()
    }

    /// Checks and decrypts `record` where it stands; the plaintext is what stands before the last 16 bytes.
    func open(_ record: UnsafeMutableRawBufferPointer) throws(RecordError) {
        guard counter < .max else { throw .nonceExhausted }
        let count = record.count - Self.tagByteCount
        guard count >= 0, let base = record.baseAddress?.assumingMemoryBound(to: UInt8.self) else {
            throw .tooShort(record.count)
        }
        let isAuthentic: Bool
        if let context = context(forRecordOf: count, sealing: false) {
            var written: Int32 = 0
            isAuthentic =
                EVP_DecryptInit_ex(context, nil, nil, nil, nonce) == 1
                && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, Int32(Self.tagByteCount), base + count) == 1
                && EVP_DecryptUpdate(context, base, &written, base, Int32(count)) == 1
                && EVP_DecryptFinal_ex(context, base + count, &written) == 1
        } else {
            isAuthentic =
                crypto_aead_chacha20poly1305_ietf_decrypt(
                    base, nil, nil, base, UInt64(record.count), nil, 0, nonce, secret) == 0
        }
        guard isAuthentic else { throw .notAuthentic }
        advance()
    }

    private var nonce: UnsafeMutablePointer<UInt8> { secret + Self.keyByteCount }

    private func advance() {
        counter += 1
        setNonce()
    }

    private func setNonce() {
        let raw = UnsafeMutableRawPointer(nonce)
        raw.storeBytes(of: 0, as: UInt32.self)
        raw.storeBytes(of: counter.littleEndian, toByteOffset: 4, as: UInt64.self)
    }

    /// OpenSSL's context if it is to be used for `count` bytes.
    @inline(__always)
    private func context(forRecordOf count: Int, sealing: Bool) -> OpaquePointer? {
        guard count >= Self.reuseThreshold else { return nil }
        if let context { return context }
        return count >= Self.createThreshold && choice == .automatic ? makeContext(sealing: sealing) : nil
    }

    @inline(never)
    private func makeContext(sealing: Bool) -> OpaquePointer? {
        guard let cipher = Self.cipher, let context = EVP_CIPHER_CTX_new() else { return nil }
        let isSet = EVP_CipherInit_ex(context, cipher, nil, secret, nil, sealing ? 1 : 0)
        // Without OpenSSL (a build that lacks the cipher, memory at its end) libsodium does the work.
        guard isSet == 1 else { EVP_CIPHER_CTX_free(context); return nil }
        self.context = context
        return context
    }

    /// Looked up once: OpenSSL 3 searches its providers each time it is asked by name. It is immutable and lives for
    /// ever, so every thread may use it.
    private nonisolated(unsafe) static let cipher = EVP_CIPHER_fetch(nil, "ChaCha20-Poly1305", nil)
}
