#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Asks the node that runs with a data directory. Blocks the calling thread, which a command may.
final class ControlClient {
    private let descriptor: CInt
    private var input: [UInt8] = []

    /// Nil when no node runs there.
    init?(_ directory: DataDirectory) throws {
        guard let descriptor = try ControlSocket.connect(to: directory.controlSocket) else { return nil }
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    /// The node of `directory`, for commands that make no sense without one.
    static func required(_ directory: DataDirectory) throws -> ControlClient {
        guard let client = try ControlClient(directory) else {
            throw Failure(
                "no node runs with the data directory \(directory.path); start one with `martlet node`", code: "noNode",
                exitStatus: .noNode)
        }
        return client
    }

    /// Sends `request` and waits for the answer.
    ///
    /// - Throws: `Failure`: the node's own, or that the node went away.
    func ask(_ request: ControlRequest, report: (ControlReply) -> Void = { _ in }) throws -> ControlAnswer {
        try send(JSON.encode(request) + [0x0A])
        while true {
            let reply: ControlReply
            do {
                reply = try JSON.decode(ControlReply.self, from: try nextLine())
            } catch is DecodingError {
                throw Self.misunderstanding
            }
            switch reply {
            case .progress, .roundTrip: report(reply)
            case .done(let answer): return answer
            case .failed(let failure): throw failure
            }
        }
    }

    static let misunderstanding = Failure(
        "the running node answers in a way this command does not understand; is it of another version?",
        code: "internalError")

    private func send(_ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let n = bytes.withUnsafeBytes { buffer in
                Glibc.send(
                    descriptor, buffer.baseAddress.map { $0 + sent }, buffer.count - sent, CInt(MSG_NOSIGNAL))
            }
            if n < 0 {
                if errno == EINTR { continue }
                // A node that refuses says why before it closes; that is read next.
                return
            }
            sent += n
        }
    }

    private func nextLine() throws -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            if let end = input.firstIndex(of: 0x0A) {
                defer { input.removeSubrange(...end) }
                return Array(input[..<end])
            }
            guard input.count <= ControlReply.byteLimit else { throw Self.misunderstanding }
            let n = read(descriptor, &buffer, buffer.count)
            if n < 0, errno == EINTR { continue }
            guard n > 0 else {
                throw Failure("the node stopped before it had answered", code: "nodeStopped", exitStatus: .noNode)
            }
            input += buffer[..<n]
        }
    }
}
