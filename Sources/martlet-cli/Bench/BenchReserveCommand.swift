import ArgumentParser
import Martlet
import MartletCore
import MartletIdentity
import MartletRuntime
import Synchronization

struct BenchReserveCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reserve",
        abstract: "Hold many reservations at a relay, each as a peer of its own.",
        discussion: """
            Prints how many are held when all are answered, and holds them until it is interrupted. Give the relay limits \
            that allow it.
            """)

    @Argument(help: ArgumentHelp("The relay's TCP address.", valueName: "multiaddr"), transform: parseMultiaddr)
    var address: Multiaddr

    @Option(help: "How many.")
    var count = 1000

    @Option(help: "How many are asked for at one time.")
    var inflight = 32

    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard (1...100_000).contains(count) else { throw ValidationError("--count is 1 to 100000.") }
        guard (1...1024).contains(inflight) else { throw ValidationError("--inflight is 1 to 1024.") }
    }

    private struct Report: Encodable {
        let reservations: Int
        let failures: Int
        let firstFailure: String?
        let seconds: Double
        let reservationsPerS: Double
    }

    func run() async throws {
        guard let relay = address.peerID, let target = SocketAddress(address), address.isDialableStream else {
            throw Failure(
                "\(address) is no /ip4|ip6/…/tcp/…/p2p/… address", code: "invalidArgument", exitStatus: .usage)
        }
        OpenFiles.raiseLimit()
        let signals = try Signals()
        let loops = try EventLoopGroup(loopCount: 1)
        let loop = loops.loops[0]
        let begin = Instant.systemNow()
        let crowd = Crowd(loop: loop, relay: relay, target: target, address: address, count: count)
        await crowd.gather(inflight: inflight)
        let seconds = (Instant.systemNow() - begin).secondsAsDouble
        let (held, failures, first) = crowd.tally
        let report = Report(
            reservations: held, failures: failures, firstFailure: first, seconds: Text.rounded(seconds),
            reservationsPerS: Text.rounded(Double(held) / max(seconds, 0.001)))
        if output.json {
            Output.json(report)
        } else {
            Output.line("\(held) reservations in \(Text.fixed(seconds, 1)) s, \(failures) failed")
            if let first { Output.error(first) }
        }
        _ = await signals.next()
        await crowd.close()
        await loops.shutdown()
    }
}

/// Peers that hold reservations, so many of them asking at one time.
private final class Crowd: @unchecked Sendable {
    private let loop: EventLoop
    private let relay: PeerID
    private let target: SocketAddress
    private let address: Multiaddr
    private let count: Int
    private let state = Mutex((held: 0, failures: 0, firstFailure: String?.none))
    // Confined to the loop.
    private var holders: [ReservationHolder] = []
    private var started = 0
    private var waiter: UnsafeContinuation<Void, Never>?

    init(loop: EventLoop, relay: PeerID, target: SocketAddress, address: Multiaddr, count: Int) {
        self.loop = loop
        self.relay = relay
        self.target = target
        self.address = address
        self.count = count
    }

    var tally: (held: Int, failures: Int, firstFailure: String?) { state.withLock { $0 } }

    func gather(inflight: Int) async {
        await withUnsafeContinuation { continuation in
            loop.execute { [self] in
                waiter = continuation
                for _ in 0..<min(inflight, count) { startNext() }
            }
        }
    }

    private func startNext() {
        guard started < count else {
            let tally = tally
            if tally.held + tally.failures == count { waiter.take()?.resume() }
            return
        }
        started += 1
        ReservationHolder.start(loop: loop, relay: relay, at: target, address) { [self] holder, outcome in
            if let holder { holders.append(holder) }
            state.withLock { state in
                switch outcome {
                case .success: state.held += 1
                case .failure(let failure):
                    state.failures += 1
                    state.firstFailure = state.firstFailure ?? failure.message
                }
            }
            startNext()
        }
    }

    func close() async {
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            loop.execute { [self] in
                for holder in holders { holder.close() }
                continuation.resume()
            }
        }
    }
}
