public import MartletCore
import SwiftProtobuf

/// Martlet's own hole punching (docs/protocols/punch.md).
public enum Punch {
    public static let protocolID = "/martlet/punch/1"

    /// The punch that a datagram claims to be of; nil when it is no probe.
    public static func session(of datagram: [UInt8]) -> UInt64? { PunchProbe.session(of: datagram) }
}

/// What two Martlet nodes say to each other about a punch, over the relayed connection.
public enum PunchMessage: Hashable, Sendable {
    /// The side that dials begins an attempt.
    case offer(attempt: Int, secret: [UInt8], PunchDescription)
    /// The other side takes part.
    ///
    /// - Parameter held: how long the answer took at that side, which is no part of the round trip.
    case answer(attempt: Int, secret: [UInt8], PunchDescription, held: Duration = .zero)
    /// Begin now, when this arrives; the sender waits half a round trip.
    case go(attempt: Int)
    /// There is a direct connection, or there will be no more attempts.
    case done

    /// Reads a message; its length prefix was taken off.
    public init(_ message: [UInt8]) throws(DecodingError) {
        let decoded: PunchProtobuf
        do {
            decoded = try PunchProtobuf(serializedBytes: message)
        } catch {
            throw .invalid(field: "punch message", reason: "not a valid protobuf")
        }
        guard decoded.hasKind else {
            throw .invalid(field: "punch message", reason: "names no kind, or one unknown here")
        }
        let attempt = Int(decoded.attempt)
        switch decoded.kind {
        case .offer: self = .offer(attempt: attempt, secret: try Self.secret(decoded), PunchDescription(decoded))
        case .answer:
            self = .answer(
                attempt: attempt, secret: try Self.secret(decoded), PunchDescription(decoded),
                held: .microseconds(decoded.held))
        case .go: self = .go(attempt: attempt)
        case .done: self = .done
        case .unused: throw .invalid(field: "punch message", reason: "names a kind that is not used")
        }
    }

    private static func secret(_ message: PunchProtobuf) throws(DecodingError) -> [UInt8] {
        guard message.secret.count == PunchKey.shareByteCount else {
            throw .invalid(
                field: "punch secret", reason: "\(message.secret.count) bytes instead of \(PunchKey.shareByteCount)")
        }
        return Array(message.secret)
    }

    /// The message with its length in front, as it is sent.
    public var encoded: [UInt8] {
        var message = PunchProtobuf()
        switch self {
        case .offer(let attempt, let secret, let description):
            message = PunchProtobuf(description)
            message.kind = .offer
            message.attempt = UInt32(attempt)
            message.secret = protobufData(secret)
        case .answer(let attempt, let secret, let description, let held):
            message = PunchProtobuf(description)
            message.kind = .answer
            message.attempt = UInt32(attempt)
            message.secret = protobufData(secret)
            message.held = UInt32(clamping: held.nanoseconds / 1000)
        case .go(let attempt):
            message.kind = .go
            message.attempt = UInt32(attempt)
        case .done: message.kind = .done
        }
        return lengthPrefixed(message)
    }
}

/// Addresses read from a message, both transports together.
private let addressLimit = 32

extension PunchDescription {
    init(_ message: PunchProtobuf) {
        self.init()
        for bytes in message.addresses.prefix(addressLimit) {
            guard let address = try? Multiaddr(bytes: Array(bytes)) else { continue }
            if let socket = TransportAddress(quic: address) {
                udp.append(socket)
            } else if let socket = TransportAddress(tcp: address) {
                tcp.append(socket)
            }
        }
        nat.mapping =
            switch message.mapping {
            case .unknown: .unknown
            case .noNat: .none
            case .endpointIndependent: .endpointIndependent
            case .addressDependent: .addressDependent
            case .addressAndPortDependent: .addressAndPortDependent
            }
        nat.allocation =
            switch message.allocation {
            case .unknown: .unknown
            case .preserving: .preserving
            case .sequential: message.step == 0 ? .unknown : .sequential(step: Int(message.step))
            case .random: .random
            }
        nat.filtering = message.filtering
        if message.hasNextPort { nextPort = UInt16(exactly: message.nextPort) }
        isTCPUnsure = message.tcpUnsure
    }
}

extension PunchProtobuf {
    init(_ description: PunchDescription) {
        self.init()
        let known = description.udp.prefix(addressLimit / 2).map(\.quicMultiaddr)
        addresses = (known + description.tcp.prefix(addressLimit / 2).map(\.tcpMultiaddr)).map {
            protobufData($0.bytes)
        }
        mapping =
            switch description.nat.mapping {
            case .unknown: .unknown
            case .none: .noNat
            case .endpointIndependent: .endpointIndependent
            case .addressDependent: .addressDependent
            case .addressAndPortDependent: .addressAndPortDependent
            }
        switch description.nat.allocation {
        case .unknown: allocation = .unknown
        case .preserving: allocation = .preserving
        case .sequential(let step):
            allocation = .sequential
            self.step = Int32(clamping: step)
        case .random: allocation = .random
        }
        filtering = description.nat.filtering
        if let port = description.nextPort { nextPort = UInt32(port) }
        if description.isTCPUnsure { tcpUnsure = true }
    }
}

extension PunchProtobuf {
    fileprivate var filtering: NATFiltering {
        get {
            guard hasUnfiltered else { return .unknown }
            guard !unfiltered else { return .endpointIndependent }
            guard hasFiltersPorts else { return .dependent }
            return filtersPorts ? .addressAndPortDependent : .addressDependent
        }
        set {
            switch newValue {
            case .unknown: break
            case .endpointIndependent: unfiltered = true
            case .addressDependent: (unfiltered, filtersPorts) = (false, false)
            case .addressAndPortDependent: (unfiltered, filtersPorts) = (false, true)
            case .dependent: unfiltered = false
            }
        }
    }
}
