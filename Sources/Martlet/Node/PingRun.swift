import MartletCore
import MartletSwarm

/// A number of pings one after the other on one stream. Confined to the loop of its connection.
final class PingRun: @unchecked Sendable {
    private let count: Int
    private let each: (@Sendable (Duration) -> Void)?
    private var times: [Duration] = []
    private var continuation: UnsafeContinuation<[Duration], any Error>?
    private var dialer: PingDialer?
    private var stream: PeerStream?
    private var isCancelled = false

    init(count: Int, each: (@Sendable (Duration) -> Void)?) {
        self.count = count
        self.each = each
    }

    func start(on connection: ConnectionDriver, _ continuation: UnsafeContinuation<[Duration], any Error>) {
        guard count > 0, !isCancelled else {
            return isCancelled ? continuation.resume(throwing: CancellationError()) : continuation.resume(returning: [])
        }
        self.continuation = continuation
        let dialer = PingDialer(random: .system) { [weak self] outcome in self?.heard(outcome) }
        self.dialer = dialer
        do {
            stream = try connection.openStream([Ping.protocolID], isHopeful: true, handler: dialer)
            dialer.ping()
        } catch {
            end(.failure(MartletError(.limitReached, "\(error)", cause: error)))
        }
    }

    func cancel() {
        isCancelled = true
        end(.failure(CancellationError()))
    }

    private func heard(_ outcome: PingDialer.Outcome) {
        switch outcome {
        case .success(let time):
            times.append(time)
            each?(time)
            if times.count == count { end(.success(times)) } else { dialer?.ping() }
        case .failure(let reason):
            end(.failure(MartletError(reason)))
        }
    }

    private func end(_ result: Result<[Duration], any Error>) {
        guard let continuation = continuation.take() else { return }
        stream?.reset()
        stream = nil
        dialer = nil
        continuation.resume(with: result)
    }
}
