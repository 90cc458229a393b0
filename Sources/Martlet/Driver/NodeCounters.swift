import Metrics

/// What a node counts, through swift-metrics: without a metrics backend these cost next to nothing.
final class NodeCounters: Sendable {
    let bytesReceived = Counter(label: "martlet_bytes_received_total")
    let bytesSent = Counter(label: "martlet_bytes_sent_total")
    let connectionsOpened = Counter(label: "martlet_connections_opened_total")
    let connectionsClosed = Counter(label: "martlet_connections_closed_total")
    let connectionsRefused = Counter(label: "martlet_connections_refused_total")
    let dialsFailed = Counter(label: "martlet_dials_failed_total")
    let streamsOpened = Counter(label: "martlet_streams_opened_total")
    let leavesRejected = Counter(label: "martlet_leaves_rejected_total")
}
