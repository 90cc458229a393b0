public import MartletCore

/// What a safetensors file holds: the name, element type, shape and place of every tensor.
///
///     let header = try await SafetensorsHeader.read("/models/model.safetensors", executor: pool)
///     for tensor in header.tensors { print(tensor.name, tensor.type, tensor.shape) }
///
/// Read strictly: the tensors must cover the data without gaps or overlaps, as the format demands.
/// Specification: github.com/huggingface/safetensors, "Format".
public struct SafetensorsHeader: Hashable, Sendable {
    public struct Tensor: Hashable, Sendable {
        public let name: String
        public let type: ElementType
        public let shape: [UInt64]
        /// Where its bytes are in the file, counted from the start of the file.
        public let range: Range<UInt64>
    }

    /// The type of a tensor's elements.
    public enum ElementType: String, Hashable, Sendable {
        case bool = "BOOL"
        case uint8 = "U8"
        case int8 = "I8"
        case float8e5m2 = "F8_E5M2"
        case float8e4m3 = "F8_E4M3"
        case float8e8m0 = "F8_E8M0"
        case int16 = "I16"
        case uint16 = "U16"
        case float16 = "F16"
        case bfloat16 = "BF16"
        case int32 = "I32"
        case uint32 = "U32"
        case float32 = "F32"
        case int64 = "I64"
        case uint64 = "U64"
        case float64 = "F64"
        case complex64 = "C64"

        /// The size of one element in bytes.
        public var byteCount: UInt64 {
            switch self {
            case .bool, .uint8, .int8, .float8e5m2, .float8e4m3, .float8e8m0: 1
            case .int16, .uint16, .float16, .bfloat16: 2
            case .int32, .uint32, .float32: 4
            case .int64, .uint64, .float64, .complex64: 8
            }
        }
    }

    /// In the order of their bytes.
    public let tensors: [Tensor]
    /// The texts under `__metadata__`, by key.
    public let metadata: [String: String]
    /// The number of bytes before the data: the length field and the header.
    public let byteCount: UInt64

    /// The largest header that the format allows.
    public static let maximumHeaderByteCount: UInt64 = 100_000_000
    static let maximumTensorCount = 1_000_000
    static let maximumDimensionCount = 32

    /// Reads the header of a file.
    ///
    /// - Throws: `malformedFile` when it is no safetensors file, `notFound` and the like.
    public static func read(_ path: String, executor: any BlockingExecutor) async throws -> SafetensorsHeader {
        try await executor.run { try read(path) }
    }

    /// Reads the header of a file. Blocks.
    static func read(_ path: String) throws(ContentError) -> SafetensorsHeader {
        let file = try ReadableFile(path: path)
        let fileByteCount = try file.identity().byteCount
        do throws(DecodingError) {
            let length = try bytes(of: file, 0..<min(8, fileByteCount)).get()
            let count = try headerByteCount(length, fileByteCount: fileByteCount)
            return try SafetensorsHeader(
                json: bytes(of: file, 8..<8 + UInt64(count)).get(), fileByteCount: fileByteCount)
        } catch {
            throw ContentError(.malformedFile, "not a safetensors file: \(error)", path: path)
        }
    }

    private static func bytes(of file: ReadableFile, _ range: Range<UInt64>) -> Result<[UInt8], DecodingError> {
        var bytes = [UInt8](repeating: 0, count: range.count)
        let isWhole = bytes.withUnsafeMutableBytes { (try? file.read(into: $0, at: range.lowerBound)) ?? false }
        return isWhole ? .success(bytes) : .failure(.truncated(needed: range.count, remaining: 0))
    }

    /// The size of the header that the first eight bytes of a file announce, checked before anything is read for it.
    static func headerByteCount(_ bytes: [UInt8], fileByteCount: UInt64) throws(DecodingError) -> Int {
        guard bytes.count >= 8, fileByteCount >= 8 else { throw .truncated(needed: 8, remaining: bytes.count) }
        let count = (0..<8).reduce(UInt64(0)) { $0 | UInt64(bytes[$1]) << UInt64(8 * $1) }
        let limit = min(maximumHeaderByteCount, fileByteCount - 8)
        guard count <= limit else { throw .tooLong(field: "safetensors header", length: count, limit: Int(limit)) }
        return Int(count)
    }

    /// Decodes a header without the length before it.
    public init(json: [UInt8], fileByteCount: UInt64) throws(DecodingError) {
        var parser = SafetensorsParser(json)
        let (entries, metadata) = try parser.parse()
        let start = 8 + UInt64(json.count)
        guard fileByteCount >= start else {
            throw .truncated(needed: json.count, remaining: Int(clamping: fileByteCount))
        }
        let dataByteCount = fileByteCount - start
        // Empty tensors sort before those that begin where they lie.
        let sorted = entries.sorted { ($0.begin, $0.end, $0.name) < ($1.begin, $1.end, $1.name) }
        var offset: UInt64 = 0
        var tensors: [Tensor] = []
        tensors.reserveCapacity(sorted.count)
        for entry in sorted {
            var size = entry.type.byteCount
            for dimension in entry.shape {
                let (product, overflow) = size.multipliedReportingOverflow(by: dimension)
                guard !overflow else { throw .invalid(field: "shape", reason: "more elements than can be counted") }
                size = product
            }
            guard entry.begin == offset, entry.end >= entry.begin, entry.end - entry.begin == size else {
                throw .invalid(field: "data_offsets", reason: "with gaps, overlaps or another size than the shape")
            }
            guard entry.end <= dataByteCount else {
                throw .truncated(needed: Int(clamping: entry.end), remaining: Int(clamping: dataByteCount))
            }
            offset = entry.end
            tensors.append(
                Tensor(
                    name: entry.name, type: entry.type, shape: entry.shape,
                    range: start + entry.begin..<start + entry.end))
        }
        guard offset == dataByteCount else { throw .trailingBytes(Int(clamping: dataByteCount - offset)) }
        self.tensors = tensors
        self.metadata = metadata
        byteCount = start
    }
}
