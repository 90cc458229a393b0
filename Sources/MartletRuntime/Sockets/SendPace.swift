import MartletCore

/// How much a stream socket takes from its delegate at a time, so that what is urgent does not wait long behind what is
/// sealed already.
///
/// On fast paths whole blocks are best. On a slow one a block, and what the kernel queues, would be hundreds of
/// milliseconds of bulk in front of a ping: there blocks shrink until one is sent in some milliseconds, and the kernel is told
/// to queue no more than one.
struct SendPace {
    /// Room for the largest piece of a delegate must remain.
    static let smallest = 72 * 1024

    private static let slow = Duration.milliseconds(3)
    private static let fast = Duration.milliseconds(1)

    let largest: Int
    /// Bytes to take at a time.
    private(set) var blockSize: Int
    private var began: Instant?

    init(largest: Int) {
        self.largest = max(largest, Self.smallest)
        blockSize = self.largest
    }

    var isUnlimited: Bool { blockSize == largest }

    /// A block has been taken, or what is left of one did not all fit into the kernel's buffer.
    mutating func blocked(now: Instant) {
        if began == nil { began = now }
    }

    /// All of a block of `count` bytes has been sent. True when the block size changed.
    mutating func finished(_ count: Int, now: Instant) -> Bool {
        let before = blockSize
        guard let began else {
            if count >= blockSize / 2 { blockSize = min(blockSize * 2, largest) }
            return blockSize != before
        }
        self.began = nil
        let time = now - began
        if time > Self.slow {
            blockSize = max(blockSize / 2, Self.smallest)
        } else if time < Self.fast {
            blockSize = min(blockSize * 2, largest)
        }
        return blockSize != before
    }
}
