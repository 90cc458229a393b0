import CLibuv
import CMartlet
import DequeModule
public import MartletCore
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// One libuv loop, as a role that a few threads pass among themselves, and the executor of the tasks that belong to it.
///
///     let loop = group.next()
///     loop.execute { /* holds the loop: sockets, timers and connections of this loop may be touched here */ }
///     Task(executorPreference: loop) { /* a user's task: runs outside the role and may block */ }
///
/// A thread without a task to run takes the role, polls, runs the callbacks, flushes once, gives the role back and then
/// runs the tasks that the callbacks resumed. So at low load a request is read, handled and answered by one thread without
/// a hop, and still a task that blocks stalls nobody: a watching thread notices within about a millisecond and takes over.
/// Whoever holds the role owns everything confined to the loop; there are no other locks. Threads are added when tasks
/// block or keep the processor for long, and end when they have been idle.
///
/// Every libuv call is made by the holder of the role, and the role changes hands under one mutex: that is what allows a
/// libuv loop, which is not thread-safe, to move between threads.
public final class EventLoop: TaskExecutor, @unchecked Sendable {
    /// How a loop behaves; the defaults suit a node.
    public struct Configuration: Sendable {
        /// How long the holder of the role looks for input, yielding the processor, before it sleeps: about as long as
        /// waking a processor takes. Only amid traffic, and while input does come in that time. Zero turns it off (battery,
        /// many processes on few cores).
        public var spin: Duration = .microseconds(50)
        /// How long a thread of the loop runs at a time while others want its processor, where the system lets a thread choose
        /// (Linux 6.12 and later). A thread with a short slice has no less of the processor, but has it sooner when it wakes. Zero
        /// leaves it as it is.
        public var slice: Duration = .microseconds(100)
        /// Threads that stay: one that works, one that watches it, and more if wanted.
        public var minimumThreads = 2
        /// Threads while tasks are heavy but do not block.
        public var helpedThreads = 4
        /// Threads when tasks block; beyond them tasks wait.
        public var maximumThreads = 64
        /// How long a surplus thread waits for something to do before it ends.
        public var surplusThreadLifetime: Duration = .seconds(10)
        /// Bytes of stack of each thread.
        public var threadStackSize = 1 << 20

        public init() {}
    }

    enum Phase { case running, closing, ended }

    public let configuration: Configuration
    /// Bytes from the network land here; lent to whichever socket is reading. In-loop only.
    public let receiveBuffer: ReceiveBuffer
    let receivePool: BufferPool
    /// Where datagrams land that the kernel joins, each batch with room for the largest. In-loop only.
    let joinedBuffer: ReceiveBuffer
    let joinedPool: BufferPool
    let transmitPool: BufferPool
    let name: String

    // MARK: under `lock`

    let lock = Lock()
    let helperCondition = Condition()
    let watcherCondition = Condition()
    var phase = Phase.running
    var jobs = Deque<UnownedJob>()
    var remoteWorks = ContiguousArray<LoopWork>()
    var isRoleHeld = false
    var pace = JobPace()
    /// Counts jobs begun and roles taken, so that the watcher sees a standstill.
    var progress = 0
    var threadCount = 0
    var parkedHelpers = 0
    var helperSignals = 0
    var hasWatcher = false
    /// The watcher ticks (true) or sleeps until something happens.
    var isWatching = false
    /// The median of what a job takes, roughly.
    var typicalJobNanoseconds: Int64 = 0
    var threads: [pthread_t] = []
    var endWaiters: [CheckedContinuation<Void, Never>] = []

    /// The holder of the role is in the poll, or about to be: whoever brings something must wake it.
    let isSleeping = Atomic<Bool>(false)
    /// Something arrived for the holder of the role, who may be spinning.
    let hasArrivals = Atomic<Bool>(false)
    var wakeDescriptors: (CInt, CInt) = (-1, -1)

    // MARK: owned by the holder of the role

    let uv: UnsafeMutablePointer<uv_loop_t>
    var isOpen = false
    var wakePoll: PollHandle?
    let timers: TimerQueue
    var cachedNow = Instant.systemNow()
    /// The time must be read again at the first callback.
    var isTimeStale = false
    /// When the first callback of this turn came.
    var firstCallback: Instant?
    /// Counts turns. In-loop only.
    @exclusivity(unchecked) var turnCount = 0
    /// Counts callbacks, so that a turn knows whether it did something.
    var activity = 0
    var localWorks = ContiguousArray<LoopWork>()
    var runningWorks = ContiguousArray<LoopWork>()
    var endOfTurnWorks = ContiguousArray<LoopWork>()
    var runningEndOfTurnWorks = ContiguousArray<LoopWork>()
    var localJobs = ContiguousArray<UnownedJob>()
    var resources: [ObjectIdentifier: LoopResource] = [:]
    var lastTraffic = Instant(nanoseconds: 0)
    var hasRecentTraffic = false
    let spinNanoseconds: Int64
    var spinCredit = 16
    var sleepsSinceSpin = 0
    var idleTrim: LoopTimer?
    var batch: OpaquePointer?

    init(
        name: String, configuration: Configuration, receivePool: BufferPool, transmitPool: BufferPool
    ) throws(SocketError) {
        self.name = name
        self.configuration = configuration
        spinNanoseconds = configuration.spin.nanoseconds
        self.receivePool = receivePool
        self.transmitPool = transmitPool
        receiveBuffer = ReceiveBuffer(pool: receivePool)
        // Pages that nothing was received into take no memory.
        joinedPool = BufferPool(blockSize: DatagramSocket.joinedBatch * DatagramSocket.joinedSlot, idleLimit: 1)
        joinedBuffer = ReceiveBuffer(pool: joinedPool)
        uv = .allocate(capacity: 1)
        uv.initialize(to: uv_loop_t())
        let code = uv_loop_init(uv)
        guard code == 0 else {
            uv.deallocate()
            throw SocketError(.startLoop, nil, code: -code)
        }
        timers = TimerQueue(uv)
        var descriptors: [CInt] = [-1, -1]
        let wakeCode = martlet_wake_open(&descriptors)
        guard wakeCode == 0 else {
            uv_loop_close(uv)
            throw SocketError(.startLoop, nil, code: wakeCode)
        }
        wakeDescriptors = (descriptors[0], descriptors[1])
        guard start() else {
            uv_loop_close(uv)
            throw SocketError(.startLoop, nil, code: EAGAIN)
        }
    }

    deinit {
        // Only reached when no thread runs any more: each holds the loop.
        if wakeDescriptors.0 >= 0 {
            var descriptors = [wakeDescriptors.0, wakeDescriptors.1]
            martlet_wake_close(&descriptors)
        }
        if let batch { martlet_batch_destroy(batch) }
        uv.deinitialize(count: 1)
        uv.deallocate()
    }

    // MARK: for everyone

    /// Whether the calling thread holds this loop's role.
    public var inLoop: Bool {
        martlet_current_loop() == Unmanaged.passUnretained(self).toOpaque()
    }

    /// The time of this turn; off the loop, the system's time.
    public var now: Instant { inLoop ? cachedNow : Instant.systemNow() }

    /// Has `work.run()` called while holding the role, from any thread and without allocating. Calls before it ran are
    /// one; however much is scheduled, the loop is woken once. Works run in the order in which they were scheduled, from
    /// whatever threads: what is scheduled after another `schedule` has returned runs after that one's work.
    ///
    /// - Returns: false when the loop has ended, and the work will not run.
    @discardableResult
    public func schedule(_ work: LoopWork) -> Bool {
        if work.isScheduled.exchange(true, ordering: .acquiringAndReleasing) { return true }
        if inLoop {
            // Behind what other threads brought before: all of a loop's works run in the order in which they were scheduled.
            if hasArrivals.load(ordering: .relaxed) { takeArrivals() }
            localWorks.append(work)
            return true
        }
        lock.lock()
        guard phase != .ended else {
            lock.unlock()
            work.isScheduled.store(false, ordering: .releasing)
            return false
        }
        remoteWorks.append(work)
        finishArrival(ownWorkerReturns: false)
        return true
    }

    /// Runs `body` while holding the role: later in this turn when called on the loop, else woken for it.
    ///
    /// - Returns: false when the loop has ended, and the body will not run.
    @discardableResult
    public func execute(_ body: @escaping @Sendable () -> Void) -> Bool {
        schedule(ClosureWork(body))
    }

    /// Runs `body` while holding the role and returns what it returns.
    ///
    /// - Throws: what `body` throws, or `SocketError` with `ESHUTDOWN` when the loop has ended.
    public func perform<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
        try await withCheckedThrowingContinuation { continuation in
            let accepted = execute { continuation.resume(with: Result { try body() }) }
            if !accepted { continuation.resume(throwing: SocketError(.startLoop, nil, code: ESHUTDOWN)) }
        }
    }

    /// Takes a task's next piece; it runs on one of the loop's threads, outside the role. After the loop has ended it
    /// runs on the global executor, so that no task is left hanging.
    public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        if inLoop {
            localJobs.append(job)
            return
        }
        lock.lock()
        guard phase != .ended else {
            lock.unlock()
            globalConcurrentExecutor.enqueue(job)
            return
        }
        jobs.append(job)
        startWatching()
        // A thread of this loop that runs a job will come back to the queue by itself.
        finishArrival(ownWorkerReturns: martlet_worker_loop() == Unmanaged.passUnretained(self).toOpaque())
    }

    // MARK: in-loop only

    /// Has `work.run()` called once at the end of this turn, after all callbacks: where connections flush what the whole
    /// turn produced. In-loop only; calls before it ran are one.
    public func atEndOfTurn(_ work: LoopWork) {
        assert(inLoop, "atEndOfTurn is for the holder of the loop")
        guard !work.isAtEndOfTurn else { return }
        work.isAtEndOfTurn = true
        endOfTurnWorks.append(work)
    }

    /// Memory for one write, from the pool; it goes back by itself.
    public func takeTransmitStorage() -> BytesStorage { transmitPool.take() }

    // MARK: helpers

    /// Wakes who must be woken. Called with the lock held; releases it.
    private func finishArrival(ownWorkerReturns: Bool) {
        hasArrivals.store(true, ordering: .relaxed)
        let wake = !ownWorkerReturns && isSleeping.exchange(false, ordering: .sequentiallyConsistent)
        lock.unlock()
        if wake { ring() }
    }

    func ring() {
        withUnsafePointer(to: wakeDescriptors) {
            // A tuple of two integers has the layout of an array of two.
            $0.withMemoryRebound(to: CInt.self, capacity: 2) { martlet_wake_send($0) }
        }
    }
}
