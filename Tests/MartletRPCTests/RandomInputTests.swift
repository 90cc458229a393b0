import MartletCore
import Testing

@_spi(Fuzzing) @testable import MartletRPC

/// What a caller sends for one call of every kind, to be spoiled.
private func conversation(_ random: inout RandomSource) -> [UInt8] {
    let pair = SessionPair()
    var bytes: [UInt8] = []
    let session = pair.caller
    session.openLink(.activation)
    _ = session.nextOutput(.activation)
    session.receive(
        RPCWelcome(status: .welcome, callLimit: 100, messageLimit: 1 << 20).encoded, on: .activation, now: pair.now)
    for index in 0..<8 {
        let kind = [RPCCall.Kind.unary, .oneWay, .stream][index % 3]
        let message = RPCMessage(Bytes(random.bytes(Int.random(in: 0..<3000, using: &random))))
        _ = try? pair.call("Echo.m\(index % 2)", message, kind: kind, deadline: index == 4 ? .seconds(1) : nil)
        while let output = session.nextOutput(.activation) { bytes += output.array }
    }
    return bytes
}

@Test(arguments: 0..<300 as Range<UInt64>)
func spoiledBytesBreakNoPromise(seed: UInt64) {
    var random = RandomSource(seed: seed)
    var bytes = conversation(&random)
    for _ in 0..<Int.random(in: 1...6, using: &random) {
        let position = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: bytes[position] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes.remove(at: position)
        case 2: bytes.insert(UInt8.random(in: 0...255, using: &random), at: position)
        default: bytes += bytes[position..<min(position + 40, bytes.count)]
        }
    }
    let piece = [1, 7, 64, 20_000][Int(seed % 4)]
    #expect(RPCFuzzing.parse(bytes, piece: piece) == nil)
    #expect(RPCFuzzing.receive(bytes, piece: piece, asServer: true) == nil)
    #expect(RPCFuzzing.receive(bytes, piece: piece, asServer: false) == nil)
}
