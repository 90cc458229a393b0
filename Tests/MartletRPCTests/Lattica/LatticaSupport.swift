import MartletCore
import MartletRPC

/// What the tests of Lattica's protocols share.
enum Lattica {
    static func pattern(_ count: Int, seed: UInt64 = 1) -> Bytes {
        var random = RandomSource(seed: seed)
        return Bytes(random.bytes(count))
    }

    /// All frames one after the other, as they go over the wire.
    static func wire(_ frames: [LatticaStreamFrame]) -> Bytes {
        RPCMessage(pieces: frames.flatMap { $0.encoded.pieces }).contiguous()
    }
}

extension RPCMessage {
    var array: [UInt8] { contiguous().array }
}
