import CLibuv
import MartletCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

extension StreamSocket {
    /// Connects, and hands the socket over, not yet started.
    ///
    ///     let attempt = StreamSocket.connect(loop: loop, to: address) { result in … }
    ///     attempt.cancel()   // no completion any more
    ///
    /// In-loop; the completion comes in a later turn, once, unless cancelled. With `local` the socket is bound first with
    /// `SO_REUSEADDR` and `SO_REUSEPORT`, so that it may use the port of a listener (hole punching needs that).
    @discardableResult
    public static func connect(
        loop: EventLoop, to remote: SocketAddress, from local: SocketAddress? = nil,
        options: StreamSocketOptions = .init(),
        completion: @escaping (Result<StreamSocket, SocketError>) -> Void
    ) -> ConnectAttempt {
        let attempt = ConnectAttempt(loop: loop, remote: remote, options: options, completion: completion)
        attempt.begin(from: local)
        return attempt
    }
}

/// A connect under way. In-loop only; the loop keeps it until it is over.
public final class ConnectAttempt: LoopResource {
    public let remoteAddress: SocketAddress
    private let options: StreamSocketOptions
    private var completion: ((Result<StreamSocket, SocketError>) -> Void)?
    private var descriptor: CInt = -1
    private var poll: PollHandle?
    private var timer: LoopTimer?

    init(
        loop: EventLoop, remote: SocketAddress, options: StreamSocketOptions,
        completion: @escaping (Result<StreamSocket, SocketError>) -> Void
    ) {
        assert(loop.inLoop, "connecting is for the holder of the loop")
        remoteAddress = remote
        self.options = options
        self.completion = completion
        super.init(loop: loop)
    }

    /// Gives up. The completion is not called any more.
    public func cancel() {
        completion = nil
        release(closing: true)
    }

    override func closeForShutdown() { fail(ESHUTDOWN) }

    fileprivate func begin(from local: SocketAddress?) {
        let timer = LoopTimer(loop: loop) { [unowned self] in step() }
        self.timer = timer
        guard register() else {
            // No turn will come that could tell; a shutdown tells at once.
            fail(ESHUTDOWN)
            return
        }
        do throws(SocketError) {
            descriptor = try Descriptor.open(Descriptor.stream, for: remoteAddress)
            Descriptor.prepareStream(descriptor, remoteAddress, options)
            if let local { try bind(to: local) }
            let code = Descriptor.connect(descriptor, to: remoteAddress)
            guard code == 0 || code == EINPROGRESS else { throw SocketError(.connect, remoteAddress, code: code) }
            guard let poll = PollHandle(loop: loop, descriptor: descriptor) else {
                throw SocketError(.connect, remoteAddress, code: EBADF)
            }
            self.poll = poll
            poll.handler = { [unowned self] _, _ in finish() }
            poll.update(.writable)
            timer.schedule(at: loop.now + options.connectTimeout)
        } catch {
            // Told in the next turn, so that the caller has what `connect` returns.
            early = error
            timer.schedule(at: loop.now)
        }
    }

    private var early: SocketError?

    private func bind(to local: SocketAddress) throws(SocketError) {
        Descriptor.shareAddress(descriptor)
        #if canImport(Glibc)
            // The port is chosen with the peer known, so that one port serves many peers.
            if local.port == 0, !local.isUnix {
                Descriptor.set(descriptor, CInt(IPPROTO_IP), IP_BIND_ADDRESS_NO_PORT, 1)
            }
        #endif
        let code = Descriptor.bind(descriptor, to: local)
        if code != 0 { throw SocketError(.bind, local, code: code) }
    }

    /// The timer: the time is over, or an early error is due.
    private func step() {
        if let early { complete(.failure(early)) } else { fail(ETIMEDOUT) }
    }

    private func finish() {
        let code = Descriptor.takeError(descriptor)
        guard code == 0 else { return fail(code) }
        guard let poll, let local = SocketAddress.local(of: descriptor) else { return fail(EBADF) }
        // A port of the ephemeral range that dials itself succeeds in TCP's eyes.
        guard local != remoteAddress || local.isUnix else { return fail(ECONNREFUSED) }
        let descriptor = descriptor
        release(closing: false)
        do throws(SocketError) {
            let socket = try StreamSocket(
                loop: loop, descriptor: descriptor, poll: poll, local: local, remote: remoteAddress, options: options)
            complete(.success(socket))
        } catch {
            complete(.failure(error))
        }
    }

    private func fail(_ code: CInt) { complete(.failure(SocketError(.connect, remoteAddress, code: code))) }

    private func complete(_ result: Result<StreamSocket, SocketError>) {
        release(closing: true)
        let completion = completion
        self.completion = nil
        completion?(result)
    }

    private func release(closing: Bool) {
        timer?.cancel()
        timer = nil
        unregister()
        guard descriptor >= 0 else { return }
        if closing {
            poll?.close()
            Descriptor.close(descriptor)
        }
        poll = nil
        descriptor = -1
    }
}
