import CPortMapping
import Logging
import MartletCore
import MartletReachability
import MartletRuntime

/// Has the gateway forward the ports of a node, or let in what comes to them at one of its IPv6 addresses. The state is on the home
/// loop; what blocks runs in the pool.
final class PortMapper: @unchecked Sendable {
    /// Milliseconds for each step of a way. UPnP waits so long for each of five kinds of device, also once one has answered.
    private static let natPMPTimeout: CInt = 1500
    private static let upnpTimeout: CInt = 250

    private let loop: EventLoop
    private let blocking: BlockingPool
    private let logger: Logger
    /// Called on the home loop when the mappings are others.
    private let onChange: () -> Void
    /// An own IPv6 address; nil for what is behind a NAT of IPv4.
    private let client: IPv6Address?
    /// Called when the gateway said unasked that it is there.
    var onAnnouncement: ((GatewayAnnouncement) -> Void)?
    private var machine: PortMappings
    private var timer: LoopTimer!
    private var exchanges: [ObjectIdentifier: PCPRun] = [:]
    /// What renews or removes a mapping says the nonce that made it.
    private var nonces: [PortMappingTarget: [UInt8]] = [:]
    private var upnp = Gateway.UPnPState()
    private var announcements: GatewayListener?
    private var random = RandomSource.system

    init(
        loop: EventLoop, blocking: BlockingPool, logger: Logger, client: IPv6Address? = nil,
        onChange: @escaping () -> Void
    ) {
        self.loop = loop
        self.client = client
        var configuration = PortMappings.Configuration()
        // NAT-PMP knows IPv4 alone.
        if client != nil { configuration.methods = [.pcp, .upnp] }
        machine = PortMappings(configuration: configuration)
        self.blocking = blocking
        self.logger = logger
        self.onChange = onChange
        timer = LoopTimer(loop: loop) { [unowned self] in
            machine.advance(now: self.loop.now)
            drain()
        }
    }

    var mappings: [PortMapping] { machine.mappings }
    var failures: [String] { machine.failures }
    var isBusy: Bool { machine.isBusy }
    var isUndecided: Bool { machine.isUndecided }

    func update(_ targets: [PortMappingTarget]) {
        if !targets.isEmpty, announcements == nil, client == nil { listen() }
        machine.update(targets, now: loop.now)
        drain()
    }

    func refresh() {
        upnp.location = ""
        machine.refresh(now: loop.now)
        drain()
    }

    /// Removes what was mapped; `isBusy` tells how long that takes.
    func removeAll() {
        announcements?.close()
        machine.removeAll()
        drain()
    }

    /// There is nobody left to ask: nothing is removed, and nothing comes of what was asked.
    func forget() {
        announcements?.close()
        timer.cancel()
        for run in exchanges.values { run.cancel() }
        exchanges = [:]
        machine.forget()
    }

    private func drain() {
        while let order = machine.nextOrder() {
            switch order {
            case .probe(.pcp): askByPCP(nil)
            case .ask(.pcp, let requests): askByPCP(requests)
            case .probe(let method): ask(method, nil)
            case .ask(let method, let requests): ask(method, requests)
            }
        }
        if let deadline = machine.deadline { timer.schedule(at: deadline) } else { timer.cancel() }
    }

    /// Passes on what a gateway said; without requests, it was asked only whether it can be asked so.
    private func answered(_ method: PortMappingMethod, _ requests: [PortMappingRequest]?, _ answer: GatewayAnswer) {
        logger.debug(
            "a gateway was asked",
            metadata: [
                "by": "\(method.rawValue)", "for": "\(requests?.count ?? 0) ports", "answer": "\(answer.result)",
            ])
        let old = machine.mappings
        if requests == nil {
            machine.probed(method, answer.result.map { _ in () }, epoch: answer.epoch, now: loop.now)
        } else {
            machine.answered(
                method, answer.result, externalAddress: answer.externalAddress, epoch: answer.epoch, now: loop.now)
        }
        drain()
        let isNews =
            old.map(\.externalPort) != machine.mappings.map(\.externalPort)
            || old.map(\.externalAddress) != machine.mappings.map(\.externalAddress)
        if isNews { onChange() }
    }

    // MARK: NAT-PMP and UPnP

    private func ask(_ method: PortMappingMethod, _ requests: [PortMappingRequest]?) {
        let earlier = upnp
        let timeout = method == .upnp ? Self.upnpTimeout : Self.natPMPTimeout
        Task { [blocking, loop, client] in
            var outcome: GatewayAnswer
            var state = earlier
            do {
                (outcome, state) = try await blocking.run {
                    guard let gateway = Gateway.find(for: client) else { throw PortMappingFailure.noGateway }
                    var state = earlier
                    let answer = try gateway.ask(method, requests ?? [], &state, timeout: timeout)
                    return (answer, state)
                }
            } catch {
                outcome = GatewayAnswer(PortMappingFailure("\(error)"))
            }
            let (answer, found) = (outcome, state)
            loop.execute {
                if method == .upnp { self.upnp = found }
                self.answered(method, requests, answer)
            }
        }
    }

    // MARK: PCP

    private func askByPCP(_ requests: [PortMappingRequest]?) {
        Task { [blocking, loop, client] in
            let gateway = try? await blocking.run { Gateway.find(for: client) }
            loop.execute { self.runPCP(requests, gateway ?? nil) }
        }
    }

    private func runPCP(_ requests: [PortMappingRequest]?, _ gateway: Gateway?) {
        guard let gateway else { return answered(.pcp, requests, GatewayAnswer(.noGateway)) }
        let run = PCPRun(loop: loop, gateway: gateway, exchange: exchange(for: requests, gateway)) {
            [weak self] run, exchange in
            guard let self else { return }
            exchanges[ObjectIdentifier(run)] = nil
            answered(
                .pcp, requests,
                GatewayAnswer(
                    result: exchange.result, externalAddress: exchange.externalAddress, epoch: exchange.epoch))
        }
        exchanges[ObjectIdentifier(run)] = run
        run.start()
    }

    private func exchange(for requests: [PortMappingRequest]?, _ gateway: Gateway) -> PCPExchange {
        guard let requests else { return PCPExchange(probingFor: gateway.source, now: loop.now) }
        let nonces = requests.map { request in
            let nonce = self.nonces[request.target] ?? random.bytes(12)
            self.nonces[request.target] = nonce
            return nonce
        }
        return PCPExchange(requests, nonces: nonces, client: gateway.source, now: loop.now)
    }

    // MARK: What the gateway says unasked

    private func listen() {
        announcements = GatewayListener(loop: loop) { [weak self] announcement, source in
            self?.check(announcement, from: source)
        }
    }

    /// Only the gateway is believed. Anybody on the local network can forge its address: all that comes of it is another question.
    private func check(_ announcement: GatewayAnnouncement, from source: IPAddress) {
        Task { [blocking, loop] in
            let gateway = try? await blocking.run { Gateway.find(for: nil) }
            loop.execute {
                guard let address = gateway?.address, address == source else { return }
                self.take(announcement)
            }
        }
    }

    private func take(_ announcement: GatewayAnnouncement) {
        logger.debug(
            "the gateway said that it is there",
            metadata: ["by": "\(announcement.method.rawValue)", "since": "\(announcement.epoch) s"])
        announced(announcement)
        onAnnouncement?(announcement)
    }

    /// Asks again soon when what the gateway said means that it lost its state.
    func announced(_ announcement: GatewayAnnouncement) {
        let delay = Int64.random(in: 0...GatewayAnnouncement.longestDelay.nanoseconds, using: &random)
        machine.announced(
            announcement.method, epoch: announcement.epoch, delay: .nanoseconds(delay), now: loop.now)
        drain()
    }
}

/// What a gateway said, whichever way it was asked.
struct GatewayAnswer: Sendable {
    let result: Result<[(PortMappingRequest, PortMappingAnswer)], PortMappingFailure>
    let externalAddress: IPAddress?
    /// Seconds since the gateway lost its state, when it says so.
    let epoch: UInt32?
}

extension GatewayAnswer {
    init(_ failure: PortMappingFailure) { self.init(result: .failure(failure), externalAddress: nil, epoch: nil) }
}

extension PortMappingFailure {
    fileprivate static var noGateway: PortMappingFailure { PortMappingFailure("there is no gateway") }
}
