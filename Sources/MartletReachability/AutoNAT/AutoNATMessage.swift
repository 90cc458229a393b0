public import MartletCore
import SwiftProtobuf

/// What the two sides of a dial request say to each other.
public enum AutoNATMessage: Hashable, Sendable {
    /// The client asks for one of the addresses to be dialed, the first that the server can. Nil stands for an address of a
    /// kind unknown here: answers name addresses by their place.
    case dialRequest(addresses: [Multiaddr?], nonce: UInt64)
    /// The server wants so many bytes before it dials the address at that place.
    case dialDataRequest(index: UInt32, byteCount: UInt64)
    /// A piece of them.
    case dialData(byteCount: Int)
    case dialResponse(AutoNATResponse)

    /// Reads a message; its length prefix was taken off.
    public init(_ message: [UInt8]) throws(DecodingError) {
        let decoded: AutoNATMessageProtobuf
        do {
            decoded = try AutoNATMessageProtobuf(serializedBytes: message)
        } catch {
            throw .invalid(field: "AutoNAT message", reason: "not a valid protobuf")
        }
        switch decoded.msg {
        case .dialRequest(let request):
            self = .dialRequest(
                addresses: request.addrs.prefix(AutoNAT.addressLimit).map { try? Multiaddr(bytes: Array($0)) },
                nonce: request.nonce)
        case .dialDataRequest(let request):
            self = .dialDataRequest(index: request.addrIdx, byteCount: request.numBytes)
        case .dialDataResponse(let response): self = .dialData(byteCount: response.data.count)
        case .dialResponse(let response): self = .dialResponse(AutoNATResponse(response))
        case nil: throw .invalid(field: "AutoNAT message", reason: "says nothing")
        }
    }

    /// The message with its length in front, as it is sent.
    public var encoded: [UInt8] {
        var message = AutoNATMessageProtobuf()
        switch self {
        case .dialRequest(let addresses, let nonce):
            message.dialRequest.addrs = addresses.map { protobufData($0?.bytes ?? []) }
            message.dialRequest.nonce = nonce
        case .dialDataRequest(let index, let byteCount):
            message.dialDataRequest.addrIdx = index
            message.dialDataRequest.numBytes = byteCount
        case .dialData(let byteCount):
            message.dialDataResponse.data = protobufData([UInt8](repeating: 0, count: byteCount))
        case .dialResponse(let response): message.dialResponse = response.protobuf
        }
        return lengthPrefixed(message)
    }
}

/// What came of a dial request.
public enum AutoNATResponse: Hashable, Sendable {
    /// The server dialed the address at that place.
    case dialed(index: UInt32, DialBackOutcome)
    /// It has had enough requests for now, or does not serve this peer.
    case rejected
    /// It cannot or will not dial any of the addresses.
    case refused
    /// Something went wrong there, or it said something that is not known here.
    case failed

    init(_ response: DialResponseProtobuf) {
        switch response.status {
        case .ok:
            switch response.dialStatus {
            case .ok: self = .dialed(index: response.addrIdx, .reached)
            case .eDialError: self = .dialed(index: response.addrIdx, .notReached)
            case .eDialBackError: self = .dialed(index: response.addrIdx, .reachedWithoutNonce)
            case .unused: self = .failed
            }
        case .eRequestRejected: self = .rejected
        case .eDialRefused: self = .refused
        case .eInternalError: self = .failed
        }
    }

    var protobuf: DialResponseProtobuf {
        var response = DialResponseProtobuf()
        response.dialStatus = .unused
        switch self {
        case .dialed(let index, let outcome):
            response.status = .ok
            response.addrIdx = index
            response.dialStatus =
                switch outcome {
                case .reached: .ok
                case .notReached: .eDialError
                case .reachedWithoutNonce: .eDialBackError
                }
        case .rejected: response.status = .eRequestRejected
        case .refused: response.status = .eDialRefused
        case .failed: response.status = .eInternalError
        }
        return response
    }
}

/// What came of dialing an address.
public enum DialBackOutcome: Hashable, Sendable {
    /// The peer answered there and took the nonce.
    case reached
    /// Nobody answered, or not that peer.
    case notReached
    /// The peer answered, and then did not take the nonce.
    case reachedWithoutNonce
}

/// The nonce that a server says at the address it dialed, and the answer to it.
enum DialBackMessage {
    static func encodedNonce(_ nonce: UInt64) -> [UInt8] {
        var message = DialBackProtobuf()
        message.nonce = nonce
        return lengthPrefixed(message)
    }

    static func nonce(_ message: [UInt8]) throws(DecodingError) -> UInt64 {
        guard let decoded = try? DialBackProtobuf(serializedBytes: message) else {
            throw .invalid(field: "AutoNAT dial-back", reason: "not a valid protobuf")
        }
        return decoded.nonce
    }

    static var encodedAnswer: [UInt8] {
        var message = DialBackResponseProtobuf()
        message.status = .ok
        return lengthPrefixed(message)
    }

    static func checkAnswer(_ message: [UInt8]) throws(DecodingError) {
        guard (try? DialBackResponseProtobuf(serializedBytes: message)) != nil else {
            throw .invalid(field: "AutoNAT dial-back answer", reason: "not a valid protobuf")
        }
    }
}
