import CMartlet

/// Tells when addresses of this machine, its links or its routes have changed, as soon as the system does; what they are now is for
/// the owner to look up. In-loop only. The loop keeps it until it is closed.
public final class AddressMonitor: LoopResource {
    private let descriptor: CInt
    private let onChange: () -> Void
    private var poll: PollHandle?
    private var isClosed = false

    /// Nil where the system does not tell (other than Linux): the owner has to look from time to time.
    ///
    /// - Parameter onChange: called for many changes at once, and sometimes for none that matters.
    public static func open(loop: EventLoop, onChange: @escaping () -> Void) -> AddressMonitor? {
        assert(loop.inLoop, "watching is for the holder of the loop")
        let descriptor = martlet_open_address_events()
        guard descriptor >= 0 else { return nil }
        let monitor = AddressMonitor(loop, descriptor, onChange)
        return monitor.isClosed ? nil : monitor
    }

    private init(_ loop: EventLoop, _ descriptor: CInt, _ onChange: @escaping () -> Void) {
        self.descriptor = descriptor
        self.onChange = onChange
        super.init(loop: loop)
        guard register(), let poll = PollHandle(loop: loop, descriptor: descriptor) else {
            close()
            return
        }
        self.poll = poll
        poll.handler = { [unowned self] _, _ in
            martlet_drain_address_events(self.descriptor)
            self.onChange()
        }
        poll.update(.readable)
    }

    public func close() {
        guard !isClosed else { return }
        isClosed = true
        poll?.close()
        Descriptor.close(descriptor)
        unregister()
    }

    override func closeForShutdown() { close() }
}
