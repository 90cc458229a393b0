internal import CLibcrypto
public import MartletCore

/// SHA-256 by libcrypto, which uses the processor's SHA instructions where there are any.
///
///     let digest = SHA256.hash(block)
///
///     var hasher = SHA256.Hasher()          // for data that comes in pieces; use one hasher for many messages
///     for piece in pieces { hasher.update(piece) }
///     let digest = hasher.finalize()
public enum SHA256 {
    // Looked up once: a look-up for every hash costs twice as much as hashing a short message. Never freed and, after
    // this, only read.
    nonisolated(unsafe) fileprivate static let algorithm: OpaquePointer = {
        guard let algorithm = EVP_MD_fetch(nil, "SHA256", nil) else { preconditionFailure("libcrypto has no SHA-256") }
        return algorithm
    }()

    /// The hash of `bytes`.
    public static func hash(_ bytes: UnsafeRawBufferPointer) -> Digest {
        var hasher = Hasher()
        hasher.update(bytes)
        return hasher.digest()
    }

    /// The hash of `bytes`.
    public static func hash(_ bytes: Bytes) -> Digest { bytes.withUnsafeBytes { hash($0) } }

    /// The hash of `bytes`.
    public static func hash(_ bytes: [UInt8]) -> Digest { bytes.withUnsafeBytes { hash($0) } }

    /// The hash of `bytes`.
    public static func hash(_ bytes: RawSpan) -> Digest { bytes.withUnsafeBytes { hash($0) } }

    /// Hashes data that comes in pieces. It holds one libcrypto context, which `finalize` makes ready for the next
    /// message, so a hasher that is kept allocates nothing.
    public struct Hasher: ~Copyable, @unchecked Sendable {
        // Owned by this value alone, and freed with it: that is why it may change threads.
        private let context: OpaquePointer

        public init() {
            guard let context = EVP_MD_CTX_new() else { preconditionFailure("no memory for a hash context") }
            self.context = context
            start()
        }

        private init(copying other: OpaquePointer) {
            guard let context = EVP_MD_CTX_new(), EVP_MD_CTX_copy_ex(context, other) == 1 else {
                preconditionFailure("no memory for a hash context")
            }
            self.context = context
        }

        deinit { EVP_MD_CTX_free(context) }

        private func start() {
            let started = EVP_DigestInit_ex2(context, SHA256.algorithm, nil)
            precondition(started == 1, "libcrypto refuses to start SHA-256")
        }

        /// Adds `bytes` to the message.
        public mutating func update(_ bytes: UnsafeRawBufferPointer) {
            guard let start = bytes.baseAddress, !bytes.isEmpty else { return }
            let updated = EVP_DigestUpdate(context, start, bytes.count)
            precondition(updated == 1, "libcrypto refuses to go on with SHA-256")
        }

        /// Adds `bytes` to the message.
        public mutating func update(_ bytes: Bytes) { bytes.withUnsafeBytes { update($0) } }

        /// Adds `bytes` to the message.
        public mutating func update(_ bytes: [UInt8]) { bytes.withUnsafeBytes { update($0) } }

        /// Adds `bytes` to the message.
        public mutating func update(_ bytes: RawSpan) { bytes.withUnsafeBytes { update($0) } }

        /// Adds the 32 bytes of `digest` to the message.
        public mutating func update(_ digest: Digest) { digest.withUnsafeBytes { update($0) } }

        /// The hash of the message, after which the hasher begins a new one.
        public mutating func finalize() -> Digest {
            defer { start() }
            return digest()
        }

        /// Forgets what was added and begins a new message.
        public mutating func reset() { start() }

        /// A second hasher that has seen the same beginning.
        public func copy() -> Hasher { Hasher(copying: context) }

        fileprivate mutating func digest() -> Digest {
            Digest { memory in
                let finished = EVP_DigestFinal_ex(context, memory.assumingMemoryBound(to: UInt8.self).baseAddress, nil)
                precondition(finished == 1, "libcrypto refuses to finish SHA-256")
            }
        }
    }
}
