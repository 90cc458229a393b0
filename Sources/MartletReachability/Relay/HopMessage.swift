public import MartletCore
public import MartletIdentity
public import MartletSwarm
import SwiftProtobuf

/// What a client and its relay say to each other.
public enum HopMessage: Hashable, Sendable {
    /// The client wants to be reached through the relay.
    case reserve
    /// The client wants to be connected to a peer that holds a reservation.
    case connect(to: PeerID)
    /// The relay's answer to either. After `.ok` to a `connect` the stream is the connection to the peer.
    case status(CircuitStatus, reservation: CircuitReservation? = nil, limit: ConnectionLimit? = nil)

    /// Reads a message; its length prefix was taken off.
    public init(_ message: [UInt8]) throws(DecodingError) {
        let decoded: HopMessageProtobuf
        do {
            decoded = try HopMessageProtobuf(serializedBytes: message)
        } catch {
            throw .invalid(field: "hop message", reason: "not a valid protobuf")
        }
        guard decoded.hasType else {
            throw .invalid(field: "hop message", reason: "names no type, or one unknown here")
        }
        switch decoded.type {
        case .reserve: self = .reserve
        case .connect: self = .connect(to: try PeerID(decoded.hasPeer ? decoded.peer : nil, in: "hop message"))
        case .status:
            guard decoded.hasStatus else { throw .invalid(field: "hop message", reason: "a status without a value") }
            self = .status(
                CircuitStatus(rawValue: decoded.status),
                reservation: decoded.hasReservation ? try CircuitReservation(decoded.reservation) : nil,
                limit: decoded.hasLimit ? ConnectionLimit(decoded.limit) : nil)
        }
    }

    /// The message with its length in front, as it is sent.
    public var encoded: [UInt8] {
        var message = HopMessageProtobuf()
        switch self {
        case .reserve: message.type = .reserve
        case .connect(let peer):
            message.type = .connect
            message.peer = CircuitPeerProtobuf(peer)
        case .status(let status, let reservation, let limit):
            message.type = .status
            message.status = status.rawValue
            if let reservation { message.reservation = CircuitReservationProtobuf(reservation) }
            if let limit { message.limit = CircuitLimitProtobuf(limit) }
        }
        return lengthPrefixed(message)
    }
}

/// A relay's promise to let others reach its client.
public struct CircuitReservation: Hashable, Sendable {
    /// UNIX time in seconds, by the relay's clock.
    public var expiration: UInt64
    /// Where the relay is reached, its peer id at the end, without `/p2p-circuit`.
    public var addresses: [Multiaddr]
    /// A signed `ReservationVoucher`, as received.
    public var voucher: [UInt8]?

    public init(expiration: UInt64, addresses: [Multiaddr], voucher: [UInt8]?) {
        self.expiration = expiration
        self.addresses = addresses
        self.voucher = voucher
    }

    init(_ message: CircuitReservationProtobuf) throws(DecodingError) {
        guard message.hasExpire else { throw .invalid(field: "reservation", reason: "says not when it expires") }
        expiration = message.expire
        // Addresses of kinds unknown here are left out: the relay may be newer.
        addresses = message.addrs.prefix(Circuit.addressLimit).compactMap { try? Multiaddr(bytes: Array($0)) }
        voucher = message.hasVoucher ? Array(message.voucher) : nil
    }
}
