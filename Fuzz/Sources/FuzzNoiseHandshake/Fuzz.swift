import MartletConnection
import MartletCore
import MartletIdentity

private let identity: NoiseIdentity = {
    var random = RandomSource(seed: 1)
    return NoiseIdentity(identity: KeyPair(seed: [UInt8](repeating: 1, count: 32)), random: &random)
}()

/// A whole connection fed by somebody who has no key: it never becomes established, keeps little, and ends at most once.
/// The first byte chooses the role and whether the negotiation before Noise is already right.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    guard size > 0 else { return 0 }
    let now = Instant(nanoseconds: 1)
    let connection = SecureConnection(
        role: data[0] & 1 == 0 ? .listener : .dialer, identity: identity, expectedPeer: nil,
        configuration: ConnectionConfiguration(), budget: nil, random: RandomSource(seed: 2), now: now)
    var input: [UInt8] = data[0] & 2 == 0 ? [] : Array("\u{13}/multistream/1.0.0\n\u{7}/noise\n".utf8)
    input += UnsafeBufferPointer(start: data + 1, count: size - 1)
    var closed = 0
    for half in [input.prefix(input.count / 2), input.suffix(from: input.count / 2)] where !half.isEmpty {
        connection.receive(ReceivedRegion(copying: connection.leftover.array + half), now: now)
        while let event = connection.nextEvent() {
            switch event {
            case .closed: closed += 1
            case .established: fatalError("established without a key")
            default: break
            }
        }
        guard connection.leftover.count <= 70_000 else { fatalError("too much is kept") }
    }
    guard closed <= 1 else { fatalError("closed \(closed) times") }
    return 0
}
