public import MartletCore
public import MartletIdentity

/// The bytes of a block as they arrived: slices of the buffers that they were received in.
public struct LeafPayload: Sendable {
    public let slices: [Bytes]
    public let byteCount: Int

    public init(slices: [Bytes], byteCount: Int) {
        self.slices = slices
        self.byteCount = byteCount
    }

    /// The hash of the whole block.
    public var digest: Digest {
        var hasher = SHA256.Hasher()
        for slice in slices { hasher.update(slice) }
        return hasher.finalize()
    }

    /// The block in one piece; a copy when it is in several.
    public var joined: Bytes {
        if slices.count == 1 { return slices[0] }
        return Bytes(count: byteCount) { room in
            var offset = 0
            for slice in slices {
                slice.withUnsafeBytes { UnsafeMutableRawBufferPointer(rebasing: room[offset...]).copyMemory(from: $0) }
                offset += slice.count
            }
        }
    }
}

/// Collects the slices of one block. Small ones are copied together, so that a peer that sends a byte at a time cannot
/// make us hold an object for every byte.
struct PayloadCollector: Sendable {
    /// Slices from this size on are kept as they are.
    static let keptByteCount = 4096

    private var slices: [Bytes] = []
    private(set) var byteCount = 0
    private let expectedByteCount: Int
    private var tail: BytesStorage?
    private var tailFilled = 0
    /// Where the part of the tail begins that is not yet among the slices.
    private var runStart = 0

    init(expectedByteCount: Int) {
        self.expectedByteCount = expectedByteCount
    }

    mutating func append(_ bytes: Bytes) {
        byteCount += bytes.count
        if bytes.count >= Self.keptByteCount {
            sealRun()
            slices.append(bytes)
        } else {
            copy(bytes)
        }
    }

    mutating func finish() -> LeafPayload {
        sealRun()
        return LeafPayload(slices: slices, byteCount: byteCount)
    }

    private mutating func copy(_ bytes: Bytes) {
        var rest = bytes
        while !rest.isEmpty {
            if tail == nil || tailFilled == tail!.capacity {
                sealRun()
                // No larger than what is still to come: blocks of a few bytes take a few bytes.
                let left = expectedByteCount - byteCount + rest.count
                tail = BytesStorage(capacity: max(rest.count, min(left, 64 << 10)))
                tailFilled = 0
                runStart = 0
            }
            guard let tail else { return }
            let piece = rest.takeFirst(min(rest.count, tail.capacity - tailFilled))
            let room = UnsafeMutableRawBufferPointer(rebasing: tail.mutableBytes[tailFilled...])
            piece.withUnsafeBytes { room.copyMemory(from: $0) }
            tailFilled += piece.count
        }
    }

    private mutating func sealRun() {
        guard let tail, tailFilled > runStart else { return }
        slices.append(tail.slice(runStart..<tailFilled))
        runStart = tailFilled
    }
}
