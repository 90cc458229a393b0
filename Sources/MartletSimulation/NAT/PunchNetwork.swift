import HeapModule
import MartletCore
import MartletReachability

/// Hosts behind NATs on a virtual clock, exchanging datagrams and words over a relay.
final class PunchNetwork {
    enum Event {
        case datagram(SimulatedDatagram, to: PunchHost)
        case signal([UInt8], to: PunchHost)
        case timer(PunchHost)
        case action((PunchNetwork) -> Void)
    }

    private struct Entry: Comparable {
        let time: Instant
        let number: Int

        static func < (left: Entry, right: Entry) -> Bool { (left.time, left.number) < (right.time, right.number) }
    }

    private(set) var now = Instant(nanoseconds: 1_000_000_000)
    private(set) var hosts: [PunchHost] = []
    private var heap = Heap<Entry>()
    private var events: [Int: Event] = [:]
    private var lastNumber = 0
    private(set) var eventCount = 0
    var random: RandomSource
    /// The share of datagrams on the internet that is lost.
    let loss: Double

    /// How long packets take inside a site.
    private static let localDelay = Duration.microseconds(300)

    init(seed: UInt64, loss: Double) {
        random = RandomSource(seed: seed)
        self.loss = loss
    }

    func add(_ host: PunchHost) { hosts.append(host) }

    func plan(_ event: Event, at time: Instant) {
        lastNumber += 1
        heap.insert(Entry(time: max(time, now), number: lastNumber))
        events[lastNumber] = event
    }

    /// Runs until `condition` holds or the time is over; returns whether it holds.
    @discardableResult
    func run(for duration: Duration, until condition: () -> Bool = { false }) -> Bool {
        let end = now + duration
        while !condition() {
            guard let entry = heap.min, entry.time <= end else {
                now = end
                return false
            }
            heap.removeMin()
            now = entry.time
            eventCount += 1
            guard let event = events.removeValue(forKey: entry.number) else { continue }
            switch event {
            case .datagram(let datagram, let host): host.received(datagram)
            case .signal(let bytes, let host): host.signalled(bytes)
            case .timer(let host): host.timedOut()
            case .action(let body): body(self)
            }
        }
        return true
    }

    // MARK: Datagrams

    /// Sends a datagram from a host out through its NATs and in through those of its destination.
    func send(_ datagram: SimulatedDatagram, from host: PunchHost) {
        // On the same network inside.
        if let neighbour = hosts.first(where: { $0.address == datagram.destination.ip && $0.router === host.router }) {
            return plan(.datagram(datagram, to: neighbour), at: now + Self.localDelay)
        }
        var datagram = datagram
        var router = host.router
        while let box = router {
            guard let outside = box.outbound(datagram, now: now) else { return }
            datagram = outside
            if datagram.destination.ip == box.address {
                guard box.specification.hairpins else { return }
                return deliver(datagram, through: box, after: Self.localDelay)
            }
            // A neighbour behind the same NAT further out.
            if let parent = box.parent,
                let neighbour = hosts.compactMap(\.router).first(where: {
                    $0.parent === parent && $0.address == datagram.destination.ip
                })
            {
                return deliver(datagram, through: neighbour, after: Self.localDelay)
            }
            router = box.parent
        }
        if loss > 0, Double.random(in: 0..<1, using: &random) < loss { return }
        guard let target = hosts.first(where: { $0.publicAddress == datagram.destination.ip }) else { return }
        let delay = host.uplink + target.uplink
        if let box = target.outermost {
            plan(.action { $0.deliver(datagram, through: box, after: .zero) }, at: now + delay)
        } else {
            plan(.datagram(datagram, to: target), at: now + delay)
        }
    }

    /// Brings a datagram in through a NAT, and those behind it.
    private func deliver(_ datagram: SimulatedDatagram, through box: NATBox, after delay: Duration) {
        guard let inside = box.inbound(datagram, now: now) else { return }
        if let host = hosts.first(where: { $0.router === box && $0.address == inside.destination.ip }) {
            return plan(.datagram(inside, to: host), at: now + delay)
        }
        let next = hosts.compactMap(\.router).first { $0.parent === box && $0.address == inside.destination.ip }
        if let next { deliver(inside, through: next, after: delay) }
    }
}
