public import MartletCore
import SwiftProtobuf

/// Direct connection upgrade through relay (specs/relay/DCUtR.md).
public enum DCUtR {
    public static let protocolID = "/libp2p/dcutr"
    /// Addresses read from a message; the rest is left out.
    public static let addressLimit = 32
}

/// What two peers say to each other to punch holes at the same time.
public enum DCUtRMessage: Hashable, Sendable {
    /// Where the sender is seen. Sent by both sides; the time between measures the path.
    case connect([Multiaddr])
    /// Begin now, when this arrives; the sender waits half a round trip.
    case sync

    /// Reads a message; its length prefix was taken off.
    public init(_ message: [UInt8]) throws(DecodingError) {
        let decoded: HolePunchProtobuf
        do {
            decoded = try HolePunchProtobuf(serializedBytes: message)
        } catch {
            throw .invalid(field: "DCUtR message", reason: "not a valid protobuf")
        }
        guard decoded.hasType else {
            throw .invalid(field: "DCUtR message", reason: "names no type, or one unknown here")
        }
        switch decoded.type {
        // Addresses of kinds unknown here are left out: the peer may know transports that we do not.
        case .connect:
            self = .connect(
                decoded.obsAddrs.prefix(DCUtR.addressLimit).compactMap { try? Multiaddr(bytes: Array($0)) })
        case .sync: self = .sync
        case .unused: throw .invalid(field: "DCUtR message", reason: "names a type that is not used")
        }
    }

    /// The message with its length in front, as it is sent.
    public var encoded: [UInt8] {
        var message = HolePunchProtobuf()
        switch self {
        case .connect(let addresses):
            message.type = .connect
            // Half of what a peer reads, so that it fits whatever the addresses are.
            var room = PunchLimits.messageByteCount / 2
            for address in addresses.prefix(DCUtR.addressLimit) where address.bytes.count + 4 <= room {
                room -= address.bytes.count + 4
                message.obsAddrs.append(protobufData(address.bytes))
            }
        case .sync: message.type = .sync
        }
        return lengthPrefixed(message)
    }
}
