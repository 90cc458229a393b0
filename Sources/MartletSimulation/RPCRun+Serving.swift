import Martlet
import MartletCore
import MartletRPC

/// The server's side of a scenario: handlers that take their time.
extension RPCRun {
    /// How far the handler of a stream is.
    private final class ServedStream {
        /// The call that the first message names.
        var index: Int?
        var items = 0
    }

    func serve(_ event: RPCSessionEvent, in session: RPCSession) {
        switch event {
        case .incoming(let call):
            let isStream = call.method == "Test.collect" || call.method == "Test.converse"
            guard session.begin(call, awaitingRequest: !isStream) else { return }
            guard isStream else { return start(call, session) }
            call.worker = ServedStream()
            readStream(call, session)
        case .request(let call): start(call, session)
        case .readable(let call): readStream(call, session)
        case .cancelled(let call): session.handlerFinished(call, .failure(RPCError(.cancelled, "stopped")))
        case .finished, .handedOver, .writable, .lost: break
        }
    }

    /// Counts a run; nil when nobody made such a call.
    private func noteRun(_ request: RPCMessage) -> Int? {
        guard let index = request.number, runs.indices.contains(index) else {
            result.violations.append("a request that nobody sent")
            return nil
        }
        runs[index] += 1
        return index
    }

    private func start(_ call: RPCCall, _ session: RPCSession) {
        guard let request = session.takeRequest(of: call), let index = noteRun(request) else { return }
        simulation.schedule(after: random(below: .milliseconds(300))) { [unowned self] _ in
            switch calls[index].kind {
            case .failing: session.handlerFinished(call, .failure(RPCError(.aborted, "no")))
            case .items:
                for item in 0..<Self.itemCount { _ = try? session.send(RPCMessage(utf8: "\(item)"), on: call) }
                session.handlerFinished(call, .success(nil))
            case .unary, .large, .oneWay, .collect, .converse: session.handlerFinished(call, .success(request))
            }
            server.flush()
        }
    }

    private func readStream(_ call: RPCCall, _ session: RPCSession) {
        guard let served = call.worker as? ServedStream else { return }
        while true {
            switch session.take(from: call, now: simulation.now) {
            case .message(let message):
                guard served.index != nil else {
                    served.index = noteRun(message)
                    continue
                }
                if message.number != served.items { result.violations.append("messages of a call are out of order") }
                served.items += 1
                if call.method == "Test.converse" { _ = try? session.send(message, on: call) }
            case .end:
                guard let index = served.index, served.items == Self.itemCount else {
                    result.violations.append("a stream ended after \(served.items) messages")
                    return
                }
                let answer = call.method == "Test.collect" ? RPCMessage(utf8: "\(index)") : nil
                simulation.schedule(after: random(below: .milliseconds(100))) { [unowned self] _ in
                    session.handlerFinished(call, .success(answer))
                    server.flush()
                }
                return
            case .failed, .nothing: return
            }
        }
    }
}
