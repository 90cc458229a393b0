import CMartlet
import MartletCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The system calls on descriptors that sockets share. Codes are `errno` values, 0 for success.
enum Descriptor {
    static func open(_ type: CInt, for address: SocketAddress) throws(SocketError) -> CInt {
        let descriptor = martlet_socket(address.family, type)
        guard descriptor >= 0 else { throw SocketError(.open, address, code: errno) }
        if address.isIP6 { set(descriptor, CInt(IPPROTO_IPV6), IPV6_V6ONLY, 1) }
        return descriptor
    }

    static let stream = CInt(SOCK_STREAM.rawValue)
    static let datagram = CInt(SOCK_DGRAM.rawValue)

    @discardableResult
    static func set(_ descriptor: CInt, _ level: CInt, _ name: CInt, _ value: CInt) -> CInt {
        var value = value
        return setsockopt(descriptor, level, name, &value, socklen_t(MemoryLayout<CInt>.size)) == 0 ? 0 : errno
    }

    static func bind(_ descriptor: CInt, to address: SocketAddress) -> CInt {
        let code = address.withSockaddr { pointer, length -> CInt in
            #if canImport(Glibc)
                Glibc.bind(descriptor, pointer, length) == 0 ? 0 : errno
            #else
                Darwin.bind(descriptor, pointer, length) == 0 ? 0 : errno
            #endif
        }
        return code ?? ENAMETOOLONG
    }

    static func connect(_ descriptor: CInt, to address: SocketAddress) -> CInt {
        let code = address.withSockaddr { pointer, length -> CInt in
            #if canImport(Glibc)
                Glibc.connect(descriptor, pointer, length) == 0 ? 0 : errno
            #else
                Darwin.connect(descriptor, pointer, length) == 0 ? 0 : errno
            #endif
        }
        return code ?? ENAMETOOLONG
    }

    /// The error that the kernel keeps for the socket; reading it clears it.
    static func takeError(_ descriptor: CInt) -> CInt {
        var code: CInt = 0
        var length = socklen_t(MemoryLayout<CInt>.size)
        return getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &length) == 0 ? code : errno
    }

    /// Lets listening and dialing sockets share a port.
    static func shareAddress(_ descriptor: CInt) {
        set(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
        set(descriptor, SOL_SOCKET, SO_REUSEPORT, 1)
    }

    static func prepareStream(_ descriptor: CInt, _ address: SocketAddress, _ options: StreamSocketOptions) {
        if !address.isUnix { set(descriptor, CInt(IPPROTO_TCP), TCP_NODELAY, 1) }
        if let size = options.sendBufferSize { set(descriptor, SOL_SOCKET, SO_SNDBUF, CInt(clamping: size)) }
        if let size = options.receiveBufferSize { set(descriptor, SOL_SOCKET, SO_RCVBUF, CInt(clamping: size)) }
    }

    /// Sizes of the kernel's buffers: beyond the system's limit for a program that may, else up to it.
    static func setBuffers(_ descriptor: CInt, send: Int?, receive: Int?) {
        #if canImport(Glibc)
            let kinds = [(send, SO_SNDBUF, SO_SNDBUFFORCE), (receive, SO_RCVBUF, SO_RCVBUFFORCE)]
        #else
            let kinds = [(send, SO_SNDBUF, SO_SNDBUF), (receive, SO_RCVBUF, SO_RCVBUF)]
        #endif
        for (size, name, forced) in kinds {
            guard let size else { continue }
            set(descriptor, SOL_SOCKET, name, CInt(clamping: size))
            if forced != name { set(descriptor, SOL_SOCKET, forced, CInt(clamping: size)) }
        }
    }

    /// What was granted, in the terms in which it is asked for.
    static func buffers(_ descriptor: CInt) -> KernelBuffers {
        KernelBuffers(
            send: get(descriptor, SO_SNDBUF) / bufferFactor, receive: get(descriptor, SO_RCVBUF) / bufferFactor)
    }

    private static func get(_ descriptor: CInt, _ name: CInt) -> Int {
        var value: CInt = 0
        var length = socklen_t(MemoryLayout<CInt>.size)
        return getsockopt(descriptor, SOL_SOCKET, name, &value, &length) == 0 ? Int(value) : 0
    }

    /// Linux doubles what it is asked for, to have room for its own accounts, and tells the double (socket(7)).
    #if canImport(Glibc)
        private static let bufferFactor = 2
    #else
        private static let bufferFactor = 1
    #endif

    /// Chooses how the congestion of a connected socket is controlled, when its round trip is known.
    static func prepareConnected(_ descriptor: CInt, _ address: SocketAddress, _ options: StreamSocketOptions) {
        guard !address.isUnix, let name = options.longPathControl else { return }
        martlet_control_congestion(descriptor, UInt32(clamping: options.longPathRoundTrip.nanoseconds / 1000), name)
    }

    /// The name of what controls the congestion of a TCP socket; empty where that is not told.
    static func congestionControl(_ descriptor: CInt) -> String {
        #if canImport(Glibc)
            var length = socklen_t(16)
            return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 17) { name in
                name.initialize(repeating: 0)
                let code = getsockopt(descriptor, CInt(IPPROTO_TCP), TCP_CONGESTION, name.baseAddress, &length)
                return code == 0 ? String(decoding: name.prefix { $0 != 0 }, as: UTF8.self) : ""
            }
        #else
            return ""
        #endif
    }

    /// Has a TCP socket report that it can be written to only while fewer bytes than this wait in the kernel to be sent for
    /// the first time. Zero takes the limit away.
    static func limitUnsent(_ descriptor: CInt, _ count: Int) {
        set(descriptor, CInt(IPPROTO_TCP), TCP_NOTSENT_LOWAT, CInt(clamping: count))
    }

    static func close(_ descriptor: CInt) {
        #if canImport(Glibc)
            _ = Glibc.close(descriptor)
        #else
            _ = Darwin.close(descriptor)
        #endif
    }

    /// Has the close that follows send a reset and drop what was not sent.
    static func resetOnClose(_ descriptor: CInt) {
        var value = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &value, socklen_t(MemoryLayout<linger>.size))
    }

    static func send(_ descriptor: CInt, _ base: UnsafeRawPointer, _ count: Int) -> Int {
        #if canImport(Glibc)
            Glibc.send(descriptor, base, count, CInt(MSG_NOSIGNAL))
        #else
            Darwin.send(descriptor, base, count, 0)
        #endif
    }
}
