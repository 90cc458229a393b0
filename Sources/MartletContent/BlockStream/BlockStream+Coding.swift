public import MartletCore

extension BlockStream.Request {
    private enum Kind {
        static let structure: UInt64 = 1
        static let leaves: UInt64 = 2
        static let blocks: UInt64 = 3
        static let cancel: UInt64 = 4
    }

    static let maximumCIDByteCount = 128

    public var id: UInt32 {
        switch self {
        case .structure(let id, _), .leaves(let id, _, _), .blocks(let id, _), .cancel(let id): id
        }
    }

    /// The message with its length in front.
    public var encoded: Bytes {
        var body: [UInt8] = []
        func append(_ cid: CID) {
            Varint.append(UInt64(cid.byteCount), to: &body)
            cid.append(to: &body)
        }
        func begin(_ kind: UInt64, _ id: UInt32) {
            Varint.append(kind, to: &body)
            Varint.append(UInt64(id), to: &body)
        }
        switch self {
        case .structure(let id, let root):
            begin(Kind.structure, id)
            append(root)
        case .leaves(let id, let root, let ranges):
            begin(Kind.leaves, id)
            append(root)
            Varint.append(UInt64(ranges.count), to: &body)
            for range in ranges {
                Varint.append(range.lowerBound, to: &body)
                Varint.append(range.upperBound - range.lowerBound, to: &body)
            }
        case .blocks(let id, let cids):
            begin(Kind.blocks, id)
            Varint.append(UInt64(cids.count), to: &body)
            for cid in cids { append(cid) }
        case .cancel(let id):
            begin(Kind.cancel, id)
        }
        return Bytes(Varint.encode(UInt64(body.count)) + body)
    }

    /// Decodes a message without its length.
    public init(body: RawSpan, limits: BlockStream.Limits) throws(BlockStreamError) {
        var reader = ByteReader(body)
        do throws(DecodingError) {
            let kind = try reader.readVarint()
            let number = try reader.readVarint()
            guard let id = UInt32(exactly: number) else {
                throw .tooLong(field: "request id", length: number, limit: Int(UInt32.max))
            }
            switch kind {
            case Kind.structure: self = .structure(id: id, root: try Self.readCID(&reader))
            case Kind.leaves:
                let root = try Self.readCID(&reader)
                let count = try Self.readCount(&reader, limits.rangesPerRequest, "ranges")
                var ranges: [Range<UInt64>] = []
                for _ in 0..<count { ranges.append(try Self.readRange(&reader)) }
                self = .leaves(id: id, root: root, ranges: ranges)
            case Kind.blocks:
                let count = try Self.readCount(&reader, limits.blocksPerRequest, "blocks")
                var cids: [CID] = []
                for _ in 0..<count { cids.append(try Self.readCID(&reader)) }
                self = .blocks(id: id, cids: cids)
            case Kind.cancel: self = .cancel(id: id)
            default: throw .invalid(field: "request", reason: "type \(kind) is unknown")
            }
            guard reader.isAtEnd else { throw .trailingBytes(reader.remaining) }
        } catch {
            throw .malformed(error)
        }
    }

    private static func readCID(_ reader: inout ByteReader) throws(DecodingError) -> CID {
        try CID(bytes: reader.readLengthPrefixedSpan(limit: maximumCIDByteCount, field: "CID"))
    }

    private static func readCount(
        _ reader: inout ByteReader, _ limit: Int, _ field: String
    ) throws(DecodingError) -> Int {
        let count = try reader.readVarint()
        guard count <= UInt64(limit) else { throw .tooLong(field: field, length: count, limit: limit) }
        return Int(count)
    }

    private static func readRange(_ reader: inout ByteReader) throws(DecodingError) -> Range<UInt64> {
        let start = try reader.readVarint()
        let count = try reader.readVarint()
        // Both have 63 bits, so the sum has 64 at most.
        guard count > 0 else { throw .invalid(field: "range", reason: "empty") }
        return start..<start + count
    }
}

extension BlockStream.ItemHeader {
    public func append(to output: inout [UInt8]) {
        Varint.append(UInt64(requestID), to: &output)
        Varint.append(position, to: &output)
        output.append(status.rawValue)
        Varint.append(count, to: &output)
    }

    /// Decodes from the start of `span`, which may hold only part of the header; nil then.
    public static func decode(
        _ span: RawSpan
    ) throws(BlockStreamError) -> (header: BlockStream.ItemHeader, byteCount: Int)? {
        var offset = 0
        func varint() throws(BlockStreamError) -> UInt64? {
            do throws(DecodingError) {
                switch try Varint.decode(span.extracting(offset..<span.byteCount)) {
                case .value(let value, let size):
                    offset += size
                    return value
                case .incomplete: return nil
                }
            } catch {
                throw .malformed(error)
            }
        }
        guard let number = try varint() else { return nil }
        guard let id = UInt32(exactly: number) else {
            throw .malformed(.tooLong(field: "request id", length: number, limit: Int(UInt32.max)))
        }
        guard let position = try varint(), offset < span.byteCount else { return nil }
        // In bounds by the line above.
        let statusByte = span.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
        guard let status = BlockStream.Status(rawValue: statusByte) else { throw .unknownStatus(statusByte) }
        offset += 1
        guard let count = try varint() else { return nil }
        return (BlockStream.ItemHeader(requestID: id, position: position, status: status, count: count), offset)
    }
}
