import CLibuv
public import MartletCore

/// Calls `handler` at a moment, holding the loop. Made once and rescheduled as often as needed.
///
///     let timer = LoopTimer(loop: loop) { [unowned self] in self.handleTimeout() }
///     timer.schedule(at: loop.now + .seconds(1))
///
/// Moving the moment later costs one store, moving it earlier or cancelling O(log n). It never fires early, and about
/// a millisecond late. In-loop only. A scheduled timer is kept alive by its loop: cancel it before its owner goes, or
/// capture the owner weakly. When the loop shuts down, timers are dropped without being fired.
public final class LoopTimer {
    public let loop: EventLoop
    fileprivate let handler: () -> Void
    /// When the handler will be called; nil while not scheduled.
    public fileprivate(set) var deadline: Instant?
    /// Where in the heap this is; -1 outside.
    fileprivate var index = -1

    public init(loop: EventLoop, handler: @escaping () -> Void) {
        self.loop = loop
        self.handler = handler
    }

    /// Fires at `deadline`, instead of when it was scheduled for so far.
    public func schedule(at deadline: Instant) {
        assert(loop.inLoop, "timers are for the holder of the loop")
        loop.timers.schedule(self, at: deadline)
    }

    /// Does not fire until scheduled again.
    public func cancel() {
        guard deadline != nil else { return }
        assert(loop.inLoop, "timers are for the holder of the loop")
        loop.timers.cancel(self)
    }
}

/// The timers of a loop: a binary heap over one `uv_timer_t`.
///
/// A key in the heap may be earlier than its timer's deadline (the timer was moved later); it is put right when its turn
/// comes.
final class TimerQueue {
    private struct Entry {
        var key: Int64
        let timer: LoopTimer
    }

    private let uv: UnsafeMutablePointer<uv_loop_t>
    private unowned(unsafe) var loop: EventLoop?
    private var handle: UnsafeMutablePointer<uv_timer_t>?
    private var heap = ContiguousArray<Entry>()
    /// What the uv timer is set to; `.max` when it is stopped.
    private var armed = Int64.max

    init(_ uv: UnsafeMutablePointer<uv_loop_t>) { self.uv = uv }

    var count: Int { heap.count }

    func open(_ loop: EventLoop) {
        self.loop = loop
        let handle = UnsafeMutablePointer<uv_timer_t>.allocate(capacity: 1)
        handle.initialize(to: uv_timer_t())
        uv_timer_init(uv, handle)
        // The loop owns this queue and outlives the handle, which is closed before the loop ends.
        handle.pointee.data = Unmanaged.passUnretained(self).toOpaque()
        self.handle = handle
    }

    func close() {
        for entry in heap {
            entry.timer.index = -1
            entry.timer.deadline = nil
        }
        heap = []
        guard let handle else { return }
        self.handle = nil
        uv_close(UnsafeMutableRawPointer(handle).assumingMemoryBound(to: uv_handle_t.self)) { handle in
            guard let handle else { return }
            UnsafeMutableRawPointer(handle).assumingMemoryBound(to: uv_timer_t.self).deallocate()
        }
    }

    func schedule(_ timer: LoopTimer, at deadline: Instant) {
        guard handle != nil else { return }
        timer.deadline = deadline
        if timer.index < 0 {
            timer.index = heap.count
            heap.append(Entry(key: deadline.nanoseconds, timer: timer))
            siftUp(timer.index)
        } else if deadline.nanoseconds < heap[timer.index].key {
            heap[timer.index].key = deadline.nanoseconds
            siftUp(timer.index)
        }
    }

    func cancel(_ timer: LoopTimer) {
        timer.deadline = nil
        guard timer.index >= 0 else { return }
        remove(at: timer.index)
    }

    /// Sets the uv timer to the first key, at the end of a turn.
    func arm(now: Instant) {
        let first = heap.first?.key ?? .max
        guard first != armed, let handle else { return }
        armed = first
        if first == .max {
            uv_timer_stop(handle)
            return
        }
        // Rounded up, so that it is never early; libuv counts from its own cached time, on the same clock. At most an
        // hour ahead, which then just looks again.
        let due = first / 1_000_000 + 1
        let ahead = min(max(0, due - Int64(bitPattern: uv_now(uv))), 3_600_000)
        uv_timer_start(
            handle,
            { handle in
                guard let data = handle?.pointee.data else { return }
                Unmanaged<TimerQueue>.fromOpaque(data).takeUnretainedValue().fire()
            }, UInt64(ahead), 0)
    }

    private func fire() {
        guard let loop else { return }
        loop.enterCallback()
        // libuv runs timers before it polls as well: what they bring about must not wait until the poll returns, and the
        // time must be read again after it.
        uv_stop(uv)
        defer { loop.isTimeStale = true }
        armed = .max
        let now = loop.cachedNow.nanoseconds
        // Each timer at most once, so that one that schedules itself for now does not hold the loop.
        var remaining = heap.count
        while remaining > 0, let first = heap.first, first.key <= now {
            remaining -= 1
            let timer = first.timer
            if let deadline = timer.deadline, deadline.nanoseconds > now {
                heap[0].key = deadline.nanoseconds
                siftDown(0)
                continue
            }
            timer.deadline = nil
            remove(at: 0)
            timer.handler()
        }
    }

    // MARK: the heap

    private func remove(at index: Int) {
        let last = heap.count - 1
        heap[index].timer.index = -1
        if index != last {
            heap[index] = heap[last]
            heap[index].timer.index = index
        }
        heap.removeLast()
        if index != last {
            siftUp(index)
            siftDown(index)
        }
    }

    private func siftUp(_ start: Int) {
        var index = start
        while index > 0 {
            let parent = (index - 1) / 2
            guard heap[index].key < heap[parent].key else { return }
            exchange(index, parent)
            index = parent
        }
    }

    private func siftDown(_ start: Int) {
        var index = start
        while true {
            var least = index
            let left = 2 * index + 1
            if left < heap.count, heap[left].key < heap[least].key { least = left }
            if left + 1 < heap.count, heap[left + 1].key < heap[least].key { least = left + 1 }
            guard least != index else { return }
            exchange(index, least)
            index = least
        }
    }

    private func exchange(_ a: Int, _ b: Int) {
        heap.swapAt(a, b)
        heap[a].timer.index = a
        heap[b].timer.index = b
    }
}
