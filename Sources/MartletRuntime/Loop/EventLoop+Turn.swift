import CLibuv
import CMartlet
import MartletCore
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// One turn of the loop, by the thread that holds the role.
extension EventLoop {
    /// Rounds of end-of-turn work that call for more of it, before the rest waits for the next turn.
    private static let endOfTurnRounds = 8
    /// Traffic at shorter intervals than this makes spinning worth while.
    private static let spinWindow: Int64 = 250_000
    /// Spins in vain before spinning stops, and sleeps until it is tried once again.
    private static let spinCreditLimit = 16
    private static let spinProbeInterval = 32
    private static let trimInterval = Duration.seconds(1)

    /// - Returns: when and how long nothing was to be done, if so.
    func turn(mayBlock: Bool) -> JobPace.Wait? {
        if !isOpen { open() }
        turnCount &+= 1
        cachedNow = Instant.systemNow()
        isTimeStale = false
        let activityBefore = activity
        let didWork = finishCallbacks()

        var wait: JobPace.Wait?
        firstCallback = nil
        if !mayBlock || !localWorks.isEmpty || !localJobs.isEmpty {
            poll(UV_RUN_NOWAIT)
        } else {
            let begin = Instant.systemNow()
            if !spin(), prepareToSleep() {
                poll(UV_RUN_ONCE)
                isSleeping.store(false, ordering: .sequentiallyConsistent)
            }
            wait = JobPace.Wait(from: begin, to: firstCallback ?? Instant.systemNow())
        }
        if isTimeStale { cachedNow = Instant.systemNow() }
        isTimeStale = false
        let didMore = finishCallbacks()

        if didWork || didMore || activity != activityBefore { noteTraffic() }
        endIfClosed()
        return wait
    }

    /// To be called first in every callback from libuv.
    @inline(__always)
    func enterCallback() {
        activity &+= 1
        guard isTimeStale else { return }
        isTimeStale = false
        cachedNow = Instant.systemNow()
        if firstCallback == nil { firstCallback = cachedNow }
        // Awake: no need to ring. Only saves rings, so no ordering is needed.
        isSleeping.store(false, ordering: .relaxed)
    }

    /// Runs what was scheduled, then the end of the turn. True when there was anything.
    private func finishCallbacks() -> Bool {
        let didWork = runWorks()
        runEndOfTurn()
        timers.arm(now: cachedNow)
        return didWork
    }

    private func poll(_ mode: uv_run_mode) {
        isTimeStale = true
        uv_run(uv, mode)
    }

    /// Looks for input for a short while without sleeping, giving the processor to whoever wants it. True when something
    /// came. Traffic that never comes in time is soon left to the poll.
    private func spin() -> Bool {
        guard hasRecentTraffic, spinNanoseconds > 0 else { return false }
        if spinCredit == 0 {
            sleepsSinceSpin += 1
            guard sleepsSinceSpin >= Self.spinProbeInterval else { return false }
            sleepsSinceSpin = 0
        }
        let found = lookForInput()
        spinCredit = found ? min(spinCredit + 4, Self.spinCreditLimit) : max(spinCredit - 1, 0)
        return found
    }

    private func lookForInput() -> Bool {
        let deadline = cachedNow.nanoseconds + spinNanoseconds
        let before = activity
        repeat {
            poll(UV_RUN_NOWAIT)
            if activity != before || !localJobs.isEmpty || hasArrivals.load(ordering: .relaxed) { return true }
            sched_yield()
        } while Instant.systemNow().nanoseconds < deadline
        return false
    }

    /// Checks under the lock that nothing has arrived; from then on whoever brings something rings. False when something
    /// has.
    private func prepareToSleep() -> Bool {
        lock.lock()
        defer { lock.unlock() }
        guard remoteWorks.isEmpty, jobs.isEmpty else { return false }
        isSleeping.store(true, ordering: .sequentiallyConsistent)
        return true
    }

    private func runWorks() -> Bool {
        if hasArrivals.load(ordering: .relaxed) { takeArrivals() }
        if localWorks.isEmpty { return false }
        swap(&localWorks, &runningWorks)
        // What they schedule comes in the next round, after a poll.
        for work in runningWorks {
            work.isScheduled.store(false, ordering: .sequentiallyConsistent)
            work.run()
        }
        runningWorks.removeAll(keepingCapacity: true)
        return true
    }

    /// Puts what other threads have brought behind what is there.
    func takeArrivals() {
        lock.lock()
        hasArrivals.store(false, ordering: .relaxed)
        if localWorks.isEmpty {
            swap(&remoteWorks, &localWorks)
        } else {
            localWorks.append(contentsOf: remoteWorks)
            remoteWorks.removeAll(keepingCapacity: true)
        }
        lock.unlock()
    }

    private func runEndOfTurn() {
        var rounds = 0
        while !endOfTurnWorks.isEmpty {
            rounds += 1
            swap(&endOfTurnWorks, &runningEndOfTurnWorks)
            for work in runningEndOfTurnWorks {
                work.isAtEndOfTurn = false
                if rounds > Self.endOfTurnRounds { schedule(work) } else { work.run() }
            }
            runningEndOfTurnWorks.removeAll(keepingCapacity: true)
        }
    }

    private func noteTraffic() {
        hasRecentTraffic = cachedNow.nanoseconds - lastTraffic.nanoseconds < Self.spinWindow
        lastTraffic = cachedNow
    }

    // MARK: beginning and end

    private func open() {
        isOpen = true
        let poll = PollHandle(loop: self, descriptor: wakeDescriptors.0) { [unowned self] _, _ in
            withUnsafePointer(to: self.wakeDescriptors) {
                $0.withMemoryRebound(to: CInt.self, capacity: 2) { martlet_wake_drain($0) }
            }
        }
        wakePoll = poll
        poll?.update(.readable)
        timers.open(self)
    }

    /// Gives idle buffers back, when nothing was received for a while. Whoever uses the loop's buffers calls this.
    public func noteBufferUse() {
        let timer = idleTrim ?? LoopTimer(loop: self) { [unowned self] in self.trim() }
        idleTrim = timer
        if timer.deadline == nil { timer.schedule(at: cachedNow + Self.trimInterval) }
    }

    private func trim() {
        guard cachedNow - lastTraffic >= Self.trimInterval else {
            idleTrim?.schedule(at: cachedNow + Self.trimInterval)
            return
        }
        receiveBuffer.release()
        joinedBuffer.release()
        receivePool.trim()
        joinedPool.trim()
        transmitPool.trim()
    }

    /// Starts closing everything; tasks may go on. From any thread.
    func beginShutdown() {
        lock.lock()
        guard phase == .running else {
            lock.unlock()
            return
        }
        phase = .closing
        lock.unlock()
        execute { [self] in
            for resource in Array(resources.values) { resource.closeForShutdown() }
            timers.close()
            idleTrim = nil
            wakePoll?.close()
        }
    }

    /// Waits until everything is closed and the threads are gone.
    func waitUntilEnded() async {
        await withCheckedContinuation { continuation in
            lock.lock()
            if phase == .ended, threadCount == 0 {
                lock.unlock()
                continuation.resume()
            } else {
                endWaiters.append(continuation)
                lock.unlock()
            }
        }
    }

    private func endIfClosed() {
        guard let wakePoll, wakePoll.isClosed else { return }
        while uv_loop_alive(uv) != 0 { poll(UV_RUN_ONCE) }
        var rounds = 0
        while true {
            _ = finishCallbacks()
            while uv_loop_alive(uv) != 0 { poll(UV_RUN_ONCE) }
            rounds += 1
            lock.lock()
            // A work that schedules itself for ever does not keep the loop from ending.
            if remoteWorks.isEmpty && localWorks.isEmpty && endOfTurnWorks.isEmpty || rounds > 1_000 { break }
            lock.unlock()
        }
        phase = .ended
        watcherCondition.broadcast()
        helperCondition.broadcast()
        lock.unlock()
        receiveBuffer.release()
        joinedBuffer.release()
        let code = uv_loop_close(uv)
        precondition(code == 0, "a loop ended with handles open: \(code)")
        self.wakePoll = nil
    }
}
