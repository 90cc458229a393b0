@_spi(Fuzzing) import MartletConnection
import MartletCore

/// A session fed with frames: streams stay within their limit, and what it answers comes to an end.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    var now = Instant(nanoseconds: 1)
    var configuration = ConnectionConfiguration()
    configuration.maximumStreams = 16
    let session = YamuxSession(
        role: .listener, configuration: configuration, budget: nil, random: RandomSource(seed: 1), now: now)
    let region = ReceivedRegion(copying: UnsafeBufferPointer(start: data, count: size))
    let half = size / 2
    let room = BytesStorage(capacity: 65_536)
    for range in [0..<half, half..<size] {
        guard (try? session.receive(region.storage, range, now: now)) != nil else { return 0 }
        guard session.streamCount <= 16 else { fatalError("more streams than allowed") }
        while session.fill(room.mutableBytes, now: now) > 0 {}
        now = now + .milliseconds(10)
    }
    return 0
}
