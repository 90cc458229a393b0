public import MartletIdentity
import SwiftProtobuf

/// A relay's signature under a reservation, which its client may show to others.
///
/// Advisory: nobody demands one yet, and a reservation without it is as good (libp2p specs, relay/circuit-v2.md,
/// "Reservation Vouchers").
public struct ReservationVoucher: Hashable, Sendable {
    /// What the signature is for.
    public static let domain = "libp2p-relay-rsvp"
    /// Two raw bytes, as with peer records.
    public static let payloadType: [UInt8] = [0x03, 0x02]

    public let relay: PeerID
    public let client: PeerID
    /// UNIX time in seconds.
    public let expiration: UInt64

    public init(relay: PeerID, client: PeerID, expiration: UInt64) {
        self.relay = relay
        self.client = client
        self.expiration = expiration
    }

    /// The voucher signed by the relay, whose key that must be.
    public func sealed(with relayKey: KeyPair) -> SignedEnvelope {
        precondition(relayKey.peerID == relay, "a voucher of \(relay) signed by \(relayKey.peerID)")
        var message = ReservationVoucherProtobuf()
        message.relay = protobufData(relay.bytes)
        message.peer = protobufData(client.bytes)
        message.expiration = expiration
        let payload: [UInt8]
        do {
            payload = try message.serializedBytes()
        } catch {
            preconditionFailure("a message of optional fields cannot be written: \(error)")
        }
        return .seal(payload, type: Self.payloadType, domain: Self.domain, with: relayKey)
    }

    /// Reads a voucher that the relay itself signed.
    public static func open(_ bytes: [UInt8]) throws(EnvelopeError) -> ReservationVoucher {
        let envelope = try SignedEnvelope.open(
            bytes, type: payloadType, domain: domain, limit: Circuit.messageLimit)
        let message: ReservationVoucherProtobuf
        do {
            message = try ReservationVoucherProtobuf(serializedBytes: envelope.payload)
        } catch {
            throw .malformed(reason: "not a reservation voucher")
        }
        guard message.hasExpiration, let relay = try? PeerID(bytes: Array(message.relay)),
            let client = try? PeerID(bytes: Array(message.peer))
        else { throw .malformed(reason: "a reservation voucher without relay, peer or time") }
        let signer = envelope.publicKey.peerID
        guard relay == signer else { throw .foreignPeer(signer: signer, subject: relay) }
        return ReservationVoucher(relay: relay, client: client, expiration: message.expiration)
    }
}
