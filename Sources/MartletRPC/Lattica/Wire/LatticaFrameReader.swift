import MartletCore

/// Cuts a stream into frames: four bytes of big-endian length, then so many bytes.
///
/// Memory follows what has arrived, never what a length announces.
struct LatticaFrameReader {
    private let limit: Int
    private var header: UInt32 = 0
    private var headerCount = 0
    /// The size of the frame that has begun.
    private var needed: Int?
    private var body = GatheredBytes()

    /// - Parameter limit: the longest frame, in bytes after the length.
    init(limit: Int) { self.limit = limit }

    var bufferedByteCount: Int { body.byteCount }
    /// Whether a frame has begun and is not complete.
    var isInsideFrame: Bool { headerCount > 0 }

    /// The next frame, taken off the front of `bytes`; nil when `bytes` are used up and more must come. A frame that lies in
    /// `bytes` as a whole is a slice of them.
    mutating func next(from bytes: inout Bytes) throws(LatticaError) -> RPCMessage? {
        guard let needed = try readHeader(&bytes) else { return nil }
        let missing = needed - body.byteCount
        guard bytes.count >= missing else {
            body.append(bytes)
            bytes = Bytes()
            return nil
        }
        let rest = bytes.takeFirst(missing)
        headerCount = 0
        self.needed = nil
        guard body.byteCount > 0 else { return RPCMessage(rest) }
        body.append(rest)
        return body.take()
    }

    private mutating func readHeader(_ bytes: inout Bytes) throws(LatticaError) -> Int? {
        if let needed { return needed }
        while headerCount < 4 {
            guard !bytes.isEmpty else { return nil }
            header = header << 8 | UInt32(bytes[0])
            headerCount += 1
            bytes.removeFirst(1)
        }
        guard Int(header) <= limit else { throw .frameTooLong(length: Int(header), limit: limit) }
        needed = Int(header)
        header = 0
        return needed
    }
}
