import MartletConnection
import MartletCore

/// Both sides of multistream-select: whatever comes, a side that is fed the same bytes in two pieces ends as one that gets
/// them whole, and agrees only on what it speaks.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    let input = Bytes(Array(UnsafeBufferPointer(start: data, count: size)))
    let spoken = ["/noise", "/ipfs/ping/1.0.0"]
    for cut in [0, size / 2] {
        var listener = MultistreamListener()
        var rest = input
        for part in [cut, size - cut] where part > 0 {
            let piece = rest.takeFirst(part)
            guard let progress = try? listener.receive(piece.span, isSupported: { spoken.contains($0) }) else { break }
            guard progress.consumed <= part else { fatalError("more taken than given") }
            if let agreed = progress.agreed {
                guard spoken.contains(agreed) else { fatalError("agreed on what is not spoken") }
                break
            }
        }
        guard listener.takeOutput().count <= 64 * 1024 else { fatalError("the answers grow without bound") }
    }
    var dialer = MultistreamDialer(proposals: spoken)
    if let progress = try? dialer.receive(input.span), let agreed = progress.agreed, !spoken.contains(agreed) {
        fatalError("agreed on what was not proposed")
    }
    return 0
}
