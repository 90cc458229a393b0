import MartletContent
import MartletCore
import MartletIdentity

/// The first byte chooses the side. Server: whatever requests come, steps stay within the limits, and requests that decode
/// encode to the same bytes. Client: whatever answers come, at most what was asked for comes out.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    guard size > 1 else { return 0 }
    let bytes = Array(UnsafeBufferPointer(start: data + 1, count: size - 1))
    if data[0] & 1 == 0 {
        server(bytes, piece: Int(data[0] >> 1) + 1)
    } else {
        client(bytes, piece: Int(data[0] >> 1) + 1)
    }
    return 0
}

private func server(_ bytes: [UInt8], piece: Int) {
    var limits = BlockStream.Limits()
    limits.outstandingRequests = 4
    limits.outstandingItems = 100
    var session = BlockServerSession(limits: limits)
    var steps = 0
    if let request = try? BlockStream.Request(body: bytes.span.bytes, limits: limits) {
        let encoded = request.encoded.array
        guard encoded.suffix(bytes.count).elementsEqual(bytes) else { fatalError("a request encodes differently") }
    }
    for start in stride(from: 0, to: bytes.count, by: piece) {
        guard (try? session.received(Bytes(Array(bytes[start..<min(start + piece, bytes.count)])))) != nil else {
            return
        }
        steps = 0
        while let step = session.next(maximum: 8) {
            steps += 1
            guard steps <= 104 else { fatalError("more steps than was asked for") }
            if case .leaves(let id, _, _, let indices) = step {
                guard !indices.isEmpty, indices.count <= 8 else { fatalError("a step beyond its maximum") }
                if indices.lowerBound % 3 == 0 {
                    _ = session.takeRest(of: id, indices.lowerBound % 2 == 0 ? .range : .request)
                }
            }
            if case .structure = step { session.finishStructure() }
        }
    }
}

private func client(_ bytes: [UInt8], piece: Int) {
    var session = BlockClientSession()
    let root = CID(codec: .dagPB, multihash: Multihash(SHA256.hash([1])))
    _ = session.requestLeaves(
        root: root, (0..<5).map { BlockClientSession.LeafRequest(index: $0, byteCount: $0 == 4 ? nil : 3) })
    _ = session.requestStructure(root: root, nodeByteCount: 50)
    let (cancelled, _) = session.requestLeaves(root: root, [.init(index: 9, byteCount: 3)])
    _ = session.cancel(cancelled)
    var answered = 0
    for start in stride(from: 0, to: bytes.count, by: piece) {
        guard (try? session.received(Bytes(Array(bytes[start..<min(start + piece, bytes.count)])))) != nil else {
            return
        }
        while let event = session.nextEvent() {
            switch event {
            case .leaf(_, let index, let payload):
                answered += 1
                guard index < 4 ? payload.byteCount == 3 : payload.byteCount <= 2 << 20 else {
                    fatalError("a wrong size")
                }
            case .unavailable(_, let indices, _): answered += indices.count
            case .node(_, let payload): guard payload.byteCount <= 50 else { fatalError("a node beyond the limit") }
            case .structureEnded: break
            }
        }
        guard answered <= 5 else { fatalError("more answers than was asked for") }
    }
}
