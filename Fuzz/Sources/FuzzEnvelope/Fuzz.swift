import MartletCore
import MartletIdentity

private let identity = KeyPair(seed: [UInt8](repeating: 1, count: 32))

/// An envelope that is read keeps its parts when it is written; one that opens as a record is about its signer. A record
/// that the fuzzer makes up and we sign is within bounds and keeps its content when it is signed anew.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: data, count: size))
    if let envelope = try? SignedEnvelope(bytes: bytes) {
        guard let again = try? SignedEnvelope(bytes: envelope.bytes), again == envelope else {
            fatalError("an envelope changes when it is written")
        }
        if let (record, opened) = try? PeerRecord.open(bytes) {
            guard opened.publicKey.peerID == record.peerID else { fatalError("a record about someone else") }
        }
    }
    let sealed = SignedEnvelope.seal(bytes, type: PeerRecord.payloadType, domain: PeerRecord.domain, with: identity)
    guard let record = (try? PeerRecord.open(sealed.bytes))?.record else { return 0 }
    guard record.peerID == identity.peerID, record.addresses.count <= PeerRecord.maximumAddressCount else {
        fatalError("a record out of bounds")
    }
    guard let again = try? PeerRecord.open(record.sealed(with: identity).bytes).record, again == record else {
        fatalError("a record changes when it is written")
    }
    return 0
}
