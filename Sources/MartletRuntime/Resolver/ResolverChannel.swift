import CCares
import MartletCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A c-ares channel on a loop, made for the first look-up and destroyed some time after the last.
///
/// In-loop only, except for its making. c-ares may call back from inside any call into it; nothing is destroyed there.
final class ResolverChannel: LoopResource, @unchecked Sendable {
    private(set) var ares: ares_channel?
    private let configuration: Resolver.Configuration
    private var polls: [CInt: PollHandle] = [:]
    private var retryTimer: LoopTimer?
    private var idleTimer: LoopTimer?
    private var queryCount = 0

    /// How long a channel without look-ups is kept, for those that come in a row.
    private static let idleTime = Duration.seconds(2)
    /// Initialises the library once per process; it needs no clean-up on Unix.
    private static let libraryStatus = ares_library_init(CInt(ARES_LIB_INIT_ALL))

    init(loop: EventLoop, configuration: Resolver.Configuration) {
        self.configuration = configuration
        super.init(loop: loop)
    }

    func begin(_ query: AnyResolverQuery) {
        guard query.isWaiting else { return }
        guard queryCount < configuration.maximumQueries else {
            return query.fail(.tooManyQueries(limit: configuration.maximumQueries))
        }
        if let reason = open() {
            return query.fail(reason == "" ? .shutDown : .failed(name: query.name, reason: reason))
        }
        queryCount += 1
        idleTimer?.cancel()
        let timer = LoopTimer(loop: loop) { [weak query] in
            guard let query else { return }
            query.fail(.timedOut(name: query.name))
        }
        query.timer = timer
        timer.schedule(at: loop.now + configuration.timeout)
        query.start(self)
        scheduleRetry()
    }

    /// c-ares has answered; called from inside it.
    func finished(_ query: AnyResolverQuery) {
        query.timer?.cancel()
        query.timer = nil
        queryCount -= 1
        guard queryCount == 0, ares != nil else { return }
        let timer = idleTimer ?? LoopTimer(loop: loop) { [unowned self] in destroy() }
        idleTimer = timer
        timer.schedule(at: loop.now + Self.idleTime)
    }

    override func closeForShutdown() { destroy() }

    /// The reason why there can be no channel; empty when the loop is shutting down.
    private func open() -> String? {
        guard ares == nil else { return nil }
        guard Self.libraryStatus == CInt(ARES_SUCCESS) else { return "c-ares does not start" }
        guard register() else { return "" }
        var options = ares_options()
        options.flags = CInt(ARES_FLAG_EDNS)
        options.ednspsz = 1232
        options.timeout = CInt(clamping: configuration.tryTimeout.nanoseconds / 1_000_000)
        options.tries = CInt(clamping: configuration.tries)
        options.sock_state_cb = { data, descriptor, readable, writable in
            guard let data else { return }
            // Alive: whoever calls into c-ares holds the channel.
            Unmanaged<ResolverChannel>.fromOpaque(data).takeUnretainedValue()
                .watch(descriptor, readable != 0, writable != 0)
        }
        options.sock_state_cb_data = Unmanaged.passUnretained(self).toOpaque()
        let mask =
            ARES_OPT_FLAGS | ARES_OPT_EDNSPSZ | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB
            | ARES_OPT_LOOKUPS
        var channel: ares_channel?
        var lookups: [CChar] = [0x66, 0x62, 0]  // "fb": the hosts file, then DNS
        var status = lookups.withUnsafeMutableBufferPointer { lookups in
            options.lookups = lookups.baseAddress
            return ares_init_options(&channel, &options, CInt(mask))
        }
        if status == CInt(ARES_SUCCESS), let servers = configuration.servers {
            status = ares_set_servers_ports_csv(channel, servers.map(\.description).joined(separator: ","))
        }
        guard status == CInt(ARES_SUCCESS) else {
            if let channel { ares_destroy(channel) }
            unregister()
            return ares_strerror(status).map { String(cString: $0) } ?? "status \(status)"
        }
        ares = channel
        retryTimer = LoopTimer(loop: loop) { [unowned self] in process(ARES_SOCKET_BAD, ARES_SOCKET_BAD) }
        return nil
    }

    private func destroy() {
        guard let channel = ares else { return }
        ares = nil
        // Answers what is open with an error.
        ares_destroy(channel)
        for poll in polls.values { poll.close() }
        polls = [:]
        retryTimer?.cancel()
        idleTimer?.cancel()
        unregister()
    }

    private func watch(_ descriptor: CInt, _ readable: Bool, _ writable: Bool) {
        guard readable || writable else {
            // c-ares closes the descriptor after this.
            polls.removeValue(forKey: descriptor)?.close()
            return
        }
        let poll =
            polls[descriptor]
            ?? PollHandle(loop: loop, descriptor: descriptor) { [unowned self] failed, events in
                process(
                    failed || events.contains(.readable) ? descriptor : ARES_SOCKET_BAD,
                    failed || events.contains(.writable) ? descriptor : ARES_SOCKET_BAD)
            }
        // Without it the look-up times out.
        guard let poll else { return }
        polls[descriptor] = poll
        poll.update(readable ? (writable ? [.readable, .writable] : .readable) : .writable)
    }

    private func process(_ readable: CInt, _ writable: CInt) {
        guard let ares else { return }
        ares_process_fd(ares, readable, writable)
        scheduleRetry()
    }

    private func scheduleRetry() {
        guard let ares else { return }
        var time = timeval()
        if ares_timeout(ares, nil, &time) != nil {
            let delay = Duration.seconds(Int64(time.tv_sec)) + .microseconds(Int64(time.tv_usec))
            retryTimer?.schedule(at: loop.now + max(delay, .milliseconds(1)))
        } else {
            retryTimer?.cancel()
        }
    }
}
