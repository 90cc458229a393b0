import MartletCore

@testable @_spi(Fuzzing) import MartletConnection

/// A session whose peer is played by hand, frame by frame.
final class YamuxBench {
    let session: YamuxSession
    var now = testStart
    private var output: [UInt8] = []

    init(
        _ role: ConnectionRole = .listener, budget: WindowBudget? = nil,
        configure: (inout ConnectionConfiguration) -> Void = { _ in }
    ) {
        var configuration = ConnectionConfiguration()
        configuration.initialPings = 1
        configure(&configuration)
        session = YamuxSession(
            role: role, configuration: configuration, budget: budget, random: RandomSource(seed: 1), now: testStart)
    }

    /// A session that has sent its first ping, and got its answer after `roundTrip` if one is given.
    static func started(
        _ role: ConnectionRole = .listener, roundTrip: Duration? = nil, budget: WindowBudget? = nil,
        configure: (inout ConnectionConfiguration) -> Void = { _ in }
    ) throws -> YamuxBench {
        let bench = YamuxBench(role, budget: budget, configure: configure)
        let ping = bench.sent()[0].header
        if let roundTrip {
            bench.now = bench.now + roundTrip
            try bench.receive(.ping, .ack, stream: 0, length: ping.length)
            _ = bench.events()
        }
        return bench
    }

    func receive(
        _ kind: YamuxHeader.Kind, _ flags: YamuxHeader.Flags, stream: UInt32, length: UInt32, _ payload: [UInt8] = []
    ) throws(YamuxError) {
        try receive(YamuxBench.bytes(YamuxHeader(kind, flags, stream: stream, length: length)) + payload)
    }

    /// A DATA frame that carries `payload`.
    func receiveData(_ payload: [UInt8], _ flags: YamuxHeader.Flags = [], stream: UInt32) throws(YamuxError) {
        try receive(.data, flags, stream: stream, length: UInt32(payload.count), payload)
    }

    func receive(_ bytes: [UInt8]) throws(YamuxError) {
        let region = ReceivedRegion(copying: bytes)
        session.receivedAnything(now: now)
        try session.receive(region.storage, region.range, now: now)
    }

    static func bytes(_ header: YamuxHeader) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: YamuxHeader.byteCount)
        bytes.withUnsafeMutableBytes { header.write(to: $0) }
        return bytes
    }

    struct Frame: Equatable {
        var header: YamuxHeader
        var payload: [UInt8] = []
    }

    /// Every frame that the session has to send.
    func sent(room: Int = 40_000) -> [Frame] {
        var memory = [UInt8](repeating: 0, count: room)
        while true {
            let count = memory.withUnsafeMutableBytes { session.fill($0, now: now) }
            if count == 0 { break }
            output += memory[..<count]
        }
        var frames: [Frame] = []
        var position = 0
        while position < output.count {
            guard
                let header = try? Array(output[position..<position + 12]).withUnsafeBytes({ try YamuxHeader($0) })
            else { break }
            position += 12
            let count = header.kind == .data ? Int(header.length) : 0
            frames.append(Frame(header: header, payload: Array(output[position..<position + count])))
            position += count
        }
        output = []
        return frames
    }

    func events() -> [ConnectionEvent] {
        var events: [ConnectionEvent] = []
        while let event = session.nextEvent() { events.append(event) }
        return events
    }

    /// The events as short texts.
    func log() -> [String] {
        events().map { event in
            switch event {
            case .established: "established"
            case .inboundStream(let id): "inbound \(id.rawValue)"
            case .data(let id, let bytes): "data \(id.rawValue) \(bytes.count)"
            case .remoteFinished(let id): "finished \(id.rawValue)"
            case .streamReset(let id): "reset \(id.rawValue)"
            case .streamClosed(let id): "closed \(id.rawValue)"
            case .writable(let id): "writable \(id.rawValue)"
            case .roundTrip: "round trip"
            case .closed: "end"
            }
        }
    }

    func open() throws(StreamOpenError) -> StreamID { try session.openStream(now: now) }
}

extension Sequence where Element == YamuxBench.Frame {
    /// How many bytes of payload the frames carry together.
    var payloadByteCount: Int { reduce(0) { $0 + $1.payload.count } }
}

extension YamuxHeader {
    static func data(_ flags: Flags = [], stream: UInt32, length: UInt32) -> YamuxHeader {
        YamuxHeader(.data, flags, stream: stream, length: length)
    }

    static func window(_ flags: Flags = [], stream: UInt32, by delta: UInt32 = 0) -> YamuxHeader {
        YamuxHeader(.windowUpdate, flags, stream: stream, length: delta)
    }
}
