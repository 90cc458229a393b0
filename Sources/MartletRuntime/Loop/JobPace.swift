import MartletCore

/// After how many jobs a loop polls although more wait: so that input is not starved, and what was done leaves while the rest
/// is done and the peer works at the same time.
///
/// Each poll costs as much as a few small jobs, so there should be few. But when two nodes each wait for all that the other
/// has to do, both are idle half of the time: then what comes at once is done in two halves.
struct JobPace {
    /// A time in which there was nothing to do.
    struct Wait {
        let from: Instant
        let to: Instant
    }

    /// Fewer would help two nodes with a processor each, and cost more where they share one.
    static let smallest = 16
    static let largest = 32
    /// So many long waits in a row are no accident.
    static let longWaitLimit = 4

    /// Jobs between two polls.
    private(set) var size = smallest
    private var sincePoll = 0
    /// Jobs since there was nothing to do, and when that was.
    private var sinceWait = 0
    private var busySince: Instant?
    private var longWaits = 0

    var isDue: Bool { sincePoll >= size }

    mutating func runsJob() {
        sincePoll += 1
        sinceWait += 1
    }

    mutating func polls() { sincePoll = 0 }

    /// After a poll.
    ///
    /// - Parameters:
    ///   - jobCount: how many jobs wait now.
    ///   - wait: how long there was nothing to do before, if so.
    mutating func polled(jobCount: Int, wait: Wait?) {
        if let wait { noteWait(wait) }
        if jobCount > 2 * size { size = min(jobCount / 2, Self.largest) }
    }

    private mutating func noteWait(_ wait: Wait) {
        defer {
            sinceWait = 0
            busySince = wait.to
        }
        // Half of the time and more is not the usual unevenness between two that work side by side.
        guard let busySince, sinceWait >= 2 * Self.smallest, wait.to - wait.from > wait.from - busySince else {
            longWaits = 0
            return
        }
        longWaits += 1
        guard longWaits >= Self.longWaitLimit else { return }
        longWaits = 0
        size = min(max((sinceWait + 1) / 2, Self.smallest), Self.largest)
    }
}
