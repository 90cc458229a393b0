import MartletCore

/// Notices that a gateway lost its state, by the seconds that it says have passed since it last did (RFC 6887, section 8.5; what
/// NAT-PMP calls the seconds since start of epoch, RFC 6886, section 3.6, is judged alike).
struct GatewayEpoch: Sendable {
    private var previous: (seconds: Int64, at: Int64)?

    init() {}

    /// Whether nothing was heard yet.
    var isUnknown: Bool { previous == nil }

    /// Takes in what the gateway said.
    ///
    /// - Returns: whether it lost its state since it was last heard.
    mutating func note(_ seconds: UInt32, now: Instant) -> Bool {
        let current = (seconds: Int64(seconds), at: now.nanoseconds / 1_000_000_000)
        defer { previous = current }
        guard let previous else { return false }
        // A second less is no restart: answers overtake each other.
        guard current.seconds >= previous.seconds - 1 else { return true }
        let server = current.seconds - previous.seconds
        let client = current.at - previous.at
        return client + 2 < server - server / 16 || server + 2 < client - client / 16
    }
}
