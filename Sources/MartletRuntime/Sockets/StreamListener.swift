import CMartlet
import MartletCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// How a listener behaves.
public struct ListenerOptions: Sendable {
    /// Connections that the kernel completes before they are accepted.
    public var backlog = 1024
    /// Connections accepted before other work of the loop gets its turn.
    public var acceptsPerTurn = 64
    /// Permissions of a Unix-domain socket's file.
    public var unixMode: UInt16 = 0o600

    public init() {}
}

/// A connection just accepted. Its descriptor does not block and is the receiver's: it goes to
/// `StreamSocket(loop:descriptor:)` on any loop, or to `close()`.
public struct AcceptedDescriptor: Sendable {
    public let descriptor: CInt
    public let remoteAddress: SocketAddress

    /// Refuses the connection.
    public func close() { Descriptor.close(descriptor) }
}

/// Accepts TCP or Unix-domain connections on an address.
///
///     let listener = try StreamListener.listen(loop: loop, address: .loopback(port: 0)) { accepted in
///         let other = group.next()
///         other.execute { … StreamSocket(loop: other, descriptor: accepted.descriptor) … }
///     }
///
/// In-loop only. The loop keeps it until it is closed.
///
/// The port may be shared with sockets that dial from it, but not with another listener: the socket is bound and
/// listening under `SO_REUSEADDR` alone, which fails when anybody listens there, and gets `SO_REUSEPORT` afterwards.
/// An IPv6 listener takes IPv6 only, so that the same port can be had on both. A file left behind by a Unix-domain listener
/// that is gone is replaced; anything else at that path is an error.
public final class StreamListener: LoopResource {
    /// The address with the port that the system chose.
    public let boundAddress: SocketAddress
    /// The last reason why accepting had to pause, such as too many open files; nil once it works again.
    public private(set) var trouble: SocketError?

    private let descriptor: CInt
    private let options: ListenerOptions
    private let onAccept: (AcceptedDescriptor) -> Void
    private var poll: PollHandle?
    private var retryTimer: LoopTimer?
    private var retryDelay = Duration.milliseconds(50)
    private var unixFile: (device: dev_t, inode: ino_t)?
    private var isClosed = false
    /// The system call; tests put failures in its place.
    var accept = StreamListener.systemAccept

    /// - Throws: `SocketError` that names the address, such as `listen on 127.0.0.1:4001: address already in use`.
    public static func listen(
        loop: EventLoop, address: SocketAddress, options: ListenerOptions = .init(),
        onAccept: @escaping (AcceptedDescriptor) -> Void
    ) throws(SocketError) -> StreamListener {
        assert(loop.inLoop, "listening is for the holder of the loop")
        let descriptor: CInt
        do throws(SocketError) {
            descriptor = try Descriptor.open(Descriptor.stream, for: address)
        } catch {
            throw SocketError(.listen, address, code: error.code)
        }
        do throws(SocketError) {
            try prepare(descriptor, address, options)
            let listener = try StreamListener(loop, descriptor, address, options, onAccept)
            return listener
        } catch {
            Descriptor.close(descriptor)
            throw error
        }
    }

    private static func prepare(
        _ descriptor: CInt, _ address: SocketAddress, _ options: ListenerOptions
    ) throws(SocketError) {
        if let path = address.unixPath {
            // Before the bind, so that the file never exists with other permissions.
            fchmod(descriptor, mode_t(options.unixMode))
            if Descriptor.bind(descriptor, to: address) == EADDRINUSE { try UnixSocketFile.removeStale(path, address) }
        } else {
            Descriptor.set(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
        }
        if address.unixPath == nil || SocketAddress.local(of: descriptor)?.unixPath != address.unixPath {
            let code = Descriptor.bind(descriptor, to: address)
            if code != 0 { throw SocketError(.listen, address, code: code) }
        }
        if Glibc.listen(descriptor, CInt(clamping: options.backlog)) != 0 {
            throw SocketError(.listen, address, code: errno)
        }
        if !address.isUnix { Descriptor.set(descriptor, SOL_SOCKET, SO_REUSEPORT, 1) }
    }

    private init(
        _ loop: EventLoop, _ descriptor: CInt, _ address: SocketAddress, _ options: ListenerOptions,
        _ onAccept: @escaping (AcceptedDescriptor) -> Void
    ) throws(SocketError) {
        self.descriptor = descriptor
        self.options = options
        self.onAccept = onAccept
        boundAddress = SocketAddress.local(of: descriptor) ?? address
        if let path = address.unixPath { unixFile = UnixSocketFile.identity(path) }
        super.init(loop: loop)
        guard register() else { throw SocketError(.listen, address, code: ESHUTDOWN) }
        guard let poll = PollHandle(loop: loop, descriptor: descriptor) else {
            unregister()
            throw SocketError(.listen, address, code: EBADF)
        }
        self.poll = poll
        poll.handler = { [unowned self] _, _ in acceptAll() }
        poll.update(.readable)
    }

    /// Stops accepting. Connections that the kernel has completed and nobody accepted are reset.
    public func close() {
        guard !isClosed else { return }
        isClosed = true
        poll?.close()
        retryTimer?.cancel()
        retryTimer = nil
        if let path = boundAddress.unixPath, let unixFile { UnixSocketFile.remove(path, ifStill: unixFile) }
        Descriptor.close(descriptor)
        unregister()
    }

    override func closeForShutdown() { close() }

    static func systemAccept(_ descriptor: CInt) -> (CInt, SocketAddress?) {
        SocketAddress.filled { martlet_accept(descriptor, $0, $1) }
    }

    private func acceptAll() {
        for _ in 0..<options.acceptsPerTurn {
            guard !isClosed else { return }
            let (accepted, remote) = accept(descriptor)
            if accepted >= 0 {
                onAccept(AcceptedDescriptor(descriptor: accepted, remoteAddress: remote ?? boundAddress))
                continue
            }
            switch errno {
            case EAGAIN:
                trouble = nil
                retryDelay = .milliseconds(50)
                return
            case EMFILE, ENFILE, ENOBUFS, ENOMEM:
                pause(errno)
                return
            case EBADF, EINVAL, ENOTSOCK, EOPNOTSUPP:
                // Ours to prevent; polling on would spin.
                trouble = SocketError(.accept, boundAddress, code: errno)
                poll?.update([])
                return
            default:
                // One connection that failed before it was accepted, or a signal.
                continue
            }
        }
    }

    /// Without free descriptors the listener would be readable for ever: look again later.
    private func pause(_ code: CInt) {
        trouble = SocketError(.accept, boundAddress, code: code)
        poll?.update([])
        let timer = retryTimer ?? LoopTimer(loop: loop) { [unowned self] in poll?.update(.readable) }
        retryTimer = timer
        timer.schedule(at: loop.now + retryDelay)
        retryDelay = min(retryDelay * 2, .seconds(1))
    }
}

/// The file that a Unix-domain listener leaves in the file system.
enum UnixSocketFile {
    static func identity(_ path: String) -> (dev_t, ino_t)? {
        var status = stat()
        guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else { return nil }
        return (status.st_dev, status.st_ino)
    }

    static func remove(_ path: String, ifStill file: (dev_t, ino_t)) {
        if let now = identity(path), now == file { unlink(path) }
    }

    /// Removes the socket file at `path` when nobody listens behind it.
    static func removeStale(_ path: String, _ address: SocketAddress) throws(SocketError) {
        guard let file = identity(path) else { throw SocketError(.listen, address, code: EADDRINUSE) }
        let probe = try Descriptor.open(Descriptor.stream, for: address)
        defer { Descriptor.close(probe) }
        // A full backlog (EAGAIN) and missing permission mean that somebody may be there.
        guard Descriptor.connect(probe, to: address) == ECONNREFUSED else {
            throw SocketError(.listen, address, code: EADDRINUSE)
        }
        remove(path, ifStill: file)
    }
}
