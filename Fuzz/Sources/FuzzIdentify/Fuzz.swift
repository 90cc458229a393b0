import MartletCore
import MartletIdentity
import MartletSwarm

private let sender = KeyPair(seed: [UInt8](repeating: 1, count: 32)).peerID

/// An identify message of a stranger: refused, or taken in within its limits and only with the sender's own key.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: data, count: size))
    var info = IdentifyInfo()
    for part in [bytes.prefix(size / 2), bytes[...]] {
        guard (try? info.merge(Array(part), from: sender)) != nil else { continue }
        guard info.publicKey == nil || info.publicKey?.peerID == sender else { fatalError("a stranger's key") }
        guard (info.listenAddresses?.count ?? 0) <= 64, (info.protocols?.count ?? 0) <= 512 else {
            fatalError("more than the limits allow")
        }
    }
    return 0
}
