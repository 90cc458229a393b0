import CPortMapping
import Logging
import MartletCore
import MartletReachability
import MartletRuntime

/// Has the gateway forward the ports of a node. The state is on the home loop; what blocks runs in the pool.
final class PortMapper: @unchecked Sendable {
    private static let timeout: CInt = 1500

    private let loop: EventLoop
    private let blocking: BlockingPool
    private let logger: Logger
    /// Called on the home loop when the mappings are others.
    private let onChange: () -> Void
    private var machine = PortMappings()
    private var timer: LoopTimer!
    private var pcp: PCPRun?
    /// What renews or removes a mapping says the nonce that made it.
    private var nonces: [PortMappingTarget: [UInt8]] = [:]
    private var random = RandomSource.system

    init(loop: EventLoop, blocking: BlockingPool, logger: Logger, onChange: @escaping () -> Void) {
        self.loop = loop
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

    func update(_ targets: [PortMappingTarget]) {
        machine.update(targets, now: loop.now)
        drain()
    }

    func refresh() {
        machine.refresh(now: loop.now)
        drain()
    }

    /// Removes what was mapped; `isBusy` tells how long that takes.
    func removeAll() {
        machine.removeAll()
        drain()
    }

    private func drain() {
        while let order = machine.nextOrder() {
            switch order {
            case .ask(.pcp, let requests): askByPCP(requests)
            case .ask(let method, let requests): ask(method, requests)
            }
        }
        if let deadline = machine.deadline { timer.schedule(at: deadline) } else { timer.cancel() }
    }

    // MARK: NAT-PMP and UPnP

    private func ask(_ method: PortMappingMethod, _ requests: [PortMappingRequest]) {
        Task { [blocking, loop] in
            let outcome: GatewayAnswer
            do {
                outcome = try await blocking.run {
                    guard let gateway = Gateway.find() else { throw PortMappingFailure("there is no gateway") }
                    return try gateway.ask(method, requests, timeout: Self.timeout)
                }
            } catch {
                outcome = GatewayAnswer(result: .failure(PortMappingFailure("\(error)")), externalAddress: nil)
            }
            loop.execute { self.answered(method, outcome) }
        }
    }

    private func answered(_ method: PortMappingMethod, _ answer: GatewayAnswer) {
        logger.debug("a gateway was asked", metadata: ["by": "\(method.rawValue)", "answer": "\(answer.result)"])
        let old = machine.mappings
        machine.answered(method, answer.result, externalAddress: answer.externalAddress, now: loop.now)
        drain()
        let isNews =
            old.map(\.externalPort) != machine.mappings.map(\.externalPort)
            || old.map(\.externalAddress) != machine.mappings.map(\.externalAddress)
        if isNews { onChange() }
    }

    // MARK: PCP

    private func askByPCP(_ requests: [PortMappingRequest]) {
        let nonces = requests.map { request in
            let nonce = self.nonces[request.target] ?? random.bytes(12)
            self.nonces[request.target] = nonce
            return nonce
        }
        Task { [blocking, loop] in
            let gateway = try? await blocking.run { Gateway.find() }
            loop.execute { self.runPCP(requests, nonces, gateway ?? nil) }
        }
    }

    private func runPCP(_ requests: [PortMappingRequest], _ nonces: [[UInt8]], _ gateway: Gateway?) {
        guard let gateway else {
            let failure = PortMappingFailure("there is no gateway")
            return answered(.pcp, GatewayAnswer(result: .failure(failure), externalAddress: nil))
        }
        let exchange = PCPExchange(requests, nonces: nonces, client: gateway.source, now: loop.now)
        let run = PCPRun(loop: loop, gateway: gateway, exchange: exchange) { [weak self] exchange in
            self?.pcp = nil
            self?.answered(
                .pcp, GatewayAnswer(result: exchange.result, externalAddress: exchange.externalAddress))
        }
        pcp = run
        run.start()
    }
}

/// What a gateway said, whichever way it was asked.
struct GatewayAnswer: Sendable {
    let result: Result<[(PortMappingRequest, PortMappingAnswer)], PortMappingFailure>
    let externalAddress: IPAddress?
}
