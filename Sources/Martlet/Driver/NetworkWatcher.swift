import Logging
import MartletCore
import MartletReachability
import MartletRuntime

/// Notices that this machine is in another network, or that it slept. On the home loop.
final class NetworkWatcher {
    /// The system tells of changes, where it does. This is for others, and for sleep.
    private static let interval = Duration.seconds(5)
    /// Addresses and routes come one after the other.
    private static let settleTime = Duration.milliseconds(100)

    private unowned let node: NodeDriver
    private let onLook: () -> Void
    private let onChange: () -> Void
    private let onWake: () -> Void
    private var monitor: AddressMonitor?
    private var timer: LoopTimer!
    private var settleTimer: LoopTimer!
    private var sleep = SleepDetector(interval: NetworkWatcher.interval)
    /// The address that packets to the internet leave from: which of several it is may change by a route alone.
    private var source: IPAddress?

    /// - Parameters:
    ///   - onLook: called when something about addresses has changed, though perhaps nothing that matters here.
    ///   - onChange: called when the machine's addresses are others than before.
    ///   - onWake: called when the machine slept and has its addresses still.
    init(
        node: NodeDriver, onLook: @escaping () -> Void, onChange: @escaping () -> Void, onWake: @escaping () -> Void
    ) {
        self.node = node
        self.onLook = onLook
        self.onChange = onChange
        self.onWake = onWake
        timer = LoopTimer(loop: node.home) { [unowned self] in watch() }
        settleTimer = LoopTimer(loop: node.home) { [unowned self] in look() }
    }

    func start() {
        monitor = AddressMonitor.open(loop: node.home) { [unowned self] in
            if settleTimer.deadline == nil { settleTimer.schedule(at: node.home.now + Self.settleTime) }
        }
        source = LocalAddresses.source(towards: nil)
        node.noteLocalAddresses()
        watch()
    }

    func stop() {
        monitor?.close()
        monitor = nil
        timer.cancel()
        settleTimer.cancel()
    }

    private func watch() {
        timer.schedule(at: node.home.now + Self.interval)
        let hasSlept = sleep.look(now: node.home.now, wallTime: .systemNow())
        guard !look(), hasSlept else { return }
        node.logger.info("this machine slept")
        onWake()
    }

    /// - Returns: whether the addresses are others than before.
    @discardableResult
    private func look() -> Bool {
        onLook()
        let old = source
        source = LocalAddresses.source(towards: nil)
        let isChanged = node.noteLocalAddresses()
        guard isChanged || old != source else { return false }
        node.logger.info("this machine's addresses changed")
        onChange()
        return true
    }
}
