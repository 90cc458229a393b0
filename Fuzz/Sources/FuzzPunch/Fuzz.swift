import MartletCore
import MartletReachability

/// What a peer says to punch holes, and packets that anybody sends: messages that are read keep what they say; a run that is fed
/// them sends no more than its limits, only to public addresses and neighbours, and ends.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: data, count: size))
    if let message = try? DCUtRMessage(bytes), case .connect(let addresses) = message {
        guard addresses.count <= DCUtR.addressLimit else { fatalError("more addresses than are read") }
    }
    if let message = try? PunchMessage(bytes) {
        guard message.encoded.count <= PunchLimits.messageByteCount else { fatalError("longer than peers read") }
    }
    if let message = try? STUNMessage(bytes: bytes) {
        guard (try? STUNMessage(bytes: message.bytes)) == message else { fatalError("STUN changes when it is written") }
    }
    let own = PunchDescription(udp: [TransportAddress(.v4(IPv4Address(11, 7, 0, 1)), port: 4001)])
    let start = Instant(nanoseconds: 1_000_000_000)
    let machines: [any PunchMachine] = [
        PunchRun(isDialer: true, local: own, servers: [], random: RandomSource(seed: 1), now: start),
        PunchRun(isDialer: false, local: own, servers: [], random: RandomSource(seed: 1), now: start),
        DCUtRRun(isInitiator: true, addresses: [], random: RandomSource(seed: 1), now: start),
        DCUtRRun(isInitiator: false, addresses: [], random: RandomSource(seed: 1), now: start),
    ]
    for machine in machines { run(machine, bytes, start) }
    return 0
}

private func run(_ machine: any PunchMachine, _ bytes: [UInt8], _ start: Instant) {
    let limits = PunchLimits()
    var now = start
    var sent = 0
    var isOver = false
    func drain() {
        while let order = machine.nextOrder() {
            switch order {
            case .send(_, _, let address):
                sent += 1
                guard address.isPublic || address.isPrivate else { fatalError("a packet to \(address)") }
            case .openSockets(let count): machine.socketsOpened(min(count, limits.extraSockets), now: now)
            case .finished: isOver = true
            case .learnTCP: machine.learnedTCP([TransportAddress(.v4(IPv4Address(11, 7, 0, 1)), port: 4001)], now: now)
            case .signal, .closeSockets, .acceptQUIC, .connectQUIC, .expectTCP, .connectTCP, .stopConnecting: break
            }
        }
    }
    machine.start(now: now)
    machine.received(Array(bytes.prefix(64)), from: TransportAddress(.v4(.loopback), port: 1), on: .main, now: now)
    let half = bytes.count / 2
    machine.signalled(Bytes(Array(bytes[..<half])), now: now)
    drain()
    machine.signalled(Bytes(Array(bytes[half...])), now: now)
    drain()
    for _ in 0..<20_000 {
        guard !isOver, let deadline = machine.deadline else { break }
        now = max(now, deadline)
        machine.handleTimeout(now: now)
        drain()
    }
    machine.signallingEnded("the end", now: now)
    drain()
    guard sent <= limits.maximumPackets * limits.maximumAttempts else { fatalError("\(sent) packets") }
}
