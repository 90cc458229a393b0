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
    private let onLook: (LocalNetwork) -> Void
    private let onChange: () -> Void
    private let onWake: () -> Void
    private var monitor: AddressMonitor?
    private var timer: LoopTimer!
    private var settleTimer: LoopTimer!
    private var sleep = SleepDetector(interval: NetworkWatcher.interval)
    private var network = LocalNetwork(addresses: [], source: nil)

    /// - Parameters:
    ///   - onLook: called with what there is when something may have changed, though perhaps nothing that matters here.
    ///   - onChange: called after that when the machine is in another network.
    ///   - onWake: called when the machine slept and is in the same network still.
    init(
        node: NodeDriver, onLook: @escaping (LocalNetwork) -> Void, onChange: @escaping () -> Void,
        onWake: @escaping () -> Void
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
        network = .current
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

    /// - Returns: whether this is another network than before.
    @discardableResult
    private func look() -> Bool {
        let earlier = network
        network = .current
        onLook(network)
        guard network.isAnother(than: earlier) else { return false }
        node.logger.info("this machine is in another network")
        onChange()
        return true
    }
}

extension LocalNetwork {
    static var current: LocalNetwork {
        LocalNetwork(
            addresses: Set(NetworkInterfaces.addresses().compactMap { $0.ipAddress?.unmapped }),
            source: LocalAddresses.source(towards: nil))
    }
}
