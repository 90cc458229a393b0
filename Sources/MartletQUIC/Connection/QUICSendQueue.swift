import CNgtcp2
import DequeModule
import MartletCore

/// The bytes of one stream from when they are given until the peer has acknowledged them. They are never moved: lost packets are
/// sent again from where the bytes lie.
struct QUICSendQueue {
    private var pieces = Deque<Bytes>()
    /// Where the first piece starts in the stream.
    private var start: UInt64 = 0
    /// The piece that the next byte to send is in, and how many bytes of it are sent.
    private var nextIndex = 0
    private var nextOffset = 0
    /// Bytes not sent yet.
    private(set) var unsentCount = 0
    /// Bytes sent and not acknowledged.
    private(set) var unacknowledgedCount = 0

    mutating func append(_ bytes: Bytes) {
        guard !bytes.isEmpty else { return }
        pieces.append(bytes)
        unsentCount += bytes.count
    }

    /// Puts up to `limit` pieces of what is next, at most `byteLimit` bytes, into `room`. They stay valid until acknowledged.
    func next(_ room: UnsafeMutablePointer<mq_piece>, limit: Int, byteLimit: Int) -> (pieces: Int, bytes: Int) {
        var count = 0
        var total = 0
        var index = nextIndex
        var offset = nextOffset
        while count < limit, total < byteLimit, index < pieces.count {
            pieces[index].withUnsafeBytes { bytes in
                let length = min(bytes.count - offset, byteLimit - total)
                // The queue holds the piece, whose memory does not move, until it is acknowledged.
                let base = bytes.baseAddress?.advanced(by: offset).assumingMemoryBound(to: UInt8.self)
                room[count] = mq_piece(base: base, length: length)
                total += length
            }
            count += 1
            index += 1
            offset = 0
        }
        return (count, total)
    }

    /// The next `count` bytes were sent.
    mutating func sent(_ count: Int) {
        unsentCount -= count
        unacknowledgedCount += count
        var left = count
        while left > 0 {
            let step = min(left, pieces[nextIndex].count - nextOffset)
            nextOffset += step
            left -= step
            if nextOffset == pieces[nextIndex].count {
                nextIndex += 1
                nextOffset = 0
            }
        }
    }

    /// The peer has all bytes before `end`.
    mutating func acknowledged(upTo end: UInt64) {
        while nextIndex > 0, let first = pieces.first, start + UInt64(first.count) <= end {
            start += UInt64(first.count)
            unacknowledgedCount -= first.count
            pieces.removeFirst()
            nextIndex -= 1
        }
    }

    /// Drops what was not sent; what was sent stays until the library lets go of it.
    mutating func dropUnsent() {
        unsentCount = 0
        if nextOffset > 0 {
            pieces.removeLast(pieces.count - nextIndex - 1)
        } else {
            pieces.removeLast(pieces.count - nextIndex)
        }
    }
}
