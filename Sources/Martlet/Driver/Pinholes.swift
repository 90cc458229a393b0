import Logging
import MartletCore
import MartletReachability
import MartletRuntime

/// Has the router let in what comes to the ports of a node at this machine's IPv6 addresses: nothing is translated there, but home
/// routers drop what was not asked for. On the home loop.
final class Pinholes: @unchecked Sendable {
    /// Addresses that pinholes are asked for: machines have one or two, and one more for each day that they are up.
    private static let addressLimit = 4

    private let loop: EventLoop
    private let blocking: BlockingPool
    private let logger: Logger
    private let onChange: () -> Void
    private var mappers: [(client: IPv6Address, mapper: PortMapper)] = []

    /// - Parameter onChange: called when the pinholes are others.
    init(loop: EventLoop, blocking: BlockingPool, logger: Logger, onChange: @escaping () -> Void) {
        self.loop = loop
        self.blocking = blocking
        self.logger = logger
        self.onChange = onChange
    }

    /// The external address of each is that of this machine.
    var mappings: [PortMapping] { mappers.flatMap(\.mapper.mappings) }
    var isBusy: Bool { mappers.contains { $0.mapper.isBusy } }
    var isUndecided: Bool { mappers.contains { $0.mapper.isUndecided } }

    /// Why there are none, where there are none.
    var failures: [String] {
        var failures: [String] = []
        for failure in mappers.flatMap(\.mapper.failures) where !failures.contains(failure) { failures.append(failure) }
        return failures
    }

    /// Which ports are to be reached at which addresses, those that matter most first.
    func update(_ wanted: [(client: IPv6Address, targets: [PortMappingTarget])]) {
        let wanted = wanted.prefix(Self.addressLimit)
        let count = mappers.count
        // From an address that is gone nothing can be asked any more.
        mappers.removeAll { entry in
            let isGone = !wanted.contains { $0.client == entry.client }
            if isGone { entry.mapper.forget() }
            return isGone
        }
        for (client, targets) in wanted { mapper(for: client).update(targets) }
        if mappers.count < count { onChange() }
    }

    private func mapper(for client: IPv6Address) -> PortMapper {
        if let found = mappers.first(where: { $0.client == client }) { return found.mapper }
        let mapper = PortMapper(
            loop: loop, blocking: blocking, logger: logger, client: client, onChange: onChange)
        mappers.append((client, mapper))
        return mapper
    }

    /// The router says over IPv4 that it is there; where it restarted, it lost its pinholes, too.
    func announced(_ announcement: GatewayAnnouncement) {
        for (_, mapper) in mappers { mapper.announced(announcement) }
    }

    func refresh() { for (_, mapper) in mappers { mapper.refresh() } }
    func removeAll() { for (_, mapper) in mappers { mapper.removeAll() } }
}
