import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Answers the commands of this user over the control socket.
///
/// One thread does all the reading and writing; each request runs in a task, which is cancelled when its client goes away.
/// Bounded: so many clients, one request each of at most `ControlRequest.byteLimit`, and replies that wait for a slow
/// client are limited, too, progress being replaced by later progress.
final class ControlServer: @unchecked Sendable {
    /// Answers a request; `report` may be called any number of times before.
    typealias Handler =
        @Sendable (ControlRequest, _ report: @escaping @Sendable (ControlReply) -> Void) async throws -> ControlAnswer

    static let clientLimit = 32
    /// Lines waiting for a client that does not read.
    static let waitingLineLimit = 1024
    /// A client that has not sent its request by then is sent away.
    static let requestSeconds = 10

    private struct Outbox {
        var lines: [[UInt8]] = []
        var progress: [UInt8]?
        var isFinished = false
        var hasOverflowed = false
    }

    private struct Shared {
        var outboxes: [Int: Outbox] = [:]
        var isStopping = false
    }

    private struct Client {
        let id: Int
        let descriptor: CInt
        let deadline: time_t
        var input: [UInt8] = []
        var output: [UInt8] = []
        var task: Task<Void, Never>?
        var isRefused = false
    }

    private let path: String
    private let listener: CInt
    private let wakeRead: CInt
    private let wakeWrite: CInt
    private let handler: Handler
    private let shared = Mutex(Shared())
    private var thread: pthread_t?
    /// Those of the thread alone.
    private var clients: [Client] = []
    private var lastClient = 0

    /// Starts to listen at `path`.
    init(path: String, handler: @escaping Handler) throws {
        self.path = path
        self.handler = handler
        listener = try ControlSocket.listen(at: path)
        var pair: [CInt] = [-1, -1]
        guard pipe(&pair) == 0 else {
            close(listener)
            throw Failure.system("make the control socket", path, errno)
        }
        (wakeRead, wakeWrite) = (pair[0], pair[1])
        for descriptor in pair {
            ControlSocket.setNonBlocking(descriptor)
            _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        }
        thread = startThread { [self] in serve() }
    }

    /// Ends every request and takes the socket away.
    func stop() {
        let isFirst = shared.withLock { shared in
            defer { shared.isStopping = true }
            return !shared.isStopping
        }
        guard isFirst else { return }
        wake()
        if let thread { pthread_join(thread, nil) }
        for descriptor in [listener, wakeRead, wakeWrite] { close(descriptor) }
    }

    private func wake() {
        var byte: UInt8 = 0
        // A full pipe wakes as well as one byte more.
        _ = write(wakeWrite, &byte, 1)
    }

    // MARK: The thread

    private func serve() {
        while !shared.withLock({ $0.isStopping }) {
            var descriptors = [pollfd(fd: wakeRead, events: Int16(POLLIN), revents: 0)]
            descriptors.append(pollfd(fd: listener, events: Int16(POLLIN), revents: 0))
            for client in clients {
                let events = POLLIN | (client.output.isEmpty ? 0 : POLLOUT)
                descriptors.append(pollfd(fd: client.descriptor, events: Int16(events), revents: 0))
            }
            let isWaitingForRequests = clients.contains { $0.task == nil }
            guard poll(&descriptors, nfds_t(descriptors.count), isWaitingForRequests ? 1000 : -1) >= 0 || errno == EINTR
            else { break }
            if descriptors[0].revents != 0 { drainWake() }
            let ready = Set(descriptors.dropFirst(2).lazy.filter { $0.revents & Int16(~POLLOUT) != 0 }.map(\.fd))
            clients = clients.compactMap { serve($0, isReadable: ready.contains($0.descriptor)) }
            if descriptors[1].revents != 0 { acceptClients() }
        }
        for client in clients { drop(client) }
        clients = []
        unlink(path)
    }

    private func drainWake() {
        var buffer = [UInt8](repeating: 0, count: 256)
        while read(wakeRead, &buffer, buffer.count) == buffer.count {}
    }

    private func acceptClients() {
        while true {
            let descriptor = accept(listener, nil, nil)
            guard descriptor >= 0 else { return }
            _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
            ControlSocket.setNonBlocking(descriptor)
            lastClient += 1
            var client = Client(
                id: lastClient, descriptor: descriptor, deadline: time(nil) + time_t(Self.requestSeconds))
            if clients.count >= Self.clientLimit {
                client.output = Self.encode(
                    .failed(
                        Failure("the node already serves \(Self.clientLimit) commands; try again", code: "limitReached")
                    ))
                _ = flush(&client)
                drop(client)
            } else {
                clients.append(client)
            }
        }
    }

    /// Moves one client on. Nil when it is done with or gone.
    private func serve(_ client: Client, isReadable: Bool) -> Client? {
        var client = client
        if isReadable, !receive(&client) {
            drop(client)
            return nil
        }
        if client.task == nil, !client.isRefused, time(nil) > client.deadline {
            drop(client)
            return nil
        }
        while true {
            let isFinished = collect(&client)
            if client.output.isEmpty {
                guard isFinished else { return client }
                drop(client)
                return nil
            }
            guard flush(&client) else {
                drop(client)
                return nil
            }
            // The rest goes when the client has read some.
            if !client.output.isEmpty { return client }
        }
    }

    /// False when the client is gone or breaks the rules.
    private func receive(_ client: inout Client) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let n = read(client.descriptor, &buffer, buffer.count)
            if n < 0 { return errno == EAGAIN || errno == EINTR }
            // One request a connection; whoever closes it is no longer interested in the answer.
            if n == 0 || client.task != nil || client.isRefused { return false }
            client.input += buffer[..<n]
            if let end = client.input.firstIndex(of: 0x0A) {
                start(Array(client.input[..<end]), &client)
                client.input = []
            } else if client.input.count > ControlRequest.byteLimit {
                refuse(&client, "a request is at most \(ControlRequest.byteLimit) bytes")
            }
        }
    }

    private func refuse(_ client: inout Client, _ why: String) {
        client.isRefused = true
        client.input = []
        client.output += Self.encode(.failed(Failure(why, code: "invalidArgument", exitStatus: .usage)))
    }

    private func start(_ line: [UInt8], _ client: inout Client) {
        guard line.count <= ControlRequest.byteLimit, let request = try? JSON.decode(ControlRequest.self, from: line)
        else { return refuse(&client, "the node does not understand this request; is the command of another version?") }
        let id = client.id
        shared.withLock { $0.outboxes[id] = Outbox() }
        client.task = Task { [self] in
            do {
                let answer = try await handler(request) { [self] in post($0, to: id) }
                post(.done(answer), to: id)
            } catch {
                post(.failed(Failure(error)), to: id)
            }
        }
    }

    /// Leaves a reply for the thread to send. Replies to a client that is gone are dropped.
    private func post(_ reply: ControlReply, to id: Int) {
        let line = Self.encode(reply)
        shared.withLock { shared in
            guard shared.outboxes[id] != nil else { return }
            switch reply {
            case .progress: shared.outboxes[id]?.progress = line
            case .roundTrip:
                if shared.outboxes[id]?.lines.count ?? 0 >= Self.waitingLineLimit {
                    shared.outboxes[id]?.hasOverflowed = true
                } else {
                    shared.outboxes[id]?.lines.append(line)
                }
            case .done, .failed:
                shared.outboxes[id]?.lines.append(line)
                shared.outboxes[id]?.isFinished = true
            }
        }
        wake()
    }

    private static func encode(_ reply: ControlReply) -> [UInt8] {
        let line = (try? JSON.encode(reply)) ?? []
        guard !line.isEmpty, line.count <= ControlReply.byteLimit else {
            let failure = Failure("the answer is too long for the control socket", code: "limitReached")
            return ((try? JSON.encode(ControlReply.failed(failure))) ?? []) + [0x0A]
        }
        return line + [0x0A]
    }

    /// Takes what the client's task has left. True when nothing more will come.
    private func collect(_ client: inout Client) -> Bool {
        // While earlier lines wait, later ones stay where they are counted and progress is replaced.
        guard client.output.isEmpty else { return false }
        guard client.task != nil else { return client.isRefused }
        let id = client.id
        let outbox = shared.withLock { shared -> Outbox in
            let outbox = shared.outboxes[id] ?? Outbox()
            shared.outboxes[id]?.lines = []
            shared.outboxes[id]?.progress = nil
            return outbox
        }
        if outbox.hasOverflowed { return true }
        if let progress = outbox.progress { client.output += progress }
        for line in outbox.lines { client.output += line }
        return outbox.isFinished
    }

    /// False when the client is gone.
    private func flush(_ client: inout Client) -> Bool {
        while !client.output.isEmpty {
            let n = send(client.descriptor, client.output, client.output.count, CInt(MSG_NOSIGNAL))
            if n < 0 { return errno == EAGAIN || errno == EINTR }
            client.output.removeFirst(n)
        }
        return true
    }

    private func drop(_ client: Client) {
        client.task?.cancel()
        shared.withLock { _ = $0.outboxes.removeValue(forKey: client.id) }
        close(client.descriptor)
    }
}
