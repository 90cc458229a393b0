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

func hexBytes(_ text: String) -> [UInt8] {
    var bytes: [UInt8] = []
    var high: UInt8?
    for character in text {
        guard let digit = character.hexDigitValue else { continue }
        if let first = high {
            bytes.append(first << 4 | UInt8(digit))
            high = nil
        } else {
            high = UInt8(digit)
        }
    }
    return bytes
}
