import MartletCore

/// Writes values in bincode 2's standard form; see `BincodeReader`.
///
/// Large byte vectors are taken by reference: the result is a row of pieces that belong one after the other.
public struct BincodeWriter {
    /// Byte vectors up to this size are copied to where the rest is.
    private static let inlineSize = 4096

    private var tail: [UInt8] = []
    private var message = RPCMessage()

    public init() {}

    /// How many bytes have been written.
    public var byteCount: Int { message.byteCount + tail.count }

    public mutating func write(byte: UInt8) { tail.append(byte) }

    public mutating func write(integer value: UInt64) {
        switch value {
        case ..<251:
            tail.append(UInt8(value))
        case ...0xFFFF:
            tail.append(251)
            writeLittleEndian(value, 2)
        case ...0xFFFF_FFFF:
            tail.append(252)
            writeLittleEndian(value, 4)
        default:
            tail.append(253)
            writeLittleEndian(value, 8)
        }
    }

    private mutating func writeLittleEndian(_ value: UInt64, _ count: UInt64) {
        for index in 0..<count { tail.append(UInt8(truncatingIfNeeded: value >> (8 * index))) }
    }

    public mutating func write(string: String) {
        write(integer: UInt64(string.utf8.count))
        tail.append(contentsOf: string.utf8)
    }

    public mutating func write(bytes: RPCMessage) {
        write(integer: UInt64(bytes.byteCount))
        for index in 0..<bytes.pieceCount {
            let piece = bytes.piece(index)
            if piece.count <= Self.inlineSize {
                piece.withUnsafeBytes { tail.append(contentsOf: $0) }
            } else {
                flush()
                message.append(piece)
            }
        }
    }

    private mutating func flush() {
        guard !tail.isEmpty else { return }
        message.append(Bytes(tail))
        tail.removeAll(keepingCapacity: true)
    }

    public mutating func write(bool: Bool) { tail.append(bool ? 1 : 0) }

    /// Says whether an optional value is there; the value itself follows.
    public mutating func write(isPresent: Bool) { tail.append(isPresent ? 1 : 0) }

    public mutating func write(double: Double) { writeLittleEndian(double.bitPattern, 8) }

    /// Everything written.
    public consuming func finish() -> RPCMessage {
        flush()
        return message
    }
}
