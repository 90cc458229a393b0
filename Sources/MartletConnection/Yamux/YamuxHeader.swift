/// The 12 bytes in front of every Yamux frame.
///
/// Specification: libp2p/specs `yamux/README.md`, Framing.
@_spi(Fuzzing)
public struct YamuxHeader: Hashable, Sendable {
    public enum Kind: UInt8, Hashable, Sendable {
        case data = 0
        case windowUpdate = 1
        case ping = 2
        case goAway = 3
    }

    /// Bits that are not named here are ignored, as other implementations do.
    public struct Flags: OptionSet, Hashable, Sendable {
        public let rawValue: UInt16
        public init(rawValue: UInt16) { self.rawValue = rawValue }

        public static let syn = Flags(rawValue: 1)
        public static let ack = Flags(rawValue: 2)
        public static let fin = Flags(rawValue: 4)
        public static let rst = Flags(rawValue: 8)
    }

    public static let byteCount = 12

    public var kind: Kind
    public var flags: Flags
    /// 0 for the session.
    public var streamID: UInt32
    /// The size of the payload, the increase of a window, the value of a ping or the code of a GoAway.
    public var length: UInt32

    public init(_ kind: Kind, _ flags: Flags, stream: UInt32, length: UInt32) {
        self.kind = kind
        self.flags = flags
        streamID = stream
        self.length = length
    }

    /// - Parameter bytes: exactly the 12 bytes.
    public init(_ bytes: UnsafeRawBufferPointer) throws(YamuxError) {
        precondition(bytes.count == Self.byteCount, "a header of \(bytes.count) bytes")
        guard bytes[0] == 0 else { throw .unknownVersion(bytes[0]) }
        guard let kind = Kind(rawValue: bytes[1]) else { throw .unknownFrameType(bytes[1]) }
        self.kind = kind
        flags = Flags(rawValue: UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self)))
        streamID = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        length = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self))
    }

    /// Writes the 12 bytes to the start of `room`.
    public func write(to room: UnsafeMutableRawBufferPointer) {
        precondition(room.count >= Self.byteCount, "a header into \(room.count) bytes")
        room.storeBytes(of: UInt16(kind.rawValue).bigEndian, as: UInt16.self)
        room.storeBytes(of: flags.rawValue.bigEndian, toByteOffset: 2, as: UInt16.self)
        room.storeBytes(of: streamID.bigEndian, toByteOffset: 4, as: UInt32.self)
        room.storeBytes(of: length.bigEndian, toByteOffset: 8, as: UInt32.self)
    }
}
