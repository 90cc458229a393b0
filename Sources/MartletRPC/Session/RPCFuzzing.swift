import MartletCore

/// What the fuzz targets of `Fuzz/` drive, which is another package and sees only what is public.
@_spi(Fuzzing)
public enum RPCFuzzing {
    /// Parses `bytes` in pieces of `piece`: every frame must come back from its own encoding. Returns what was violated.
    public static func parse(_ bytes: [UInt8], piece: Int) -> String? {
        var parser = RPCFrameParser(limits: RPCLimits())
        for start in stride(from: 0, to: bytes.count, by: max(1, piece)) {
            parser.append(Bytes(Array(bytes[start..<min(start + max(1, piece), bytes.count)])))
            do {
                while let (frame, payload, _) = try parser.next() {
                    guard payload.byteCount == frame.payloadCount else { return "a payload of another size" }
                    var room = [UInt8](repeating: 0, count: frame.headerBound)
                    let size = room.withUnsafeMutableBytes { frame.write(to: $0) }
                    guard let again = try RPCFrame.decode(room.span.bytes, limits: RPCLimits()) else {
                        return "\(frame) does not decode"
                    }
                    guard again.frame == frame, again.headerCount == size else { return "\(frame) changes" }
                }
            } catch { return nil }
        }
        return nil
    }

    /// A session of either role is fed `bytes` as its peer's. What it holds must stay within its limits, and whatever it
    /// sends must be frames. Returns what was violated.
    public static func receive(_ bytes: [UInt8], piece: Int, asServer: Bool) -> String? {
        var limits = RPCLimits()
        limits.bufferedBytesPerSession = 1 << 20
        limits.callsPerSession = 16
        let now = Instant(nanoseconds: 1)
        let session = RPCSession(role: asServer ? .server : .caller, id: RPCSessionID(high: 1, low: 2), limits: limits)
        if asServer {
            let hello = RPCHello(session: session.id, lane: .activation, isResumed: false, receivedCount: 0, link: 1)
            guard session.acceptLink(hello) else { return "a first hello was not taken" }
        } else {
            session.openLink(.activation)
            for kind in [RPCCall.Kind.unary, .stream, .oneWay, .unary] {
                let request = RPCCallRequest(method: "a.b", kind: kind, message: RPCMessage(utf8: "x"))
                guard (try? session.start(request, token: 0, now: now)) != nil else { return "a call was not begun" }
            }
            session.receive(
                RPCWelcome(status: .welcome, callLimit: 16, messageLimit: 1 << 20).encoded, on: .activation, now: now)
        }
        var isFirst = true
        var sent = RPCFrameParser(limits: .unlimited)
        for start in stride(from: 0, to: bytes.count, by: max(1, piece)) {
            let part = Bytes(Array(bytes[start..<min(start + max(1, piece), bytes.count)]))
            session.receive(part, on: .activation, now: now)
            serve(session, now)
            guard session.usage <= limits.bufferedBytesPerSession + RPCWire.fragmentLimit else {
                return "\(session.usage) bytes are held"
            }
            guard session.activeCount <= max(RPCWire.initialCallLimit, limits.callsPerSession) + 1 else {
                return "\(session.activeCount) calls are open"
            }
            while let output = session.nextOutput(.activation) {
                // The hello or the welcome.
                if isFirst {
                    isFirst = false
                    continue
                }
                sent.append(output)
                do { while try sent.next() != nil {} } catch { return "what was sent is no frame: \(error)" }
            }
        }
        session.fail(RPCError(.unavailable, "the end"))
        serve(session, now)
        return session.usage == 0 || session.failure != nil ? nil : "\(session.usage) bytes are left"
    }

    /// Every other call is answered; the others hang.
    private static func serve(_ session: RPCSession, _ now: Instant) {
        while let event = session.nextEvent() {
            switch event {
            case .incoming(let call):
                if session.begin(call, awaitingRequest: call.id % 3 != 0) { answer(call, session, now) }
            case .request(let call): answer(call, session, now)
            case .cancelled(let call): session.handlerFinished(call, .failure(RPCError(.cancelled, "stopped")))
            case .readable(let call): while case .message = session.take(from: call, now: now) {}
            case .finished, .handedOver, .writable, .lost: break
            }
        }
    }

    private static func answer(_ call: RPCCall, _ session: RPCSession, _ now: Instant) {
        if call.id % 3 == 0 { while case .message = session.take(from: call, now: now) {} }
        guard call.id % 2 == 0 else { return }
        session.handlerFinished(call, .success(session.takeRequest(of: call)))
    }
}
