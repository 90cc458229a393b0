import Metrics
import Synchronization

/// What a relay counts, from any loop: for `Node.relayStatus()` and through swift-metrics.
final class RelayStatistics: Sendable {
    private let bytes = Atomic<Int>(0)
    private let refused = Atomic<Int>(0)
    private let cut = Atomic<Int>(0)
    private let byteCounter = Counter(label: "martlet_relay_bytes_total")
    private let refusalCounter = Counter(label: "martlet_relay_refusals_total")
    private let cutCounter = Counter(label: "martlet_relay_circuits_cut_total")
    private let reservationGauge = Gauge(label: "martlet_relay_reservations")
    private let circuitGauge = Gauge(label: "martlet_relay_circuits")

    var byteCount: Int { bytes.load(ordering: .relaxed) }
    var refusalCount: Int { refused.load(ordering: .relaxed) }
    var cutCount: Int { cut.load(ordering: .relaxed) }

    /// Bytes went through a circuit.
    func passed(_ count: Int) {
        bytes.add(count, ordering: .relaxed)
        byteCounter.increment(by: count)
    }

    /// A request was refused.
    func refusal() {
        refused.add(1, ordering: .relaxed)
        refusalCounter.increment()
    }

    /// A circuit reached its limit of bytes.
    func cutOff() {
        cut.add(1, ordering: .relaxed)
        cutCounter.increment()
    }

    func now(reservations: Int, circuits: Int) {
        reservationGauge.record(reservations)
        circuitGauge.record(circuits)
    }
}
