public import MartletCore
internal import SwiftProtobuf

/// Where a peer says it can be reached, signed by itself, so that others can pass it on.
///
///     let record = try PeerRecord(peerID: identity.peerID, sequence: now, addresses: addresses)
///     let bytes = record.sealed(with: identity).bytes
///
///     let (record, envelope) = try PeerRecord.open(bytes)
///
/// Of two records of a peer the one with the higher sequence holds; a receiver drops the other, and keeps the envelope to
/// pass it on. Receivers also bound how many records they keep (CVE-2023-40583).
///
/// Specification: libp2p/specs RFC 0003, with the domain and type that implementations use.
public struct PeerRecord: Hashable, Sendable {
    public let peerID: PeerID
    /// Grows with every change. By convention nanoseconds since 1970 at the time of signing.
    public let sequence: UInt64
    /// In the peer's own order. They do not end in `/p2p/<peer>`.
    public let addresses: [Multiaddr]

    /// What the signature is for.
    public static let domain = "libp2p-peer-record"
    /// Two raw bytes; not a varint of 0x0301.
    public static let payloadType: [UInt8] = [0x03, 0x01]
    /// The most addresses that a record may have.
    public static let maximumAddressCount = 128

    /// Throws `tooManyAddresses` beyond `maximumAddressCount`.
    public init(peerID: PeerID, sequence: UInt64, addresses: [Multiaddr]) throws(EnvelopeError) {
        guard addresses.count <= Self.maximumAddressCount else {
            throw .tooManyAddresses(count: addresses.count, limit: Self.maximumAddressCount)
        }
        self.peerID = peerID
        self.sequence = sequence
        self.addresses = addresses
    }

    /// The record signed by the peer that it is about.
    public func sealed(with keyPair: KeyPair) -> SignedEnvelope {
        precondition(keyPair.peerID == peerID, "a record about \(peerID) signed by \(keyPair.peerID)")
        var message = WirePeerRecord()
        message.peerID = protobufData(peerID.bytes)
        message.seq = sequence
        message.addresses = addresses.map { address in
            var info = WirePeerRecord.AddressInfo()
            info.multiaddr = protobufData(address.bytes)
            return info
        }
        return .seal(serialized(message), type: Self.payloadType, domain: Self.domain, with: keyPair)
    }

    /// Reads a signed record: valid signature, made for this purpose, by the peer that the record is about.
    ///
    /// Addresses of protocols that are unknown here are left out: the signer may be newer than we are. The envelope is
    /// what to store and to pass on.
    public static func open(
        _ bytes: [UInt8], limit: Int = SignedEnvelope.defaultMaximumByteCount
    ) throws(EnvelopeError) -> (record: PeerRecord, envelope: SignedEnvelope) {
        let envelope = try SignedEnvelope.open(bytes, type: payloadType, domain: domain, limit: limit)
        return (try PeerRecord(verified: envelope), envelope)
    }

    private init(verified envelope: SignedEnvelope) throws(EnvelopeError) {
        let message: WirePeerRecord
        do {
            message = try WirePeerRecord(serializedBytes: envelope.payload)
        } catch {
            throw .malformed(reason: "not a peer record")
        }
        let signer = envelope.publicKey.peerID
        do {
            peerID = try PeerID(bytes: message.peerID)
        } catch {
            throw .malformed(reason: "a record without a valid peer id: \(error)")
        }
        guard peerID == signer else { throw .foreignPeer(signer: signer, subject: peerID) }
        guard message.addresses.count <= Self.maximumAddressCount else {
            throw .tooManyAddresses(count: message.addresses.count, limit: Self.maximumAddressCount)
        }
        sequence = message.seq
        addresses = message.addresses.compactMap { try? Multiaddr(bytes: [UInt8]($0.multiaddr)) }
    }
}
