/// How a node's relay is doing; see `NodeConfiguration.relay`.
public struct RelayStatus: Sendable {
    /// Peers that can be reached through it now.
    public let reservations: Int
    /// Circuits that are open or being made.
    public let circuits: Int
    /// Bytes that went through circuits since the node started, both ways together.
    public let relayedByteCount: Int
    /// Requests refused since the node started.
    public let refusals: Int
    /// Circuits that were cut off because they had carried all they may.
    public let circuitsCut: Int
}

extension Node {
    /// How the relay is doing; nil when the node is none.
    public func relayStatus() async throws -> RelayStatus? {
        try await driver.onHome { $0.relay?.status }
    }
}
