import MartletCore
import MartletIdentity

/// Writes what happens in a simulation as JSON, one object a line, and hashes it: equal runs give equal bytes.
final class EventLog {
    private static let pieceSize = 64 << 10

    private let output: ([UInt8]) -> Void
    private var buffer: [UInt8] = []
    private var hasher = SHA256.Hasher()

    init(_ output: @escaping ([UInt8]) -> Void) {
        self.output = output
        buffer.reserveCapacity(Self.pieceSize + 4096)
    }

    /// Begins the line of `event`, which happens to node `node`.
    func begin(_ event: StaticString, _ now: Instant, _ node: Int) {
        raw("{\"t\":")
        number(Int(now.nanoseconds))
        raw(",\"node\":")
        number(node)
        raw(",\"event\":\"")
        raw(event)
        raw("\"")
    }

    func field(_ name: StaticString, _ value: Int) {
        key(name)
        number(value)
    }

    func field(_ name: StaticString, _ value: String) {
        key(name)
        raw("\"")
        for byte in value.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                buffer.append(UInt8(ascii: "\\"))
                buffer.append(byte)
            // Nothing that is logged has control characters; should it ever, the line stays valid.
            case 0..<0x20: buffer.append(UInt8(ascii: " "))
            default: buffer.append(byte)
            }
        }
        raw("\"")
    }

    func endLine() {
        raw("}\n")
        if buffer.count >= Self.pieceSize { flush() }
    }

    /// Hands out what is left and returns the SHA-256 of everything, in hexadecimal.
    func finish() -> String {
        flush()
        return "\(hasher.finalize())"
    }

    private func flush() {
        buffer.withUnsafeBytes { hasher.update($0) }
        output(buffer)
        buffer.removeAll(keepingCapacity: true)
    }

    private func key(_ name: StaticString) {
        raw(",\"")
        raw(name)
        raw("\":")
    }

    private func raw(_ text: StaticString) {
        text.withUTF8Buffer { buffer.append(contentsOf: $0) }
    }

    private func number(_ value: Int) {
        if value < 0 { buffer.append(UInt8(ascii: "-")) }
        var rest = value.magnitude
        let start = buffer.count
        repeat {
            buffer.append(UInt8(ascii: "0") + UInt8(rest % 10))
            rest /= 10
        } while rest > 0
        buffer[start...].reverse()
    }
}
