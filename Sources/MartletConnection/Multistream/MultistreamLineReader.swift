import MartletCore

/// Cuts a byte stream into the header and then lines, and holds an unfinished line in between.
///
/// It never takes a byte beyond the line being read, so what follows a negotiation stays with the caller.
struct MultistreamLineReader: Sendable {
    /// How many bytes of the header have been seen. All of them are known beforehand, so the first wrong one ends the
    /// negotiation: whatever is not multistream-select is refused without reading on.
    private var headerCount = 0
    /// The length bytes and content of a line that has not fully arrived; empty most of the time.
    private var partial: [UInt8] = []

    var hasHeader: Bool { headerCount == MultistreamMessage.header.count }

    /// The next line without its line feed, or nil when `input` ends before it. `position` moves over what was read.
    mutating func nextLine(in input: RawSpan, at position: inout Int) throws(MultistreamError) -> [UInt8]? {
        while !hasHeader {
            guard position < input.byteCount else { return nil }
            let byte = input.unsafeLoad(fromByteOffset: position, as: UInt8.self)
            guard byte == MultistreamMessage.header[headerCount] else { throw .notMultistream }
            headerCount += 1
            position += 1
        }
        while position < input.byteCount {
            partial.append(input.unsafeLoad(fromByteOffset: position, as: UInt8.self))
            position += 1
            guard let total = try lineEnd() else { continue }
            let missing = total - partial.count
            if missing > 0 {
                let taken = min(missing, input.byteCount - position)
                input.extracting(position..<position + taken).withUnsafeBytes { partial.append(contentsOf: $0) }
                position += taken
                if taken < missing { return nil }
            }
            guard partial.last == 0x0A else { throw .malformedLine }
            let start = partial[0] < 0x80 ? 1 : 2
            let line = Array(partial[start..<partial.count - 1])
            partial = []
            return line
        }
        return nil
    }

    /// How many bytes the line takes in all, once its length is known; at most `lengthLimit + 2`.
    private func lineEnd() throws(MultistreamError) -> Int? {
        let decoded: Varint.Partial
        do {
            decoded = try Varint.decode(partial.span.bytes)
        } catch {
            throw .malformedLine
        }
        switch decoded {
        case .incomplete:
            return nil
        case .value(let length, let size):
            guard length > 0 else { throw .malformedLine }
            guard length <= UInt64(MultistreamMessage.lengthLimit) else {
                throw .lineTooLong(length: length, limit: MultistreamMessage.lengthLimit)
            }
            return size + Int(length)
        }
    }
}
