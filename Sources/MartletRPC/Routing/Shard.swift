package import MartletCore

/// A part of a model that a node holds and answers calls for.
public struct ShardRegistration: Hashable, Sendable {
    public var model: String
    /// The layers held, such as 0..<16.
    public var layers: Range<Int>
    /// Which weights; callers may ask for a version.
    public var version: UInt64
    /// How many calls the holder serves well at a time: one with twice the capacity is given twice the load.
    public var capacity: Int

    public init(model: String, layers: Range<Int>, version: UInt64 = 0, capacity: Int = 1) {
        self.model = model
        self.layers = layers
        self.version = version
        self.capacity = capacity
    }
}

/// What a call needs, instead of whom.
public struct ShardNeed: Hashable, Sendable, CustomStringConvertible {
    public var model: String
    /// All of them, in one place.
    public var layers: Range<Int>
    /// Nil for any.
    public var version: UInt64?

    public init(model: String, layers: Range<Int>, version: UInt64? = nil) {
        self.model = model
        self.layers = layers
        self.version = version
    }

    /// One layer of a model.
    public static func layer(_ layer: Int, of model: String, version: UInt64? = nil) -> ShardNeed {
        ShardNeed(model: model, layers: layer..<layer + 1, version: version)
    }

    /// Some layers of a model, all at one holder.
    public static func layers(_ layers: Range<Int>, of model: String, version: UInt64? = nil) -> ShardNeed {
        ShardNeed(model: model, layers: layers, version: version)
    }

    public func isMet(by shard: ShardRegistration) -> Bool {
        shard.model == model && !layers.isEmpty && shard.layers.lowerBound <= layers.lowerBound
            && shard.layers.upperBound >= layers.upperBound && (version == nil || version == shard.version)
    }

    public var description: String {
        let what =
            layers.count == 1 ? "layer \(layers.lowerBound)" : "layers \(layers.lowerBound)..<\(layers.upperBound)"
        return "\(what) of \(model)" + (version.map { " version \($0)" } ?? "")
    }
}

/// What a node tells others of its shards: docs/protocols/rpc.md.
package struct ShardList: Hashable, Sendable {
    /// Shards of one node at most, and bytes of a model's name.
    package static let countLimit = 256
    package static let nameLimit = 255
    /// The size of the encoded list at most.
    package static let byteLimit = countLimit * (nameLimit + 48) + 32

    /// Grows with every change, so that of two lists the later is known.
    package var sequence: UInt64
    package var shards: [ShardRegistration]

    package init(sequence: UInt64, shards: [ShardRegistration]) {
        self.sequence = sequence
        self.shards = shards
    }

    package var encoded: Bytes {
        var bytes: [UInt8] = []
        func append(_ value: UInt64) { Varint.append(min(value, UInt64(Int64.max)), to: &bytes) }
        append(sequence)
        append(UInt64(shards.count))
        for shard in shards {
            append(UInt64(shard.model.utf8.count))
            bytes += Array(shard.model.utf8)
            append(UInt64(shard.layers.lowerBound))
            append(UInt64(shard.layers.upperBound))
            append(shard.version)
            append(UInt64(shard.capacity))
        }
        return Bytes(bytes)
    }

    package init(decoding bytes: Bytes) throws(DecodingError) {
        var reader = ByteReader(bytes.span)
        sequence = try reader.readVarint()
        let count = try reader.readCount("shards", limit: Self.countLimit)
        shards = []
        for _ in 0..<count {
            let model = try reader.readText("model", limit: Self.nameLimit)
            let lower = try reader.readCount("layer", limit: 1 << 40)
            let upper = try reader.readCount("layer", limit: 1 << 40)
            guard lower < upper else { throw .invalid(field: "layers", reason: "none") }
            let version = try reader.readVarint()
            let capacity = try reader.readCount("capacity", limit: 1 << 40)
            guard capacity > 0 else { throw .invalid(field: "capacity", reason: "none") }
            shards.append(ShardRegistration(model: model, layers: lower..<upper, version: version, capacity: capacity))
        }
        guard reader.isAtEnd else { throw .trailingBytes(reader.remaining) }
    }

    /// Whether a shard can be told to others.
    package static func accepts(_ shard: ShardRegistration) -> Bool {
        shard.model.utf8.count <= nameLimit && !shard.layers.isEmpty && shard.layers.lowerBound >= 0
            && shard.layers.upperBound <= 1 << 40 && shard.capacity > 0 && shard.capacity <= 1 << 40
            && shard.version <= UInt64(Int64.max)
    }
}
