import MartletCore
import MartletIdentity
import MartletRPC

/// Serves one unary call of a Lattica node, which has a stream to itself.
struct LatticaUnarySession {
    let stream: MeshStream
    let state: LatticaState

    /// - Throws: when the stream is lost, or what came is no request.
    func run() async throws {
        let limits = state.limits
        // Kept until the call is answered.
        let reservation = state.budget.reservation(for: stream.peer)
        defer { withExtendedLifetime(reservation) {} }
        let request = try await withLatticaTimeout(limits.timeout) { [stream] in
            var machine = LatticaUnaryServer(limits: limits)
            while let bytes = try await stream.read() {
                machine.received(bytes)
                if let refusal = reservation.set(machine.bufferedByteCount, limits) {
                    machine.refuse(refusal)
                    _ = reservation.set(0, limits)
                }
            }
            return try machine.finished()
        }
        switch request {
        case .refused(let id, let text): try await answer(.error(id: id, text: text))
        case .call(let id, let path, let argument):
            do {
                let result = try await result(of: path, argument, limits)
                try await answer(.response(id: id, data: result))
            } catch let error as SendingFailed {
                throw error.cause
            } catch {
                let text =
                    error is LatticaTimedOut
                    ? "\(LatticaFailure.timedOut(limits.timeout, .maybeExecuted))" : LatticaFailure.text(of: error)
                try await answer(.error(id: id, text: text))
            }
        }
    }

    private func result(of path: String, _ argument: RPCMessage, _ limits: LatticaLimits) async throws -> RPCMessage {
        let method: RPCMethod
        switch state.method(path, .unary) {
        case .success(let found): method = found
        // In Lattica's words, which have no code in front.
        case .failure(let error): throw LatticaText(description: error.message)
        }
        let context = RPCContext(peer: stream.peer, method: path, deadline: .systemNow() + limits.timeout)
        try await method.authorization.require(context)
        let result = try await withLatticaTimeout(limits.timeout) { [stream] in
            try await Self.whileCalled(on: stream) { try await method.runOnce(argument, context) }
        }
        try result.checkSize(limits)
        return result
    }

    /// Runs a handler, and cancels it when its caller has reset the stream or is gone.
    private static func whileCalled(
        on stream: MeshStream, _ body: @escaping @Sendable () async throws -> RPCMessage
    ) async throws -> RPCMessage {
        try await withThrowingTaskGroup(of: RPCMessage?.self) { group in
            group.addTask { try await body() }
            group.addTask {
                await stream.waitUntilClosed()
                return nil
            }
            defer { group.cancelAll() }
            guard let first = try await group.next(), let result = first else { throw CancellationError() }
            return result
        }
    }

    private struct SendingFailed: Error {
        let cause: any Error
    }

    private struct LatticaText: Error, CustomStringConvertible {
        let description: String
    }

    private func answer(_ message: LatticaMessage) async throws {
        do {
            for piece in message.encoded.pieces { try await stream.write(piece) }
        } catch {
            throw SendingFailed(cause: error)
        }
    }
}
