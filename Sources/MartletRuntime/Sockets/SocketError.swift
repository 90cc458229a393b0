import CLibuv

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A refused system call, in words that a person can act on: `listen on 127.0.0.1:4001: address already in use`.
public struct SocketError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What was tried.
    public enum Operation: String, Hashable, Sendable {
        case startLoop = "start an event loop"
        case open = "open a socket"
        case bind = "bind to"
        case connect = "connect to"
        case listen = "listen on"
        case accept = "accept on"
        case read = "read from"
        case write = "write to"
        case send = "send to"
        case close = "close the connection to"
    }

    public let operation: Operation
    /// With whom or on what; nil where there is no address.
    public let address: SocketAddress?
    /// The `errno`.
    public let code: CInt

    /// The machine at the address says that nobody is there.
    public var isRefusal: Bool { operation == .connect && code == ECONNREFUSED }

    public init(_ operation: Operation, _ address: SocketAddress?, code: CInt) {
        self.operation = operation
        self.address = address
        self.code = code
    }

    /// The reason alone, such as `connection refused`.
    public var reason: String {
        // libuv's codes are negated errno values here, and its texts are static.
        uv_strerror(-code).map { String(cString: $0) } ?? "error \(code)"
    }

    public var description: String {
        address.map { "\(operation.rawValue) \($0): \(reason)" } ?? "\(operation.rawValue): \(reason)"
    }
}
