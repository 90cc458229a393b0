import MartletCore
import MartletQUIC

/// Any bytes as a peer's certificate: refused with an error, or accepted because they prove a peer.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    let der = Array(UnsafeBufferPointer(start: data, count: size))
    let now = WallTime(nanosecondsSince1970: 1_800_000_000_000_000_000)
    _ = try? PeerCertificate(der: der, now: now)
    return 0
}
