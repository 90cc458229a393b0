import MartletConnection
import MartletCore
import MartletIdentity
import MartletTestSupport

/// Two secure connections over a pipe, everything from a seed.
func makeSecurePair(
    seed: UInt64 = 1, pieceSizes: ClosedRange<Int> = 1...300_000, bufferSizes: ClosedRange<Int> = 524_288...524_288,
    budget: WindowBudget? = nil, dialerExpects: PeerID? = nil,
    configure: (inout ConnectionConfiguration) -> Void = { _ in }
) -> BytePipeHarness {
    var configuration = ConnectionConfiguration()
    configure(&configuration)
    var random = RandomSource(seed: seed)
    let now = Instant(nanoseconds: 1_000_000_000)
    let identities = TestIdentities.shared
    let dialer = SecureConnection(
        role: .dialer, identity: identities.first, expectedPeer: dialerExpects ?? identities.second.identity.peerID,
        configuration: configuration, budget: budget, random: random.split(), now: now)
    let listener = SecureConnection(
        role: .listener, identity: identities.second, expectedPeer: nil, configuration: configuration, budget: budget,
        random: random.split(), now: now)
    return BytePipeHarness(
        dialer: dialer, listener: listener, seed: random.next(), pieceSizes: pieceSizes, bufferSizes: bufferSizes)
}

/// The same, with the handshake done.
func makeEstablishedPair(
    seed: UInt64 = 1, pieceSizes: ClosedRange<Int> = 1...300_000, bufferSizes: ClosedRange<Int> = 524_288...524_288,
    budget: WindowBudget? = nil, configure: (inout ConnectionConfiguration) -> Void = { _ in }
) -> BytePipeHarness {
    let pair = makeSecurePair(
        seed: seed, pieceSizes: pieceSizes, bufferSizes: bufferSizes, budget: budget, configure: configure)
    pair.settle()
    precondition(
        pair.dialer.remote != nil && pair.listener.remote != nil, "not established: \(pair.dialer.closeReasons)")
    return pair
}

/// Two identities, made once.
final class TestIdentities: Sendable {
    static let shared = TestIdentities()
    let first: NoiseIdentity
    let second: NoiseIdentity
    let third: NoiseIdentity

    private init() {
        var random = RandomSource(seed: 77)
        first = NoiseIdentity(identity: KeyPair(random: &random), random: &random)
        second = NoiseIdentity(identity: KeyPair(random: &random), random: &random)
        third = NoiseIdentity(identity: KeyPair(random: &random), random: &random)
    }
}

/// Everything that a connection has to send.
func transmitted(by connection: SecureConnection, now: Instant = testStart) -> [UInt8] {
    var bytes: [UInt8] = []
    while connection.hasPendingTransmit {
        var buffer = TransmitBuffer(storage: BytesStorage(capacity: 65_536))
        connection.transmit(into: &buffer, now: now)
        guard buffer.count > 0 else { break }
        bytes += buffer.written
    }
    return bytes
}

/// Lets a connection receive `bytes`, after what it has left over.
func give(_ bytes: [UInt8], to connection: SecureConnection, now: Instant = testStart) {
    connection.receive(ReceivedRegion(copying: connection.leftover.array + bytes), now: now)
}

/// All events so far.
func events(of connection: SecureConnection) -> [ConnectionEvent] {
    var events: [ConnectionEvent] = []
    while let event = connection.nextEvent() { events.append(event) }
    return events
}

func closeReason(of connection: SecureConnection) -> ConnectionCloseReason? {
    for case .closed(let reason) in events(of: connection) { return reason }
    return nil
}

let testStart = Instant(nanoseconds: 1_000_000_000)
