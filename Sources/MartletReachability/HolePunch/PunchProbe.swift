import CLibsodium
import MartletCore

/// The secret of one punch, which both sides made together over the encrypted relayed connection.
struct PunchKey: Sendable {
    static let shareByteCount = 16
    private static let byteCount = 32

    private let bytes: [UInt8]
    /// Names the punch in its probes; tells nothing of the secret.
    let session: UInt64

    /// - Parameters:
    ///   - dialer: the share of the side that dials.
    ///   - listener: the share of the other.
    init(dialer: [UInt8], listener: [UInt8]) {
        bytes = Self.hash(dialer + listener, key: Array("martlet-punch/1".utf8), byteCount: Self.byteCount)
        session = Self.hash(Array("session".utf8), key: bytes, byteCount: 8).reduce(0) { $0 << 8 | UInt64($1) }
    }

    func tag(_ message: [UInt8]) -> [UInt8] { Self.hash(message, key: bytes, byteCount: PunchProbe.tagByteCount) }

    /// Compares without telling by the time it takes where the difference is.
    func verifies(_ tag: [UInt8], of message: [UInt8]) -> Bool {
        let expected = self.tag(message)
        return tag.count == expected.count && sodium_memcmp(tag, expected, expected.count) == 0
    }

    private static func hash(_ message: [UInt8], key: [UInt8], byteCount: Int) -> [UInt8] {
        var output = [UInt8](repeating: 0, count: byteCount)
        // Fails only for sizes out of range, and these are constants.
        _ = crypto_generichash(&output, output.count, message, UInt64(message.count), key, key.count)
        return output
    }
}

/// The packet that finds out whether a path carries packets both ways (docs/protocols/punch.md).
///
/// 29 bytes: the kind, the session, a number, a tag over these. A probe and its answer have the same size, so nobody gains by
/// having probes answered. The first byte lies outside of what QUIC (0x40 set) and STUN (0…3) use, so one socket serves all.
struct PunchProbe: Hashable, Sendable {
    static let byteCount = 1 + 8 + 4 + tagByteCount
    static let tagByteCount = 16
    private static let firstByte: UInt8 = 0x20
    private static let answerBit: UInt8 = 1
    private static let dialerBit: UInt8 = 2

    var isAnswer: Bool
    /// Whether the side that dials sent it. A packet that comes back to its sender is refused by this.
    var isFromDialer: Bool
    /// The probe's number, which its answer repeats.
    var number: UInt32

    func encoded(with key: PunchKey) -> [UInt8] {
        var message: [UInt8] = [
            Self.firstByte | (isAnswer ? Self.answerBit : 0) | (isFromDialer ? Self.dialerBit : 0)
        ]
        withUnsafeBytes(of: key.session.bigEndian) { message += $0 }
        withUnsafeBytes(of: number.bigEndian) { message += $0 }
        return message + key.tag(message)
    }

    /// The session that a packet claims to be of; nil when it is no probe.
    static func session(of packet: some Collection<UInt8>) -> UInt64? {
        guard packet.count == byteCount, let first = packet.first, first & 0xFC == firstByte else { return nil }
        return packet.dropFirst().prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
    }

    init(isAnswer: Bool, isFromDialer: Bool, number: UInt32) {
        self.isAnswer = isAnswer
        self.isFromDialer = isFromDialer
        self.number = number
    }

    /// Reads a probe; nil when it is none, or not of the punch that has this key.
    init?(_ packet: [UInt8], key: PunchKey) {
        guard Self.session(of: packet) == key.session else { return nil }
        let message = Array(packet.dropLast(Self.tagByteCount))
        guard key.verifies(Array(packet.suffix(Self.tagByteCount)), of: message) else { return nil }
        isAnswer = message[0] & Self.answerBit != 0
        isFromDialer = message[0] & Self.dialerBit != 0
        number = message[9..<13].reduce(0) { $0 << 8 | UInt32($1) }
    }
}
