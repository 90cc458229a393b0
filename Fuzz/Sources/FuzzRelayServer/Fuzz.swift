import MartletCore
import MartletIdentity
import MartletReachability
import MartletSwarm

private let peers: [PeerID] = (0..<8).map { KeyPair(seed: [UInt8](repeating: $0, count: 32)).peerID }
private let addresses: [Multiaddr] = [
    "/ip4/198.51.100.1/tcp/1", "/ip4/198.51.100.2/udp/1/quic-v1", "/ip6/2600:7::1/tcp/1", "/ip4/127.0.0.1/tcp/1",
    "/unix/x", "/ip4/198.51.101.1/tcp/1/p2p/\(peers[7])/p2p-circuit",
].map {
    guard let address = try? Multiaddr($0) else { fatalError("a constant address") }
    return address
}

/// A relay's books under whatever order of requests, ends and expiries: the limits hold, and when everybody is gone so is
/// everything. Requests come as the messages of clients, which may be anything.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    var configuration = RelayConfiguration()
    configuration.maximumReservations = 5
    configuration.maximumReservationsPerRange = 3
    configuration.maximumCircuits = 6
    configuration.maximumCircuitsPerPeer = 3
    configuration.maximumCircuitsPerRange = 4
    configuration.reservationLifetime = .seconds(10)
    var relay = RelayServer(local: peers[0], configuration: configuration)
    var circuits: [CircuitID] = []
    var now = Instant(nanoseconds: 0)
    var rest = UnsafeBufferPointer(start: data, count: size)[...]

    while let operation = rest.popFirst(), let argument = rest.popFirst() {
        let index = Int(argument & 7)
        let connection = ConnectionID(rawValue: UInt64(argument & 15))
        let client = RelayClient(
            peer: peers[index], connection: connection, remoteAddress: addresses[Int(argument >> 4) % addresses.count])
        switch operation % 6 {
        case 0: _ = try? relay.reserve(client, now: now)
        case 1:
            let target = peers[Int(operation >> 4) & 7]
            guard let made = try? relay.connect(client, to: target, now: now) else { break }
            guard target != client.peer, !client.remoteAddress.isCircuit, !circuits.contains(made.circuit) else {
                fatalError("a circuit that must not be")
            }
            circuits.append(made.circuit)
        case 2:
            if !circuits.isEmpty { relay.circuitEnded(circuits.remove(at: index % circuits.count)) }
        case 3:
            let replacement = operation & 128 == 0 ? nil : ConnectionID(rawValue: UInt64(operation >> 3))
            let holder = relay.holder(over: connection)
            if relay.connectionClosed(connection, replacement: replacement), holder == nil {
                fatalError("a reservation ended that nobody held")
            }
        case 4:
            now = now + .seconds(Int64(argument & 3))
            _ = relay.handleTimeout(now: now)
            if let deadline = relay.deadline, deadline <= now { fatalError("a deadline in the past") }
        default:
            var reader = PrefixedMessageReader.circuit()
            var bytes = Bytes(Array(rest.prefix(Int(argument))))
            if let message = try? reader.next(from: &bytes), case .connect(let target)? = try? HopMessage(message),
                let made = try? relay.connect(client, to: target, now: now)
            {
                circuits.append(made.circuit)
            }
            rest = rest.dropFirst(Int(argument))
        }
        guard relay.reservationCount <= 5, relay.circuitCount <= 6, relay.circuitCount == circuits.count else {
            fatalError("\(relay.reservationCount) reservations, \(relay.circuitCount) circuits")
        }
    }
    for circuit in circuits { relay.circuitEnded(circuit) }
    _ = relay.handleTimeout(now: now + .seconds(11))
    guard relay.circuitCount == 0, relay.reservationCount == 0, relay.deadline == nil else {
        fatalError("something is left")
    }
    return 0
}
