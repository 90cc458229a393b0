import MartletCore

/// Bytes that arrive in pieces of whatever size, gathered in memory of about their size.
///
/// Pieces are copied once. Keeping them as they come would be cheaper, but then a peer that sends in tiny pieces could make
/// each byte cost a hundred.
struct GatheredBytes {
    private static let smallestBlock = 1024
    private static let largestBlock = 1 << 20

    private var message = RPCMessage()
    /// The block being filled: `start..<filled` belongs to the message, but is not in it yet.
    private var block: BytesStorage?
    private var start = 0
    private var filled = 0
    private(set) var byteCount = 0

    mutating func append(_ piece: Bytes) {
        var rest = piece
        while !rest.isEmpty {
            let block = blockWithRoom(for: rest.count)
            let part = rest.takeFirst(min(rest.count, block.capacity - filled))
            part.withUnsafeBytes {
                UnsafeMutableRawBufferPointer(rebasing: block.mutableBytes[filled...]).copyMemory(from: $0)
            }
            filled += part.count
            byteCount += part.count
        }
    }

    mutating func append(_ message: RPCMessage) {
        for index in 0..<message.pieceCount { append(message.piece(index)) }
    }

    private mutating func blockWithRoom(for count: Int) -> BytesStorage {
        // A copy of this value may be filling the same block; slices must never change.
        if isKnownUniquelyReferenced(&block), let block, filled < block.capacity { return block }
        close()
        let capacity = min(Self.largestBlock, max(Self.smallestBlock, count, byteCount))
        let fresh = BytesStorage(capacity: capacity)
        block = fresh
        return fresh
    }

    /// Puts what the block holds into the message.
    private mutating func close() {
        if let block, filled > start { message.append(block.slice(start..<filled)) }
        block = nil
        start = 0
        filled = 0
    }

    /// All of it; afterwards nothing is left here.
    mutating func take() -> RPCMessage {
        close()
        defer { self = GatheredBytes() }
        return message
    }
}
