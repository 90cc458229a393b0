import DequeModule
import MartletCore

/// What one lane sends: encoded frames, in order, kept until the peer has acknowledged them.
///
/// Small frames of one turn lie one after the other in a block; a large payload is kept as the slices it was given in.
/// A chunk is what is handed to the stream at once. Frames have no number on the wire: both sides count them.
struct RPCSendLog {
    private struct Chunk {
        var bytes: Bytes
        /// The frame in which the first byte lies, and the one in which the last does.
        var firstFrame: Int64
        var lastFrame: Int64
        /// Whether it begins with a frame rather than with the payload of one.
        var startsFrame: Bool
    }

    /// Small frames share blocks of this size.
    private static let blockSize = 16 << 10
    /// A payload up to this size is copied behind its header; larger ones are kept where they are.
    static let inlineLimit = 2048

    private var chunks = Deque<Chunk>()
    /// How many of `chunks` were handed to the stream.
    private var cursor = 0

    // The block being written to, and the part of it that is no chunk yet.
    private var block: BytesStorage?
    private var blockStart = 0
    private var blockEnd = 0
    private var openFirstFrame: Int64 = 0

    /// Frames encoded so far, without those that are not counted.
    private(set) var frameCount: Int64 = 0
    /// Frames that the peer has received.
    private(set) var acknowledged: Int64 = 0
    /// Frames of which anything was ever handed to a stream.
    private(set) var handedOut: Int64 = 0
    /// Bytes kept.
    private(set) var byteCount = 0
    /// Bytes not handed to the stream yet.
    private(set) var pendingByteCount = 0

    var unacknowledgedCount: Int64 { frameCount - acknowledged }
    var isEmpty: Bool { pendingByteCount == 0 }
    /// Whether the next byte to be handed out begins a frame.
    var isAtFrame: Bool { cursor == chunks.count || chunks[cursor].startsFrame }

    // MARK: Writing

    /// Encodes a frame behind those before it, with the part of `message` that `payload` says.
    mutating func append(_ frame: RPCFrame, _ message: RPCMessage? = nil, payload: Range<Int> = 0..<0) {
        let bound = frame.headerBound
        let isInline = payload.count <= Self.inlineLimit
        let room = reserve(bound + (isInline ? payload.count : 0))
        var size = frame.write(to: room)
        if isInline, let message, !payload.isEmpty {
            message.copy(payload, to: UnsafeMutableRawBufferPointer(rebasing: room[size..<size + payload.count]))
            size += payload.count
        }
        grew(size)
        if frame.isCounted { frameCount += 1 }
        guard !isInline, let message else { return }
        closeBlock()
        message.forEachPiece(of: payload) { piece in
            let number = frameCount - 1
            chunks.append(Chunk(bytes: piece, firstFrame: number, lastFrame: number, startsFrame: false))
            byteCount += piece.count
            pendingByteCount += piece.count
        }
    }

    /// Room for `count` bytes in the open block.
    private mutating func reserve(_ count: Int) -> UnsafeMutableRawBufferPointer {
        if block.map({ $0.capacity - blockEnd < count }) ?? true {
            closeBlock()
            block = BytesStorage(capacity: max(count, Self.blockSize))
            blockStart = 0
            blockEnd = 0
        }
        if blockEnd == blockStart { openFirstFrame = frameCount }
        // The block is there by the lines above, and no slice covers it from `blockEnd` on.
        return UnsafeMutableRawBufferPointer(rebasing: block.unsafelyUnwrapped.mutableBytes[blockEnd...])
    }

    private mutating func grew(_ count: Int) {
        blockEnd += count
        byteCount += count
        pendingByteCount += count
    }

    /// Makes a chunk of what was written since the last one.
    private mutating func closeBlock() {
        guard let block, blockEnd > blockStart else { return }
        chunks.append(
            Chunk(
                bytes: block.slice(blockStart..<blockEnd), firstFrame: openFirstFrame, lastFrame: frameCount - 1,
                startsFrame: true))
        blockStart = blockEnd
    }

    // MARK: Handing out

    /// The next bytes for the stream.
    mutating func takeChunk() -> Bytes? {
        if cursor == chunks.count { closeBlock() }
        guard cursor < chunks.count else { return nil }
        let bytes = chunks[cursor].bytes
        handedOut = max(handedOut, chunks[cursor].lastFrame + 1)
        cursor += 1
        pendingByteCount -= bytes.count
        trim()
        return bytes
    }

    /// The peer has received the first `count` frames. False when it cannot have.
    mutating func acknowledge(_ count: Int64) -> Bool {
        guard count <= handedOut else { return false }
        if count > acknowledged {
            acknowledged = count
            trim()
        }
        return true
    }

    /// Drops what need not be sent again.
    private mutating func trim() {
        while cursor > 0, let first = chunks.first, first.lastFrame < acknowledged {
            byteCount -= first.bytes.count
            chunks.removeFirst()
            cursor -= 1
        }
        if chunks.isEmpty, blockEnd == blockStart, acknowledged == frameCount { block = nil }
    }

    /// Begins again on another stream, with the first frame that the peer has not received. False when `received`
    /// cannot be: frames that were acknowledged, or never sent.
    mutating func rewind(to received: Int64) -> Bool {
        guard received >= acknowledged, acknowledge(received) else { return false }
        closeBlock()
        cursor = min(cursor, chunks.count)
        while let first = chunks.first, first.lastFrame < received {
            byteCount -= first.bytes.count
            chunks.removeFirst()
        }
        cursor = 0
        if var first = chunks.first {
            // Only chunks that begin with a frame can hold the first one that is missing.
            while first.firstFrame < received {
                guard let decoded = try? RPCFrame.decode(first.bytes.span, limits: .unlimited) else { return false }
                let size = decoded.headerCount + decoded.frame.payloadCount
                guard size <= first.bytes.count else { return false }
                first.bytes.removeFirst(size)
                byteCount -= size
                if decoded.frame.isCounted { first.firstFrame += 1 }
            }
            chunks[0] = first
        }
        pendingByteCount = byteCount
        return true
    }
}

extension RPCLimits {
    /// For what this side encoded itself.
    static let unlimited: RPCLimits = {
        var limits = RPCLimits()
        limits.metadataSize = 1 << 40
        limits.methodNameSize = 1 << 40
        limits.errorTextSize = 1 << 40
        limits.errorDetailsSize = 1 << 40
        return limits
    }()
}

extension RPCMessage {
    /// Calls `body` for the slices that make up `range` of the message.
    func forEachPiece(of range: Range<Int>, _ body: (Bytes) -> Void) {
        var start = 0
        var index = 0
        while start < range.upperBound, index < pieceCount {
            let piece = piece(index)
            let lower = max(range.lowerBound - start, 0)
            let upper = min(range.upperBound - start, piece.count)
            if lower < upper { body(piece[lower..<upper]) }
            start += piece.count
            index += 1
        }
    }

    /// Copies `range` of the message to `target`, which is as large.
    func copy(_ range: Range<Int>, to target: UnsafeMutableRawBufferPointer) {
        var offset = 0
        forEachPiece(of: range) { piece in
            piece.withUnsafeBytes { source in
                UnsafeMutableRawBufferPointer(rebasing: target[offset..<offset + source.count]).copyMemory(from: source)
            }
            offset += piece.count
        }
    }
}
