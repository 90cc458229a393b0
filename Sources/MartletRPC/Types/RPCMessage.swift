public import MartletCore

/// What a call carries in either direction: bytes, and what they mean if they are a tensor.
///
///     let request = RPCMessage(activations, tensor: TensorDescription(.bfloat16, [1, 8192]))
///     let reply = try await node.call(peer, "Model.forward", request)
///     use(reply.contiguous())
///
/// Bytes are handed over without being copied. A large message arrives as the slices of the blocks that the network was
/// read into; `contiguous()` joins them, with one copy, for who needs a single piece.
public struct RPCMessage: Sendable {
    /// What the bytes mean, when they are a tensor.
    public var tensor: TensorDescription?
    /// The first piece, and in most messages the only one.
    private(set) var first: Bytes
    private(set) var rest: [Bytes]
    /// The size of all pieces together.
    public private(set) var byteCount: Int

    /// A message of one piece.
    @inlinable
    public init(_ bytes: Bytes = Bytes(), tensor: TensorDescription? = nil) {
        self.init(single: bytes, tensor)
    }

    @usableFromInline
    init(single bytes: Bytes, _ tensor: TensorDescription?) {
        first = bytes
        rest = []
        byteCount = bytes.count
        self.tensor = tensor
    }

    /// A message of several pieces one after the other, none of which is copied.
    public init(pieces: [Bytes], tensor: TensorDescription? = nil) {
        self.init(single: Bytes(), tensor)
        for piece in pieces { append(piece) }
    }

    /// A message of text in UTF-8.
    public init(utf8 text: String) {
        self.init(single: Bytes(utf8: text), nil)
    }

    public var isEmpty: Bool { byteCount == 0 }

    /// How many pieces there are; 0 for an empty message.
    public var pieceCount: Int { isEmpty ? 0 : 1 + rest.count }

    /// The pieces in order, as they lie in memory.
    public var pieces: [Bytes] { isEmpty ? [] : [first] + rest }

    /// The whole message in one piece: copied only when it has several.
    public func contiguous() -> Bytes {
        guard !rest.isEmpty else { return first }
        return Bytes(count: byteCount) { target in
            var offset = 0
            for index in 0...rest.count {
                piece(index).withUnsafeBytes { source in
                    UnsafeMutableRawBufferPointer(rebasing: target[offset...]).copyMemory(from: source)
                    offset += source.count
                }
            }
        }
    }

    /// The first `count` bytes, or all when there are fewer; copied only when they lie in several pieces.
    public func prefix(_ count: Int) -> Bytes {
        let count = min(max(0, count), byteCount)
        guard first.count < count else { return first.prefix(count) }
        return Bytes(count: count) { copy(0..<count, to: $0) }
    }

    /// The message as text, with what is not UTF-8 replaced.
    public var text: String { contiguous().withUnsafeBytes { String(decoding: $0, as: UTF8.self) } }

    /// Adds a piece at the end.
    public mutating func append(_ piece: Bytes) {
        guard !piece.isEmpty else { return }
        if byteCount == 0 { first = piece } else { rest.append(piece) }
        byteCount += piece.count
    }

    /// Adds the pieces of another message at the end.
    mutating func append(contentsOf other: RPCMessage) {
        for index in 0..<other.pieceCount { append(other.piece(index)) }
    }

    /// The piece with `index` others before it.
    func piece(_ index: Int) -> Bytes { index == 0 ? first : rest[index - 1] }

    /// An estimate of the memory that the message keeps, when many small ones wait.
    var cost: Int { byteCount + 64 }
}

extension RPCMessage: Equatable {
    /// Whether both carry the same bytes with the same meaning, in whatever pieces.
    public static func == (left: RPCMessage, right: RPCMessage) -> Bool {
        left.byteCount == right.byteCount && left.tensor == right.tensor && left.contiguous() == right.contiguous()
    }
}

extension RPCMessage: ExpressibleByStringLiteral {
    public init(stringLiteral value: String) { self.init(utf8: value) }
}

extension RPCMessage: CustomStringConvertible {
    /// Only the size: contents may be secret, and logs must not carry them.
    public var description: String { tensor.map { "\(byteCount) bytes, \($0)" } ?? "\(byteCount) bytes" }
}
