import MartletCore

/// Finds out which ports a NAT gives to new sockets right now: asks a STUN server from several in a row.
///
/// A prediction grows old with every connection that anybody behind the NAT makes, so this is done just before it is used.
struct PortSampler: Sendable {
    static let socketCount = 3
    /// Until the requests are repeated, and until the rest is done without.
    private static let repetition = Duration.milliseconds(200)
    private static let patience = Duration.milliseconds(600)
    /// Steps larger than this are no counting.
    static let largestStep = 16

    private let server: TransportAddress
    private let transactions: [STUNMessage.TransactionID]
    private var ports: [UInt16?]
    private var hasSent = false
    private var nextSend: Instant
    private let endsAt: Instant
    private var orders: [PunchOrder] = []

    init(server: TransportAddress, random: inout RandomSource, now: Instant) {
        self.server = server
        transactions = (0..<Self.socketCount).map { _ in random.bytes(STUNMessage.transactionByteCount) }
        ports = Array(repeating: nil, count: Self.socketCount)
        nextSend = now + Self.repetition
        endsAt = now + Self.patience
    }

    mutating func socketsOpened(_ count: Int, now: Instant) {
        guard !hasSent, count >= Self.socketCount else { return }
        hasSent = true
        send()
    }

    private mutating func send() {
        for (index, id) in transactions.enumerated() where ports[index] == nil {
            orders.append(.send(STUNMessage.request(id).bytes, from: .extra(index), to: server))
        }
    }

    mutating func received(_ packet: [UInt8], on socket: PunchSocket, now: Instant) {
        guard case .extra(let index) = socket, index < transactions.count,
            case .response(let id, let mapped, _, _)? = try? STUNMessage(bytes: packet), id == transactions[index]
        else { return }
        ports[index] = mapped.port
    }

    /// Whether there is nothing more to wait for. Repeats what was not answered.
    mutating func isDone(now: Instant) -> Bool {
        if !ports.contains(nil) || now >= endsAt { return true }
        if now >= nextSend {
            nextSend = endsAt
            if hasSent { send() }
        }
        return false
    }

    var deadline: Instant { min(nextSend, endsAt) }

    mutating func takeOrders() -> [PunchOrder] {
        defer { orders = [] }
        return orders
    }

    /// How the NAT gives ports; nil when too few answers came.
    var allocation: PortAllocation? {
        let known = ports.compactMap(\.self).map(Int.init)
        guard known.count == Self.socketCount else { return nil }
        let steps = zip(known.dropFirst(), known).map { $0 - $1 }
        // Others may have taken ports in between, so the smallest step counts.
        guard let smallest = steps.min(by: { abs($0) < abs($1) }), smallest != 0,
            steps.allSatisfy({ $0.signum() == smallest.signum() && abs($0) <= Self.largestStep })
        else { return .random }
        return .sequential(step: smallest)
    }

    /// The port that the next new mapping is expected to get.
    var nextPort: UInt16? {
        guard case .sequential(let step)? = allocation, let last = ports.last.flatMap(\.self) else { return nil }
        return UInt16(exactly: Int(last) + step)
    }
}
