internal import CLibsodium

/// libsodium, made ready by its first use.
enum Sodium {
    private static let isReady: Bool = sodium_init() >= 0

    /// Call before any function of libsodium that needs its generator or its choice of implementations.
    static func start() {
        precondition(isReady, "libsodium finds no source of randomness")
    }
}

/// Secret bytes that are zeroed when the last reference goes, and that no description shows.
///
///     let passphrase = SecretBytes(utf8: line)
///
/// Guarded memory (the default) lies between unreadable pages, is kept out of swap and core dumps as far as the system
/// allows, and cannot be written after it is filled. It takes four pages and some 30 µs, so a simulation with
/// thousands of keys asks for plain memory, which is only zeroed.
public final class SecretBytes: Sendable {
    /// Where secret bytes lie.
    public enum Protection: Sendable {
        case guarded
        case zeroed
    }

    public let count: Int
    // Written by init alone, read until deinit: safe to share.
    nonisolated(unsafe) private let base: UnsafeMutableRawPointer
    private let protection: Protection

    /// `count` secret bytes, written by `body`, which finds garbage.
    public init<E: Error>(
        count: Int, protection: Protection = .guarded,
        initializingWith body: (UnsafeMutableRawBufferPointer) throws(E) -> Void
    ) throws(E) {
        precondition(count >= 0, "\(count) secret bytes")
        Sodium.start()
        self.count = count
        // Guarded memory can run out (locked memory and mappings are limited): plain memory then serves.
        if protection == .guarded, let guarded = sodium_malloc(count) {
            base = guarded
            self.protection = .guarded
        } else {
            base = .allocate(byteCount: max(count, 1), alignment: 16)
            self.protection = .zeroed
        }
        try body(UnsafeMutableRawBufferPointer(start: base, count: count))
        if self.protection == .guarded { sodium_mprotect_readonly(base) }
    }

    /// A copy of `bytes`. The original is the caller's to erase.
    public convenience init(copying bytes: UnsafeRawBufferPointer, protection: Protection = .guarded) {
        self.init(count: bytes.count, protection: protection) { $0.copyMemory(from: bytes) }
    }

    /// A copy of `bytes`. The original is the caller's to erase.
    public convenience init(_ bytes: [UInt8], protection: Protection = .guarded) {
        self.init(count: bytes.count, protection: protection) { memory in
            bytes.withUnsafeBytes { memory.copyMemory(from: $0) }
        }
    }

    /// A copy of `text` in UTF-8, such as a passphrase. The original is the caller's to erase.
    public convenience init(utf8 text: String) {
        // Byte by byte from the text: an array in between would stay in memory.
        self.init(count: text.utf8.count) { $0.copyBytes(from: text.utf8) }
    }

    deinit {
        switch protection {
        case .guarded:
            sodium_free(base)
        case .zeroed:
            sodium_memzero(base, count)
            base.deallocate()
        }
    }

    /// The pointer is valid during the call only.
    public func withUnsafeBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
        defer { withExtendedLifetime(self) {} }
        return try body(UnsafeRawBufferPointer(start: base, count: count))
    }
}

extension SecretBytes: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// Only the size.
    public var description: String { "\(count) secret bytes" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: [:]) }
}
