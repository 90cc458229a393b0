@_spi(Fuzzing) import MartletRPC

/// The first byte chooses: frames alone come back from their own encoding; a server's or a caller's session keeps to its
/// limits and sends nothing but frames, whatever its peer sends.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    guard size > 1 else { return 0 }
    let bytes = Array(UnsafeBufferPointer(start: data + 1, count: size - 1))
    let piece = Int(data[0] >> 2) + 1
    let violation =
        switch data[0] & 3 {
        case 0: RPCFuzzing.parse(bytes, piece: piece)
        case 1: RPCFuzzing.receive(bytes, piece: piece, asServer: false)
        default: RPCFuzzing.receive(bytes, piece: piece, asServer: true)
        }
    if let violation { fatalError(violation) }
    return 0
}
