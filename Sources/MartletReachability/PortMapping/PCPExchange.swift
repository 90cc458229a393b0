public import MartletCore

/// One round of PCP requests to a gateway, or a question whether it speaks PCP: sends each, repeats it until it is answered, and
/// gives up in time for another way.
///
/// RFC 6887 repeats first after three seconds; on a local network that loses nothing this is as quick as NAT-PMP is (RFC 6886,
/// section 3.1).
public struct PCPExchange: Sendable {
    private static let firstInterval = Duration.milliseconds(250)
    private static let attemptLimit = 3

    private struct Pending: Sendable {
        let request: PortMappingRequest
        let nonce: [UInt8]
        var answer: PortMappingAnswer?
    }

    private let client: IPAddress
    private let isProbe: Bool
    private var pending: [Pending]
    private var attempts = 0
    private var nextSend: Instant
    private var failure: String?
    public private(set) var externalAddress: IPAddress?
    /// Seconds since the gateway lost its state, as it says.
    public private(set) var epoch: UInt32?

    /// - Parameter nonces: one for each request; those that make a mapping, renew and remove it, must be the same.
    public init(_ requests: [PortMappingRequest], nonces: [[UInt8]], client: IPAddress, now: Instant) {
        precondition(requests.count == nonces.count, "\(requests.count) requests with \(nonces.count) nonces")
        self.client = client
        isProbe = false
        pending = zip(requests, nonces).map { Pending(request: $0, nonce: $1) }
        nextSend = now
    }

    /// Asks only whether the gateway speaks PCP, and its epoch.
    public init(probingFor client: IPAddress, now: Instant) {
        self.client = client
        isProbe = true
        pending = []
        nextSend = now
    }

    /// When `datagrams` has something to send or the exchange ends; nil when it has ended.
    public var deadline: Instant? { isOver ? nil : nextSend }

    public var isOver: Bool {
        if failure != nil { return true }
        return isProbe ? epoch != nil : pending.allSatisfy { $0.answer != nil }
    }

    /// What is to be sent now.
    public mutating func datagrams(now: Instant) -> [[UInt8]] {
        guard !isOver, now >= nextSend else { return [] }
        guard attempts < Self.attemptLimit else {
            failure = "the gateway does not answer PCP"
            return []
        }
        nextSend = now + Self.firstInterval * (1 << attempts)
        attempts += 1
        if isProbe { return [PCPMessage.announce(client: client)] }
        return pending.filter { $0.answer == nil }.map {
            PCPMessage.request($0.request, nonce: $0.nonce, client: client)
        }
    }

    /// A datagram came from the gateway. What answers none of the requests is ignored.
    public mutating func received(_ bytes: RawSpan) {
        guard !isOver else { return }
        let response: PCPMessage.Response
        do {
            if isProbe {
                // Even one that does not know the question shows that it speaks PCP.
                epoch = try PCPMessage.epoch(bytes)
                return
            }
            response = try PCPMessage.response(bytes)
        } catch {
            // A gateway that knows NAT-PMP alone answers shortly, in version 0.
            if case .invalid(_, let reason) = error, bytes.byteCount >= 4, bytes.unsafeLoad(as: UInt8.self) == 0 {
                failure = reason
            }
            return
        }
        guard
            let index = pending.firstIndex(where: {
                $0.nonce == response.nonce && $0.request.target == response.target
            })
        else { return }
        epoch = response.epoch
        guard response.result == 0 else {
            pending[index].answer = .failed(PCPMessage.reason(response.result))
            return
        }
        if pending[index].request.lifetime > 0 { externalAddress = response.externalAddress }
        pending[index].answer = .mapped(externalPort: response.externalPort, lifetime: response.lifetime)
    }

    /// The network does not take the datagrams.
    public mutating func failed(_ reason: String) {
        if !isOver { failure = reason }
    }

    /// What came of it, once it is over. Answers are kept when only some came.
    public var result: Result<[(PortMappingRequest, PortMappingAnswer)], PortMappingFailure> {
        let answers = pending.compactMap { entry in entry.answer.map { (entry.request, $0) } }
        if answers.isEmpty, let failure { return .failure(PortMappingFailure(failure)) }
        return .success(answers)
    }
}
