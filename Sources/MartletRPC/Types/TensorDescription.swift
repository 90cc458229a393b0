/// The element type and the shape of a tensor. The bytes themselves are in the message, little-endian and in row order.
public struct TensorDescription: Hashable, Sendable, CustomStringConvertible {
    /// More dimensions than this are not sent, and refused when received.
    public static let maximumRank = 16
    /// No dimension is larger.
    public static let maximumDimension = 1 << 48

    public var elementType: TensorElementType
    /// The size of each dimension, the outermost first; empty for a scalar.
    public var shape: [Int]

    public init(_ elementType: TensorElementType, _ shape: [Int]) {
        self.elementType = elementType
        self.shape = shape
    }

    /// The number of elements; nil when it does not fit an integer, which a peer can bring about.
    public var elementCount: Int? {
        var count = 1
        for dimension in shape {
            let (product, overflow) = count.multipliedReportingOverflow(by: dimension)
            if overflow { return nil }
            count = product
        }
        return count
    }

    /// The bytes that so many elements take; nil for element types unknown here, and for what does not fit an integer.
    public var byteCount: Int? {
        guard let bits = elementType.bitCount, let elementCount else { return nil }
        let (total, overflow) = elementCount.multipliedReportingOverflow(by: bits)
        return overflow || total < 0 ? nil : total / 8 + (total % 8 == 0 ? 0 : 1)
    }

    /// Whether it can be sent.
    var isValid: Bool {
        shape.count <= Self.maximumRank && shape.allSatisfy { $0 >= 0 && $0 <= Self.maximumDimension }
    }

    public var description: String {
        "\(elementType)[\(shape.map { "\($0)" }.joined(separator: "×"))]"
    }
}

/// The type of a tensor's elements, by its number on the wire (docs/protocols/rpc.md). Numbers unknown here are kept.
public struct TensorElementType: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    private init(_ rawValue: UInt8) { self.rawValue = rawValue }

    public static let bool = TensorElementType(1)
    public static let uint8 = TensorElementType(2)
    public static let int8 = TensorElementType(3)
    public static let uint16 = TensorElementType(4)
    public static let int16 = TensorElementType(5)
    public static let uint32 = TensorElementType(6)
    public static let int32 = TensorElementType(7)
    public static let uint64 = TensorElementType(8)
    public static let int64 = TensorElementType(9)
    public static let float16 = TensorElementType(10)
    public static let bfloat16 = TensorElementType(11)
    public static let float32 = TensorElementType(12)
    public static let float64 = TensorElementType(13)
    public static let float8e4m3 = TensorElementType(14)
    public static let float8e5m2 = TensorElementType(15)
    public static let int4 = TensorElementType(16)

    /// The size of one element in bits; nil for types unknown here.
    public var bitCount: Int? {
        switch self {
        case .int4: 4
        case .bool, .uint8, .int8, .float8e4m3, .float8e5m2: 8
        case .uint16, .int16, .float16, .bfloat16: 16
        case .uint32, .int32, .float32: 32
        case .uint64, .int64, .float64: 64
        default: nil
        }
    }

    private static let names = [
        "", "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "bfloat16",
        "float32", "float64", "float8e4m3", "float8e5m2", "int4",
    ]

    public var description: String {
        rawValue > 0 && Int(rawValue) < Self.names.count ? Self.names[Int(rawValue)] : "type\(rawValue)"
    }
}
