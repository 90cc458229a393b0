import MartletCore
import MartletRPC

/// The first byte chooses the side and the size of the pieces. Whatever frames come: memory stays within the limits, each call
/// is told once, and what is read is written back the same.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    guard size > 1 else { return 0 }
    let bytes = Bytes(Array(UnsafeBufferPointer(start: data + 1, count: size - 1)))
    var limits = LatticaLimits()
    limits.frameSize = 400
    limits.messageSize = 500
    limits.callsPerStream = 4
    let piece = Int(data[0] >> 1) + 1
    if data[0] & 1 == 0 { server(bytes, piece, limits) } else { client(bytes, piece, limits) }
    if let frame = try? LatticaStreamFrame(decoding: RPCMessage(bytes)) {
        let body = RPCMessage(frame.encoded.contiguous().dropFirst(4))
        guard (try? LatticaStreamFrame(decoding: body)) == frame else { fatalError("a frame reads differently") }
    }
    return 0
}

private func server(_ bytes: Bytes, _ piece: Int, _ limits: LatticaLimits) {
    var session = LatticaStreamServer(limits: limits)
    var running: [String] = []
    var rest = bytes
    while !rest.isEmpty {
        let isAlive = (try? session.received(rest.takeFirst(min(piece, rest.count)))) != nil
        while let event = session.nextEvent() {
            switch event {
            case .began(let id, let method): if method.hasSuffix("x") { session.refuse(id, "no") }
            case .ready(let id, _, let argument):
                guard !running.contains(id), argument.byteCount <= 500 else { fatalError("a call that is no call") }
                running.append(id)
            case .cancelled(let id):
                guard running.contains(id) else { fatalError("nobody was cancelled") }
                session.finished(id)
                running.removeAll { $0 == id }
            case .send(let frame):
                switch frame {
                case .error, .close: break
                case .request, .data, .cancel: fatalError("a refusal that is none")
                }
            }
        }
        guard session.callCount <= 4, session.bufferedByteCount <= 4 * 500 + 400 else {
            fatalError("beyond the limits")
        }
        guard isAlive else { return }
        if rest.count % 3 == 0, let id = running.popLast() { session.finished(id) }
    }
    session.refuseIncomplete("full")
    for id in running { session.finished(id) }
    while session.nextEvent() != nil {}
    guard session.callCount == 0 else { fatalError("calls are left") }
}

private func client(_ bytes: Bytes, _ piece: Int, _ limits: LatticaLimits) {
    var session = LatticaStreamClient(limits: limits)
    for (id, kind) in [("a", .items), ("b", .result), ("c", .items), ("d", .result)]
        as [(String, LatticaStreamClient.Kind)]
    {
        _ = session.call(kind, id: id, method: "S.m", argument: RPCMessage())
    }
    _ = session.cancel("c")
    var over: Set<String> = []
    var itemBytes = 0
    var rest = bytes
    while !rest.isEmpty {
        let isAlive = (try? session.received(rest.takeFirst(min(piece, rest.count)))) != nil
        if rest.count % 5 == 0 { _ = session.cancel("d") }
        while let event = session.nextEvent() {
            switch event {
            case .item(let id, let item):
                itemBytes += item.count
                guard id == "a", !over.contains(id) else { fatalError("an item of \(id)") }
            case .result(let id, let result):
                guard result.byteCount <= 500, over.insert(id).inserted else { fatalError("a result of \(id)") }
            case .ended(let id), .failed(let id, _), .tooLong(let id), .cancelled(let id):
                guard over.insert(id).inserted else { fatalError("\(id) ended twice") }
            }
        }
        guard session.bufferedByteCount <= 2 * 500 + 400 else { fatalError("beyond the limits") }
        guard isAlive else { return }
    }
    guard itemBytes <= bytes.count, over.count + session.callCount == 4 else { fatalError("something was lost") }
}
