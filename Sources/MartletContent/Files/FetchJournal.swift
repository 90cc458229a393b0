import MartletCore
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Which leaves of a fetch have been written: a header that says of what, then a bit for each leaf.
///
/// Its blocks are written once at the start, so that noting a leaf cannot fail on a full disk.
final class FetchJournal: Sendable {
    private static let headerByteCount = 512
    private static let magic = Array("martlet fetch 1\n".utf8)

    private let path: String
    private let descriptor: Int32
    private let bits: Mutex<[UInt8]>
    private let leafCount: Int
    /// Nothing was left by an earlier run, or what was left is of another fetch.
    let isNew: Bool

    /// Opens the journal at `path`, and begins a new one when it is not of this fetch.
    static func open(
        _ path: String, root: CID, byteCount: UInt64?, leafCount: Int
    ) throws(ContentError) -> FetchJournal {
        let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw ContentError(errno: errno, path: path, doing: "open") }
        var header = magic
        header.append(UInt8(root.byteCount))
        root.append(to: &header)
        withUnsafeBytes(of: (byteCount ?? .max).bigEndian) { header.append(contentsOf: $0) }
        withUnsafeBytes(of: UInt64(leafCount).bigEndian) { header.append(contentsOf: $0) }
        header.append(contentsOf: repeatElement(0, count: headerByteCount - header.count))
        let expected = header + [UInt8](repeating: 0, count: (leafCount + 7) / 8)
        var found = [UInt8](repeating: 0, count: expected.count)
        let count = found.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, 0) }
        if count == expected.count, found[0..<headerByteCount] == expected[0..<headerByteCount] {
            return FetchJournal(
                path: path, descriptor: descriptor, bits: Array(found[headerByteCount...]), leafCount: leafCount,
                isNew: false)
        }
        // Zeros are written too, so that the blocks are there.
        let written =
            ftruncate(descriptor, 0) == 0
            ? expected.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, 0) } : -1
        guard written == expected.count else {
            let number = written < 0 ? errno : ENOSPC
            close(descriptor)
            throw ContentError(errno: number, path: path, doing: "write")
        }
        return FetchJournal(
            path: path, descriptor: descriptor, bits: Array(expected[headerByteCount...]), leafCount: leafCount,
            isNew: true)
    }

    private init(path: String, descriptor: Int32, bits: [UInt8], leafCount: Int, isNew: Bool) {
        self.path = path
        self.descriptor = descriptor
        self.bits = Mutex(bits)
        self.leafCount = leafCount
        self.isNew = isNew
    }

    deinit { close(descriptor) }

    var notedLeaves: [Int] {
        let bits = self.bits.withLock { $0 }
        return (0..<leafCount).filter { bits[$0 / 8] & (1 << UInt8($0 % 8)) != 0 }
    }

    func note(_ leaf: Int) throws(ContentError) {
        try change(leaf) { $0 | 1 << UInt8(leaf % 8) }
    }

    func forget(_ leaf: Int) throws(ContentError) {
        try change(leaf) { $0 & ~(1 << UInt8(leaf % 8)) }
    }

    private func change(_ leaf: Int, _ body: (UInt8) -> UInt8) throws(ContentError) {
        // Under the lock also while writing, so that of two changes of a byte the later one is written last.
        try bits.withLock { (bits) throws(ContentError) in
            var byte = body(bits[leaf / 8])
            bits[leaf / 8] = byte
            guard pwrite(descriptor, &byte, 1, off_t(Self.headerByteCount + leaf / 8)) == 1 else {
                throw ContentError(errno: errno, path: path, doing: "write")
            }
        }
    }
}
