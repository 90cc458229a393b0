import MartletCore

/// Agreeing on one fixed protocol, from either side: the security protocol in the clear, the muxer inside the channel.
enum Negotiation {
    case dialer(MultistreamDialer)
    case listener(MultistreamListener, protocolID: String)

    init(role: ConnectionRole, protocolID: String) {
        switch role {
        case .dialer: self = .dialer(MultistreamDialer(proposals: [protocolID]))
        case .listener: self = .listener(MultistreamListener(), protocolID: protocolID)
        }
    }

    mutating func takeOutput() -> [UInt8] {
        switch self {
        case .dialer(var machine):
            defer { self = .dialer(machine) }
            return machine.takeOutput()
        case .listener(var machine, let protocolID):
            defer { self = .listener(machine, protocolID: protocolID) }
            return machine.takeOutput()
        }
    }

    mutating func receive(_ bytes: UnsafeRawBufferPointer) throws(HandshakeError) -> MultistreamProgress {
        do {
            switch self {
            case .dialer(var machine):
                defer { self = .dialer(machine) }
                return try machine.receive(bytes.bytes)
            case .listener(var machine, let protocolID):
                defer { self = .listener(machine, protocolID: protocolID) }
                return try machine.receive(bytes.bytes) { $0 == protocolID }
            }
        } catch {
            throw .negotiation(error)
        }
    }
}
