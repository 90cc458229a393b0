import MartletCore

@testable import MartletRPC

/// A caller's session and a server's, joined by streams in memory that can be cut after any byte.
final class SessionPair {
    /// What the server does with a call, by the method's name.
    enum Behaviour {
        case echo
        case fail(RPCError)
        /// So many messages, then the end.
        case items(Int)
        /// Nothing, until told.
        case hang
        /// Answers with all that was sent, once the caller has finished.
        case collect
        /// Answers each message as it comes, and says at the end how many there were.
        case converse
        case refuse(RPCError)
    }

    let caller: RPCSession
    let server: RPCSession
    var now = Instant(nanoseconds: 1)
    var behaviours: [String: Behaviour] = ["Echo.echo": .echo]
    /// How often each request was run, by its text.
    private(set) var runs: [String: Int] = [:]
    /// How each call ended, by its token.
    private(set) var results: [Int: Result<RPCMessage, RPCError>] = [:]
    private(set) var endings: [Int: Int] = [:]
    private(set) var handedOver: [Int] = []
    private(set) var callerEvents: [RPCSessionEvent] = []
    /// Calls whose handlers run.
    private(set) var running: [RPCCall] = []
    private(set) var cancelled: [RPCCall] = []
    private(set) var lost: RPCError?
    var isConnected = true

    enum Interruption: CaseIterable {
        /// Both sides learn that the connection is lost.
        case cut
        /// The caller goes over to another connection; what is under way on the old one is lost.
        case move
    }
    var interruption = Interruption.cut
    /// How many bytes may still go each way before the interruption comes; nil for any number.
    var bytesToServer: Int?
    var bytesToCaller: Int?
    private(set) var sentToServer = 0
    private(set) var sentToCaller = 0
    private var helloBytes: [RPCPriority: [UInt8]] = [:]
    private var nextToken = 0
    /// How many bytes at a time are handed over; nil for as they come.
    var pieceSize: Int?

    init(limits: RPCLimits = RPCLimits(), serverLimits: RPCLimits? = nil) {
        let id = RPCSessionID(high: 1, low: 2)
        caller = RPCSession(role: .caller, id: id, limits: limits)
        server = RPCSession(role: .server, id: id, limits: serverLimits ?? limits)
    }

    @discardableResult
    func call(
        _ method: String, _ message: RPCMessage?, kind: RPCCall.Kind = .unary,
        priority: RPCPriority = .activation, deadline: Duration? = nil, metadata: RPCMetadata = [:],
        whenCutOff: RPCCutOffPolicy = .wait
    ) throws(RPCError) -> (token: Int, call: RPCCall?) {
        nextToken += 1
        let call = try caller.start(
            RPCCallRequest(
                method: method, kind: kind, message: message, priority: priority, metadata: metadata,
                deadline: deadline.map { now + $0 }, whenCutOff: whenCutOff), token: nextToken, now: now)
        return (nextToken, call)
    }

    /// An echo.
    @discardableResult
    func echo(
        _ message: RPCMessage, kind: RPCCall.Kind = .unary, priority: RPCPriority = .activation,
        deadline: Duration? = nil, metadata: RPCMetadata = [:]
    ) throws(RPCError) -> (token: Int, call: RPCCall?) {
        try call("Echo.echo", message, kind: kind, priority: priority, deadline: deadline, metadata: metadata)
    }

    func result(of token: Int) throws -> RPCMessage? { try results[token]?.get() }

    func error(of token: Int) -> RPCError? {
        if case .failure(let error)? = results[token] { error } else { nil }
    }

    // MARK: Moving bytes

    /// Moves everything that there is to move, connecting anew after every cut.
    func run() {
        for _ in 0..<10_000 {
            var moved = false
            for lane in RPCPriority.allCases {
                if isConnected, caller.needsLink(lane) {
                    caller.openLink(lane)
                    helloBytes[lane] = []
                    moved = true
                }
                while let bytes = caller.nextOutput(lane) {
                    moved = true
                    guard toServer(bytes, lane) else { break }
                }
                while let bytes = server.nextOutput(lane) {
                    moved = true
                    // Until the hello has come, the server speaks on a stream that nobody hears.
                    guard caller.lane(lane).linkCount == server.lane(lane).linkCount else { continue }
                    guard toCaller(bytes, lane) else { break }
                }
            }
            drain()
            if !moved { return }
        }
        preconditionFailure("the two never come to rest")
    }

    func cut() {
        for lane in RPCPriority.allCases {
            caller.linkLost(lane, now: now)
            server.linkLost(lane, now: now)
            helloBytes[lane] = nil
        }
    }

    /// The caller gives every lane that has a stream another one.
    func move() {
        for lane in RPCPriority.allCases where caller.isLinked(lane) {
            caller.openLink(lane)
            helloBytes[lane] = []
        }
    }

    private func interrupt() {
        drain()
        switch interruption {
        case .cut: cut()
        case .move: move()
        }
    }

    /// False when the interruption came.
    private func toServer(_ bytes: Bytes, _ lane: RPCPriority) -> Bool {
        let count = min(bytes.count, bytesToServer ?? bytes.count)
        sentToServer += count
        feed(bytes.prefix(count)) { receiveAtServer($0, lane) }
        guard let left = bytesToServer else { return true }
        bytesToServer = left - count
        guard count == left else { return true }
        bytesToServer = nil
        interrupt()
        return false
    }

    private func toCaller(_ bytes: Bytes, _ lane: RPCPriority) -> Bool {
        let count = min(bytes.count, bytesToCaller ?? bytes.count)
        sentToCaller += count
        feed(bytes.prefix(count)) { caller.receive($0, on: lane, now: now) }
        guard let left = bytesToCaller else { return true }
        bytesToCaller = left - count
        guard count == left else { return true }
        bytesToCaller = nil
        interrupt()
        return false
    }

    private func feed(_ bytes: Bytes, _ body: (Bytes) -> Void) {
        guard let pieceSize else { return body(bytes) }
        var rest = bytes
        while !rest.isEmpty { body(rest.takeFirst(min(pieceSize, rest.count))) }
    }

    private func receiveAtServer(_ bytes: Bytes, _ lane: RPCPriority) {
        guard var hello = helloBytes[lane] else { return server.receive(bytes, on: lane, now: now) }
        hello += bytes.array
        helloBytes[lane] = hello
        guard let (decoded, size) = try? RPCHello.decode(hello.span.bytes) else { return }
        helloBytes[lane] = nil
        _ = server.acceptLink(decoded)
        server.receive(Bytes(Array(hello.dropFirst(size))), on: lane, now: now)
    }

    // MARK: What happens

    func drain() {
        while let event = caller.nextEvent() {
            callerEvents.append(event)
            switch event {
            case .finished(let call, let result):
                endings[call.token, default: 0] += 1
                results[call.token] = result
            case .handedOver(let call): handedOver.append(call.token)
            case .lost(let error): lost = error
            case .readable, .writable, .incoming, .request, .cancelled: break
            }
        }
        while let event = server.nextEvent() {
            switch event {
            case .incoming(let call): incoming(call)
            case .request(let call): serve(call)
            case .cancelled(let call):
                cancelled.append(call)
                finish(call, .failure(RPCError(.cancelled, "stopped")))
            case .readable(let call): collect(call)
            case .finished, .handedOver, .writable, .lost: break
            }
        }
    }

    private func incoming(_ call: RPCCall) {
        switch behaviours[call.method] {
        case .refuse(let error)?: server.refuse(call, error)
        case .collect?, .converse?: if server.begin(call, awaitingRequest: false) { collect(call) }
        case .some: if server.begin(call, awaitingRequest: true) { serve(call) }
        case nil: server.refuse(call, RPCError(.unimplemented, "no method \(call.method)"))
        }
    }

    private var collected: [ObjectIdentifier: [String]] = [:]

    private func collect(_ call: RPCCall) {
        while true {
            switch server.take(from: call, now: now) {
            case .message(let message):
                collected[ObjectIdentifier(call), default: []].append(message.text)
                guard case .converse? = behaviours[call.method] else { continue }
                _ = try? server.send(RPCMessage(utf8: "re: " + message.text), on: call)
            case .end:
                let all = collected.removeValue(forKey: ObjectIdentifier(call)) ?? []
                runs[all.joined(separator: ","), default: 0] += 1
                if case .converse? = behaviours[call.method] {
                    return server.handlerFinished(call, .success(RPCMessage(utf8: "\(all.count) in all")))
                }
                return server.handlerFinished(call, .success(RPCMessage(utf8: all.joined(separator: ","))))
            case .failed, .nothing: return
            }
        }
    }

    private func serve(_ call: RPCCall) {
        guard let request = server.takeRequest(of: call) else { return }
        runs[request.byteCount < 100 ? request.text : "\(request.byteCount)", default: 0] += 1
        switch behaviours[call.method] {
        case .echo?: server.handlerFinished(call, .success(request))
        case .fail(let error)?: server.handlerFinished(call, .failure(error))
        case .items(let count)?:
            for index in 0..<count { _ = try? server.send(RPCMessage(utf8: "\(index)"), on: call) }
            server.handlerFinished(call, .success(nil))
        case .hang?: running.append(call)
        case .collect?, .converse?, .refuse?, nil: break
        }
    }

    func finish(_ call: RPCCall, _ result: Result<RPCMessage?, RPCError>) {
        running.removeAll { $0 === call }
        server.handlerFinished(call, result)
    }

    /// Everything that a stream has for its caller now.
    func takeAll(_ call: RPCCall) -> (texts: [String], end: RPCTaken) {
        var texts: [String] = []
        while true {
            let taken = caller.take(from: call, now: now)
            guard case .message(let message) = taken else { return (texts, taken) }
            texts.append(message.text)
        }
    }
}

extension RPCSession {
    /// All that it has to send on a lane now.
    func outputs(_ lane: RPCPriority) -> [Bytes] {
        var all: [Bytes] = []
        while let bytes = nextOutput(lane) { all.append(bytes) }
        return all
    }
}
