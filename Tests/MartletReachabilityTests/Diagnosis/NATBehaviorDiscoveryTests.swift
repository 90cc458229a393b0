import MartletCore
import Testing

@testable import MartletReachability

private func ip(_ text: String) -> IPAddress { IPAddress(text) ?? .v4(.any) }
private func place(_ host: String, _ port: UInt16) -> TransportAddress { TransportAddress(ip(host), port: port) }
private func milliseconds(_ value: Int64) -> Instant { Instant(nanoseconds: value * 1_000_000) }

/// A NAT, and servers of which the first has a second address, with a discovery behind it. Packets take 10 ms each way.
private final class Network {
    static let inside = ip("192.168.1.2")
    static let outside = ip("11.7.10.1")
    static let ports: [NATBehaviorDiscovery.Socket: UInt16] = [.mapping: 50_000, .filtering: 51_234]

    let mapping: NATMapping
    let filtering: NATFiltering
    let allocate: (Int) -> UInt16?
    var hairpins = false
    var hasAlternate = true
    var dead: Set<TransportAddress> = []
    var discovery: NATBehaviorDiscovery
    var sentCount = 0

    private struct Flow: Hashable {
        let socket: NATBehaviorDiscovery.Socket
        let host: IPAddress?
        let port: UInt16?
    }

    private var mappings: [Flow: UInt16] = [:]
    private var contacts: [UInt16: Set<TransportAddress>] = [:]
    private var inFlight: [(at: Instant, bytes: [UInt8], from: TransportAddress, socket: NATBehaviorDiscovery.Socket)] =
        []
    private var responder = STUNResponder()

    /// - Parameter allocate: the external port of the mapping of that number; nil keeps the socket's own.
    init(
        _ mapping: NATMapping, _ filtering: NATFiltering, servers: [TransportAddress] = [place("11.7.1.1", 4001)],
        allocate: @escaping (Int) -> UInt16? = { _ in nil }
    ) {
        self.mapping = mapping
        self.filtering = filtering
        self.allocate = allocate
        discovery = NATBehaviorDiscovery(
            servers: servers, ports: Self.ports, localAddresses: [mapping == .none ? Self.outside : Self.inside],
            random: RandomSource(seed: 1))
    }

    /// Runs until the discovery is over; returns how long it took.
    func run() -> Instant {
        var now = milliseconds(0)
        discovery.start(now: now)
        flush(now)
        while !discovery.isOver {
            let next = ([discovery.deadline] + inFlight.map { $0.at }).compactMap(\.self).min() ?? now
            now = max(now, next)
            let arriving = inFlight.filter { $0.at <= now }
            inFlight.removeAll { $0.at <= now }
            for packet in arriving {
                discovery.received(packet.bytes, from: packet.from, on: packet.socket, now: now)
            }
            discovery.handleTimeout(now: now)
            flush(now)
        }
        return now
    }

    private func flush(_ now: Instant) {
        while let order = discovery.nextOrder() {
            sentCount += 1
            send(order, now)
        }
    }

    private func send(_ order: NATBehaviorDiscovery.Order, _ now: Instant) {
        let external = externalPort(order.socket, order.to)
        contacts[external, default: []].insert(order.to)
        let source = TransportAddress(Self.outside, port: external)
        if order.to.ip == Self.outside {
            guard hairpins, let socket = socket(at: order.to.port) else { return }
            return inFlight.append((now + .milliseconds(1), order.bytes, source, socket))
        }
        guard !dead.contains(order.to) else { return }
        let other = TransportAddress(order.to.ip, port: 5001)
        let alternate = place("11.7.2.1", 5002)
        guard
            let answer = responder.answer(
                order.bytes, from: source, other: order.to.port == 4001 ? other : nil,
                alternate: hasAlternate && order.to == place("11.7.1.1", 4001) ? alternate : nil, now: now)
        else { return }
        let from =
            switch answer.source {
            case .asked: order.to
            case .other: other
            case .alternate: alternate
            }
        guard letsIn(from, to: external) else { return }
        inFlight.append((now + .milliseconds(20), answer.bytes, from, order.socket))
    }

    private func externalPort(_ socket: NATBehaviorDiscovery.Socket, _ to: TransportAddress) -> UInt16 {
        let own = Self.ports[socket] ?? 0
        let flow =
            switch mapping {
            case .addressDependent: Flow(socket: socket, host: to.ip, port: nil)
            case .addressAndPortDependent: Flow(socket: socket, host: to.ip, port: to.port)
            case .none, .unknown, .endpointIndependent: Flow(socket: socket, host: nil, port: nil)
            }
        if let port = mappings[flow] { return port }
        let port = allocate(mappings.count) ?? own
        mappings[flow] = port
        return port
    }

    private func socket(at port: UInt16) -> NATBehaviorDiscovery.Socket? {
        mappings.first { $0.value == port }?.key.socket
    }

    private func letsIn(_ from: TransportAddress, to port: UInt16) -> Bool {
        let known = contacts[port] ?? []
        return switch filtering {
        case .endpointIndependent, .unknown: true
        case .addressDependent, .dependent: known.contains { $0.ip == from.ip }
        case .addressAndPortDependent: known.contains(from)
        }
    }
}

@Test(arguments: [NATMapping.endpointIndependent, .addressDependent, .addressAndPortDependent, .none])
func everyKindOfNATIsRecognised(_ mapping: NATMapping) {
    for filtering in [NATFiltering.endpointIndependent, .addressDependent, .addressAndPortDependent] {
        let random: (Int) -> UInt16? = { UInt16(20_000 + $0 * 7919 % 40_000) }
        let network = Network(mapping, filtering, allocate: mapping == .none ? { _ in nil } : random)
        let end = network.run()
        let found = network.discovery.behavior
        #expect(found.kind.mapping == mapping)
        #expect(found.kind.filtering == filtering)
        #expect(found.kind.allocation == (mapping == .none ? .preserving : .random))
        #expect(found.hairpinning == (mapping == .none ? nil : false))
        #expect(found.externalAddress == Network.outside)
        #expect(found.isAnswered)
        #expect(end <= milliseconds(2000))
        #expect(network.sentCount < 40)
    }
}

@Test func portsThatAreKeptOrCountAreRecognised() {
    let kept = Network(.endpointIndependent, .addressAndPortDependent)
    _ = kept.run()
    #expect(kept.discovery.behavior.kind.allocation == .preserving)
    let counting = Network(.addressAndPortDependent, .addressAndPortDependent) { UInt16(20_000 + $0) }
    _ = counting.run()
    #expect(counting.discovery.behavior.kind.allocation == .sequential(step: 1))
}

@Test func hairpinningIsFound() {
    let network = Network(.endpointIndependent, .endpointIndependent)
    network.hairpins = true
    let end = network.run()
    #expect(network.discovery.behavior.hairpinning == true)
    // Where all comes in, nothing has to be waited for.
    #expect(end < milliseconds(200))
}

/// What one server of one address cannot tell is not said.
@Test(
    arguments: [
        (.endpointIndependent, .endpointIndependent, .unknown, .unknown),
        (.endpointIndependent, .addressDependent, .unknown, .unknown),
        (.endpointIndependent, .addressAndPortDependent, .unknown, .addressAndPortDependent),
        (.addressDependent, .addressAndPortDependent, .unknown, .addressAndPortDependent),
        (.addressAndPortDependent, .addressAndPortDependent, .addressAndPortDependent, .addressAndPortDependent),
    ] as [(NATMapping, NATFiltering, NATMapping, NATFiltering)])
func aServerOfOneAddressTellsLess(
    _ mapping: NATMapping, _ filtering: NATFiltering, _ foundMapping: NATMapping, _ foundFiltering: NATFiltering
) {
    let network = Network(mapping, filtering) { UInt16(20_000 + $0 * 100) }
    network.hasAlternate = false
    _ = network.run()
    #expect(network.discovery.behavior.kind.mapping == foundMapping)
    #expect(network.discovery.behavior.kind.filtering == foundFiltering)
}

@Test func aSecondServerTellsTheMapping() {
    for mapping in [NATMapping.endpointIndependent, .addressDependent, .addressAndPortDependent] {
        let network = Network(
            mapping, .addressAndPortDependent, servers: [place("11.7.5.1", 4001), place("11.7.6.1", 4001)]
        ) { UInt16(20_000 + $0 * 100) }
        _ = network.run()
        #expect(network.discovery.behavior.kind.mapping == mapping)
    }
}

@Test func aServerThatSaysNothingIsPassedOverAndWithoutAnyUDPIsBlocked() {
    let servers = (1...9).map { place("11.7.1.\($0)", 4001) }
    let network = Network(.endpointIndependent, .endpointIndependent, servers: servers)
    network.dead = [servers[0], servers[1]]
    _ = network.run()
    #expect(network.discovery.behavior.kind.mapping == .endpointIndependent)
    #expect(network.discovery.isAnswered)
    let blocked = Network(.endpointIndependent, .endpointIndependent, servers: servers)
    blocked.dead = Set(servers)
    let end = blocked.run()
    #expect(!blocked.discovery.behavior.isAnswered)
    #expect(blocked.discovery.behavior.kind == NATKind())
    #expect(blocked.discovery.behavior.hairpinning == nil)
    // Of nine servers four are asked, on two sockets four times each.
    #expect(blocked.sentCount == NATBehaviorDiscovery.serverLimit * 8)
    #expect(end == milliseconds(Int64(NATBehaviorDiscovery.serverLimit) * 1500))
}

@Test func whatComesFromElsewhereThanItShouldIsIgnored() throws {
    let server = place("11.7.1.1", 4001)
    var discovery = NATBehaviorDiscovery(
        servers: [server], ports: Network.ports, localAddresses: [Network.inside], random: RandomSource(seed: 1))
    discovery.start(now: milliseconds(0))
    var ids: [NATBehaviorDiscovery.Socket: STUNMessage.TransactionID] = [:]
    while let order = discovery.nextOrder() {
        if case .request(let id) = try STUNMessage(bytes: order.bytes) { ids[order.socket] = id }
    }
    let id = try #require(ids[.filtering])
    let mapped = place("11.7.10.1", 7)
    let other = place("11.7.1.1", 5001)
    let alternate = place("11.7.2.1", 5002)
    let response = STUNMessage.response(id, mapped: mapped, other: other, alternate: alternate).bytes
    discovery.received(response, from: other, on: .filtering, now: milliseconds(1))
    discovery.received(response, from: server, on: .mapping, now: milliseconds(1))
    discovery.received(Array(response.dropLast()), from: server, on: .filtering, now: milliseconds(1))
    #expect(!discovery.isAnswered)
    discovery.received(response, from: server, on: .filtering, now: milliseconds(1))
    #expect(discovery.isAnswered)
    // A server that does not understand answers from where it was asked: that says nothing of a NAT.
    var changed: [STUNMessage.TransactionID] = []
    while let order = discovery.nextOrder() {
        if case .changeRequest(let id, _) = try STUNMessage(bytes: order.bytes) { changed.append(id) }
    }
    #expect(changed.count == 2)
    for id in changed {
        let answer = STUNMessage.response(id, mapped: mapped, other: nil).bytes
        discovery.received(answer, from: server, on: .filtering, now: milliseconds(2))
    }
    #expect(discovery.behavior.kind.filtering != .endpointIndependent)
    while let deadline = discovery.deadline { discovery.handleTimeout(now: deadline) }
    #expect(discovery.behavior.kind.filtering == .addressAndPortDependent)
}

@Test func aServerSendsNobodyToOtherNetworks() throws {
    let server = place("11.7.1.1", 4001)
    var discovery = NATBehaviorDiscovery(
        servers: [server], ports: Network.ports, localAddresses: [Network.inside], random: RandomSource(seed: 1))
    discovery.start(now: milliseconds(0))
    while let order = discovery.nextOrder() {
        guard case .request(let id) = try STUNMessage(bytes: order.bytes) else { continue }
        let answer = STUNMessage.response(
            id, mapped: place("11.7.10.1", 7), other: place("192.168.1.1", 80), alternate: place("127.0.0.1", 80))
        discovery.received(answer.bytes, from: server, on: order.socket, now: milliseconds(1))
    }
    while let deadline = discovery.deadline {
        discovery.handleTimeout(now: deadline)
        while let order = discovery.nextOrder() { #expect([server.ip, Network.outside].contains(order.to.ip)) }
    }
}

// MARK: Strangers

private let stranger = place("11.9.0.1", 40_000)

/// Asked of one server with one address.
private func network(_ filtering: NATFiltering) -> Network {
    let network = Network(.endpointIndependent, filtering)
    network.hasAlternate = false
    _ = network.run()
    return network
}

@Test(arguments: [NATFiltering.endpointIndependent, .addressDependent])
func aServerOfOneAddressLeavesAQuestionForAStranger(_ filtering: NATFiltering) throws {
    let network = network(filtering)
    #expect(network.discovery.behavior.kind.filtering == .unknown)
    let wanted = try #require(network.discovery.strangerWanted)
    #expect(wanted.known == ip("11.7.1.1"))
    #expect(wanted.address == TransportAddress(Network.outside, port: Network.ports[.filtering] ?? 0))
}

@Test func whatAStrangerSendsShowsThatStrangersGetIn() {
    let network = network(.endpointIndependent)
    // Not from where the socket has sent to, not of this network, and not to the socket that talks to everybody.
    network.discovery.received([1], from: place("11.7.1.1", 9), on: .filtering, now: milliseconds(5000))
    network.discovery.received(
        [1], from: TransportAddress(Network.outside, port: 9), on: .filtering, now: milliseconds(5000))
    network.discovery.received([1], from: place("192.168.1.9", 9), on: .filtering, now: milliseconds(5000))
    network.discovery.received([1], from: stranger, on: .mapping, now: milliseconds(5000))
    #expect(network.discovery.behavior.kind.filtering == .unknown)
    network.discovery.received([0xC0, 1, 2], from: stranger, on: .filtering, now: milliseconds(5000))
    #expect(network.discovery.behavior.kind.filtering == .endpointIndependent)
    #expect(network.discovery.strangerWanted == nil)
}

@Test func aStrangerOfWhomNothingComesShowsThatTheyDoNot() {
    let network = network(.addressDependent)
    network.discovery.strangerDidNotGetIn()
    #expect(network.discovery.behavior.kind.filtering == .addressDependent)
    #expect(network.discovery.strangerWanted == nil)
}

@Test func noStrangerIsWantedWhereTheAnswerIsKnown() {
    let network = network(.addressAndPortDependent)
    #expect(network.discovery.behavior.kind.filtering == .addressAndPortDependent)
    #expect(network.discovery.strangerWanted == nil)
    let complete = Network(.endpointIndependent, .addressDependent)
    _ = complete.run()
    #expect(complete.discovery.strangerWanted == nil)
    complete.discovery.strangerDidNotGetIn()
    #expect(complete.discovery.behavior.kind.filtering == .addressDependent)
}
