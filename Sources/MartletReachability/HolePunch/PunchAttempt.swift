import MartletCore

/// The part of a punch in which packets fly: sends probes as its plan says and says over which path to connect.
struct PunchAttempt: Sendable {
    /// A path that carried packets of the peer's.
    private struct Path: Hashable {
        let socket: PunchSocket
        let address: TransportAddress
    }

    let plan: PunchPlan
    private let key: PunchKey
    private let isDialer: Bool
    private let limits: PunchLimits
    private let beganAt: Instant
    private(set) var endsAt: Instant
    private var nextRound: Instant
    /// Those by which packets of the peer came, and those of them that have carried one there and one back.
    private var paths: [Path] = []
    private var isProven = false
    private var dialed: [Path] = []
    /// When a path that was dialed before it was open is dialed once more, for the first packet may have been lost.
    private var redial: (path: Path, at: Instant)?
    private var hasRedialed = false
    /// Over the relay; the direct one is rarely longer.
    private let roundTrip: Duration
    private var acceptedOn: PunchSocket?
    private var number: UInt32 = 0
    private var packetCount = 0
    private var heardCount = 0

    private var guesses: PortGuesses
    private var nextGuess: Instant
    private var guessCount = 0
    private var hasAskedForSockets = false
    /// The extra sockets that have sent, and when all send again.
    private var spreadCount = 0
    private var nextSpread: Instant
    private var orders: [PunchOrder] = []

    /// Paths remembered at most; a peer has no more sockets that could be of use.
    private static let pathLimit = 4
    /// Ports are guessed, and sockets used for the first time, in portions.
    private static let portionInterval = Duration.milliseconds(10)
    private static let socketsPerPortion = 32
    private static let spreadRepetition = Duration.seconds(1)
    /// Once a path is found, the handshake over it gets this long.
    private static let handshakeTime = Duration.milliseconds(2500)

    init(
        plan: PunchPlan, key: PunchKey, isDialer: Bool, roundTrip: Duration, limits: PunchLimits,
        random: inout RandomSource, now: Instant
    ) {
        self.roundTrip = roundTrip
        self.plan = plan
        self.key = key
        self.isDialer = isDialer
        self.limits = limits
        beganAt = now
        endsAt = now + plan.duration
        nextRound = now
        var first: [UInt16] = []
        var after = Duration.zero
        switch plan.tactic {
        case .plain, .lockstep: break
        case .spread(_, _, let delay): after = delay
        case .guess(_, let ports, let delay):
            first = ports
            after = delay
        }
        nextGuess = now + after
        nextSpread = now + after
        guesses = PortGuesses(first: first, random: &random)
        connectAtOnce()
    }

    var dialCount: Int { dialed.count }

    mutating func takeOrders() -> [PunchOrder] {
        defer { orders = [] }
        return orders
    }

    mutating func takeHeardCount() -> Int {
        defer { heardCount = 0 }
        return heardCount
    }

    // MARK: Sending

    /// Both sides begin at the same time, so a first packet of QUIC gets through where a probe would, and saves a round trip.
    private mutating func connectAtOnce() {
        guard isDialer, case .plain = plan.tactic else { return }
        if let likely = plan.targets.first(where: { $0.isPublic && $0.isIPv4 }) { dial(.main, likely) }
        if let likely = plan.targets.first(where: { $0.isPublic && !$0.isIPv4 }) { dial(.main, likely) }
    }

    private mutating func sendInStep() {
        guard case .lockstep(let host, let ports) = plan.tactic else { return }
        for port in ports { probe(.main, TransportAddress(host, port: port)) }
    }

    /// Sends what is due.
    mutating func advance(extraSockets: Int, random: inout RandomSource, now: Instant) {
        if now >= nextRound { sendRound(now: now) }
        if let (path, time) = redial, now >= time {
            redial = nil
            dial(path.socket, path.address)
        }
        guard !isProven else { return }
        switch plan.tactic {
        case .plain, .lockstep: break
        case .guess(let host, _, _): guess(host, now: now)
        case .spread(let count, let targets, _): spread(count, targets, extraSockets, now: now)
        }
    }

    private mutating func sendRound(now: Instant) {
        for target in plan.targets where !paths.contains(where: { $0.address == target }) { probe(.main, target) }
        for path in paths { probe(path.socket, path.address) }
        if case .lockstep = plan.tactic, paths.isEmpty { sendInStep() }
        let age = now - beganAt
        nextRound = now + Self.interval(after: age, isWide: plan.tactic.name == "lockstep")
    }

    /// Often at first, when both sides have just begun; a round of many packets less often.
    private static func interval(after age: Duration, isWide: Bool) -> Duration {
        if isWide { return .milliseconds(200) }
        if age < .milliseconds(300) { return .milliseconds(20) }
        return age < .milliseconds(1500) ? .milliseconds(60) : .milliseconds(200)
    }

    private mutating func guess(_ host: IPAddress, now: Instant) {
        guard now >= nextGuess else { return }
        let portion = max(1, limits.guessesPerSecond * Int(Self.portionInterval.nanoseconds) / 1_000_000_000)
        for _ in 0..<portion where guessCount < limits.maximumGuesses {
            guard let port = guesses.draw() else { break }
            guessCount += 1
            probe(.main, TransportAddress(host, port: port))
        }
        nextGuess = guessCount < limits.maximumGuesses ? now + Self.portionInterval : .distantFuture
    }

    private mutating func spread(_ count: Int, _ targets: [TransportAddress], _ extraSockets: Int, now: Instant) {
        guard now >= nextSpread else { return }
        if !hasAskedForSockets {
            hasAskedForSockets = true
            orders.append(.openSockets(count))
        }
        let available = min(count, extraSockets)
        for index in spreadCount..<min(available, spreadCount + Self.socketsPerPortion) {
            for target in targets { probe(.extra(index), target) }
            spreadCount = index + 1
        }
        if spreadCount < available {
            nextSpread = now + Self.portionInterval
        } else {
            // Until there are more sockets; then again, for packets get lost and mappings grow old.
            spreadCount = available == count ? 0 : spreadCount
            nextSpread = available == count ? now + Self.spreadRepetition : now + Self.portionInterval
        }
    }

    private mutating func probe(_ socket: PunchSocket, _ address: TransportAddress) {
        number &+= 1
        send(PunchProbe(isAnswer: false, isFromDialer: isDialer, number: number), socket, address)
    }

    private mutating func send(_ probe: PunchProbe, _ socket: PunchSocket, _ address: TransportAddress) {
        guard packetCount < limits.maximumPackets else { return }
        packetCount += 1
        orders.append(.send(probe.encoded(with: key), from: socket, to: address))
    }

    private mutating func dial(_ socket: PunchSocket, _ address: TransportAddress) {
        guard dialed.count < limits.maximumDials else { return }
        dialed.append(Path(socket: socket, address: address))
        orders.append(.connectQUIC(from: socket, to: address))
    }

    // MARK: Receiving

    mutating func received(_ packet: [UInt8], from address: TransportAddress, on socket: PunchSocket, now: Instant) {
        guard let probe = PunchProbe(packet, key: key), probe.isFromDialer != isDialer else { return }
        heardCount += 1
        let path = Path(socket: socket, address: address)
        if !probe.isAnswer {
            // A probe of our own before the answer: when the peer hears the answer and dials, its answer is on its way already.
            if note(path) { self.probe(socket, address) }
            send(PunchProbe(isAnswer: true, isFromDialer: isDialer, number: probe.number), socket, address)
        } else {
            note(path)
            prove(now: now)
        }
        if isDialer {
            // That a packet came says that its way back is open too, unless a NAT answers it from another port.
            if probe.isAnswer || isPlain { connect(path, now: now) }
        } else if probe.isAnswer, case .extra = socket, acceptedOn == nil {
            acceptedOn = socket
            orders.append(.acceptQUIC(on: socket))
        }
    }

    private var isPlain: Bool { if case .plain = plan.tactic { true } else { false } }

    private mutating func connect(_ path: Path, now: Instant) {
        if !dialed.contains(path) {
            dial(path.socket, path.address)
        } else if !hasRedialed {
            hasRedialed = true
            redial = (path, now + roundTrip * 3 / 2)
        }
    }

    /// Whether the path is new.
    @discardableResult
    private mutating func note(_ path: Path) -> Bool {
        guard !paths.contains(path), paths.count < Self.pathLimit else { return false }
        paths.append(path)
        return true
    }

    /// There is a way there and back: the rest is up to the handshake, which gets its time.
    private mutating func prove(now: Instant) {
        guard !isProven else { return }
        isProven = true
        endsAt = max(endsAt, now + Self.handshakeTime)
    }

    // MARK: Time

    var deadline: Instant {
        var next = min(endsAt, nextRound, redial?.at ?? .distantFuture)
        guard !isProven else { return next }
        switch plan.tactic {
        case .plain, .lockstep: break
        case .guess: next = min(next, nextGuess)
        case .spread: next = min(next, nextSpread)
        }
        return next
    }
}
