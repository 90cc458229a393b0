import MartletCore
import MartletIdentity

/// A key that is accepted is written as the bytes it was read from, names one peer in every form of its id, and refuses a
/// signature that nobody made. Anything else is refused, by the reader of private keys as well.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: data, count: size))
    if let pair = try? KeyPair.decode(privateKeyProtobuf: bytes) {
        let signature = pair.sign(bytes)
        guard pair.publicKey.isValidSignature(signature, for: bytes) else {
            fatalError("a key cannot check its signature")
        }
    }
    if let id = try? PeerID(bytes: bytes) { check(id, from: bytes) }
    guard let key = try? PublicKey(protobuf: bytes) else { return 0 }
    guard key.protobuf == bytes else { fatalError("a key is written otherwise than it was read") }
    guard size <= PublicKey.maximumProtobufByteCount else { fatalError("a key beyond the limit") }
    check(key.peerID, from: key.peerID.bytes)
    if let inlined = key.peerID.publicKey, inlined != key { fatalError("an id contains another key") }
    for signatureByteCount in [64, 72, 256] {
        let signature = Array(bytes.suffix(signatureByteCount))
        guard !key.isValidSignature(signature, for: bytes) else { fatalError("a signature that nobody made is valid") }
    }
    return 0
}

private func check(_ id: PeerID, from bytes: [UInt8]) {
    guard id.bytes == bytes else { fatalError("an id is written otherwise than it was read") }
    guard (try? PeerID(id.description)) == id else { fatalError("\(id) does not read back from base58") }
    guard (try? PeerID(id.cid.text(in: .base32))) == id else { fatalError("\(id) does not read back from its CID") }
}
