/// How a relay, or the peer behind it, answers. Values of later versions are kept and count as failures.
public struct CircuitStatus: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let ok = CircuitStatus(rawValue: 100)
    public static let reservationRefused = CircuitStatus(rawValue: 200)
    public static let resourceLimitExceeded = CircuitStatus(rawValue: 201)
    public static let permissionDenied = CircuitStatus(rawValue: 202)
    public static let connectionFailed = CircuitStatus(rawValue: 203)
    public static let noReservation = CircuitStatus(rawValue: 204)
    public static let malformedMessage = CircuitStatus(rawValue: 400)
    public static let unexpectedMessage = CircuitStatus(rawValue: 401)

    public var description: String {
        switch self {
        case .ok: "OK"
        case .reservationRefused: "RESERVATION_REFUSED"
        case .resourceLimitExceeded: "RESOURCE_LIMIT_EXCEEDED"
        case .permissionDenied: "PERMISSION_DENIED"
        case .connectionFailed: "CONNECTION_FAILED"
        case .noReservation: "NO_RESERVATION"
        case .malformedMessage: "MALFORMED_MESSAGE"
        case .unexpectedMessage: "UNEXPECTED_MESSAGE"
        default: "status \(rawValue)"
        }
    }
}
