import DequeModule
import MartletCore

/// The bytes queued on one stream, in the pieces they were given in. One piece costs no memory beyond its own.
struct SendQueue {
    private var first = Bytes()
    private var rest = Deque<Bytes>()
    private(set) var byteCount = 0

    var isEmpty: Bool { byteCount == 0 }

    mutating func append(_ bytes: Bytes) {
        guard !bytes.isEmpty else { return }
        if byteCount == 0 { first = bytes } else { rest.append(bytes) }
        byteCount += bytes.count
    }

    /// How many bytes a frame of at most `limit` takes: a piece of `large` bytes or more goes on its own, so that it can be sent
    /// from where it is. Were frames cut without regard to pieces, one odd piece would have every later one copied.
    func frameByteCount(limit: Int, large: Int) -> Int {
        guard first.count < limit else { return limit }
        if first.count >= large { return first.count }
        if let next = rest.first, next.count >= large { return first.count }
        return limit
    }

    /// Moves the first `room.count` bytes out into `room`. There must be that many.
    mutating func move(into room: UnsafeMutableRawBufferPointer) {
        precondition(room.count <= byteCount, "taking \(room.count) of \(byteCount) bytes")
        var offset = 0
        while offset < room.count {
            let taken = min(first.count, room.count - offset)
            let target = UnsafeMutableRawBufferPointer(rebasing: room[offset..<offset + taken])
            first.withUnsafeBytes { target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[0..<taken])) }
            offset += taken
            first.removeFirst(taken)
            if first.isEmpty, let next = rest.popFirst() { first = next }
        }
        byteCount -= room.count
    }

    /// Takes the first `count` bytes out as one slice, without copying; nil when they are not in one piece.
    mutating func takePiece(_ count: Int) -> Bytes? {
        guard first.count >= count else { return nil }
        let piece = first.takeFirst(count)
        if first.isEmpty, let next = rest.popFirst() { first = next }
        byteCount -= count
        return piece
    }

    mutating func removeAll() {
        self = SendQueue()
    }

    /// Gives back the room for pieces, at rest.
    mutating func trim() {
        if byteCount == 0 { self = SendQueue() }
    }
}
