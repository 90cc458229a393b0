import CLibuv
import CMartlet
import DequeModule
import MartletCore
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The threads of a loop: who works, who watches, who helps.
extension EventLoop {
    /// Work waiting that is worth another thread: twice what waking one takes.
    private static let helpThreshold: Int64 = 100_000
    /// Jobs shorter than this are not shared: they spend their time on what they share, and two threads would fight for it.
    private static let shortJob: Int64 = 4_000
    private static let watchTick: Int64 = 1_000_000
    /// Ticks without anything to watch before the watcher sleeps.
    private static let quietTicks = 20

    /// The slice that the calling thread runs in; nil where the system does not tell.
    static var sliceOfThisThread: Duration? {
        let slice = martlet_slice()
        return slice == 0 ? nil : .nanoseconds(Int64(clamping: slice))
    }

    /// Starts the threads; false when the system refuses them, and then none is left.
    func start() -> Bool {
        lock.withLock {
            // One that watches and one that works.
            let started = startWorker() && startWorker()
            if !started {
                // One that is there already has not taken the role: it watches.
                phase = .ended
                watcherCondition.broadcast()
            }
            return started
        }
    }

    /// Adds a thread; false when there may be no more. Under the lock.
    private func startWorker() -> Bool {
        guard threadCount < configuration.maximumThreads else { return false }
        guard let thread = startThread(stackSize: configuration.threadStackSize, { self.work() }) else { return false }
        threadCount += 1
        threads.append(thread)
        return true
    }

    private func work() {
        let own = Unmanaged.passUnretained(self).toOpaque()
        martlet_set_worker_loop(own)
        martlet_name_thread(name)
        if configuration.slice > .zero { _ = martlet_set_slice(UInt64(clamping: configuration.slice.nanoseconds)) }
        let executor = asUnownedTaskExecutor()
        var sample = 0
        lock.lock()
        // A thread that was added because the watcher left to work watches first, whatever waits: it may block all others.
        if !hasWatcher { watch() }
        while true {
            if phase != .ended, !isRoleHeld, jobs.isEmpty || pace.isDue {
                isRoleHeld = true
                pace.polls()
                progress &+= 1
                let mayBlock = jobs.isEmpty
                lock.unlock()
                martlet_set_current_loop(own)
                let wait = turn(mayBlock: mayBlock)
                martlet_set_current_loop(nil)
                lock.lock()
                isRoleHeld = false
                publishLocalJobs()
                pace.polled(jobCount: jobs.count, wait: wait)
            } else if let job = jobs.popFirst() {
                pace.runsJob()
                progress &+= 1
                // With cheap jobs only some are timed: reading the clock costs as much as they do.
                sample &+= 1
                let isTimed = typicalJobNanoseconds > 5_000 || sample & 7 == 0
                if typicalJobNanoseconds > Self.shortJob,
                    Int64(jobs.count + 1) * typicalJobNanoseconds > Self.helpThreshold
                {
                    askForHelp()
                }
                lock.unlock()
                if isTimed {
                    let begin = Instant.systemNow().nanoseconds
                    job.runSynchronously(on: executor)
                    let spent = Instant.systemNow().nanoseconds - begin
                    lock.lock()
                    noteJob(of: spent)
                } else {
                    job.runSynchronously(on: executor)
                    lock.lock()
                }
            } else if phase == .ended || !park() {
                break
            }
        }
        endThread()
    }

    /// Follows the median: a job that another process interrupted says nothing of the others, and an average would take it
    /// for a heavy one, call for help and so make interruptions more frequent. Under the lock.
    private func noteJob(of nanoseconds: Int64) {
        let step = max(50, typicalJobNanoseconds / 8)
        typicalJobNanoseconds += nanoseconds > typicalJobNanoseconds ? step : -min(step, typicalJobNanoseconds)
    }

    /// Moves what the turn resumed to the common queue. Under the lock.
    private func publishLocalJobs() {
        guard !localJobs.isEmpty else { return }
        jobs.append(contentsOf: localJobs)
        localJobs.removeAll(keepingCapacity: true)
        startWatching()
    }

    /// Rouses the sleeping watcher: from now on somebody may block. Under the lock.
    func startWatching() {
        guard !isWatching else { return }
        isWatching = true
        if hasWatcher { watcherCondition.signal() }
    }

    /// Gets another thread to work, if that is reasonable. Under the lock.
    private func askForHelp() {
        if parkedHelpers > helperSignals {
            helperSignals += 1
            helperCondition.signal()
        } else if parkedHelpers == 0, hasWatcher, threadCount < configuration.helpedThreads {
            _ = startWorker()
        }
    }

    /// Waits for something to do. False when the thread is surplus and shall end. Under the lock.
    private func park() -> Bool {
        if !hasWatcher {
            watch()
            return true
        }
        parkedHelpers += 1
        let signalled = helperCondition.wait(lock, nanoseconds: configuration.surplusThreadLifetime.nanoseconds)
        parkedHelpers -= 1
        if helperSignals > 0 { helperSignals -= 1 }
        if !hasWatcher {
            watch()
            return true
        }
        return signalled || threadCount <= configuration.minimumThreads || phase == .ended
    }

    /// Looks once a millisecond whether things move, while there is something to look at. Returns when this thread is
    /// needed itself. Under the lock.
    private func watch() {
        hasWatcher = true
        var seen = progress
        var quiet = 0
        while phase != .ended {
            guard isWatching else {
                watcherCondition.wait(lock)
                seen = progress
                quiet = 0
                continue
            }
            _ = watcherCondition.wait(lock, nanoseconds: Self.watchTick)
            if progress != seen {
                seen = progress
                quiet = 0
            } else if !isRoleHeld || !jobs.isEmpty {
                // Nothing moved for a tick: every other thread is in a job that takes long, or blocks.
                break
            } else {
                quiet += 1
                if quiet > Self.quietTicks { isWatching = false }
            }
        }
        hasWatcher = false
        guard phase != .ended else { return }
        // Somebody must watch in turn.
        if parkedHelpers > helperSignals {
            helperSignals += 1
            helperCondition.signal()
        } else {
            _ = startWorker()
        }
    }

    /// The last thing a thread does. Called with the lock held; releases it.
    private func endThread() {
        threadCount -= 1
        guard threadCount == 0 else {
            if phase != .ended {
                // A surplus thread: nobody will join it.
                let own = pthread_self()
                threads.removeAll { pthread_equal($0, own) != 0 }
                pthread_detach(own)
            }
            lock.unlock()
            return
        }
        let own = pthread_self()
        let others = threads.filter { pthread_equal($0, own) == 0 }
        threads = []
        let waiters = endWaiters
        endWaiters = []
        lock.unlock()
        // The others are past their last use of the loop; this thread is the only one that nobody can wait for.
        for thread in others { pthread_join(thread, nil) }
        pthread_detach(own)
        martlet_set_worker_loop(nil)
        for waiter in waiters { waiter.resume() }
    }
}
