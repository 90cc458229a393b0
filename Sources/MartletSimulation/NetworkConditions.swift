import MartletCore

/// How a simulated network behaves between two nodes.
public struct NetworkConditions: Sendable {
    /// One way; each pair of nodes draws its own from this range, once.
    public var latency: ClosedRange<Duration> = .milliseconds(5)...(.milliseconds(80))
    /// The part of packets lost, from 0 to 1. Connections are reliable, so a loss is a delay of `retransmission`.
    public var loss = 0.0
    public var retransmission = Duration.milliseconds(200)
    /// Bytes per second in each direction of a connection; nil is without limit.
    public var bandwidth: Int?

    public init() {}

    /// No delay, no loss: two engines back to back.
    public static var perfect: NetworkConditions {
        var conditions = NetworkConditions()
        conditions.latency = .zero...(.zero)
        return conditions
    }

    static let packetSize = 1448
}
