import Martlet
import MartletCore
import MartletIdentity

/// The protocols of Interop/README.md.
enum Wire {
    static let echo = "/interop/echo/1.0.0"
    static let halfClose = "/interop/half-close/1.0.0"
    static let reset = "/interop/reset/1.0.0"
    static let nowhere = "/interop/nowhere/1.0.0"
    static let identify = "/ipfs/id/1.0.0"
    static let latticaUnary = "/rpc/req-resp/1.0.0"
    static let bitswap = "/ipfs/bitswap/1.2.0"

    /// `count` bytes that look random and are the same in every run.
    static func pattern(_ count: Int) -> [UInt8] {
        var state: UInt64 = 0x9E37_79B9_7F4A_7C15
        return [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            for index in 0..<count {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                buffer[index] = UInt8(truncatingIfNeeded: state >> 56)
            }
            initialized = count
        }
    }
}

extension MeshStream {
    func readToEnd() async throws -> [UInt8] {
        var result: [UInt8] = []
        while let bytes = try await read() {
            bytes.withUnsafeBytes { result.append(contentsOf: $0) }
        }
        return result
    }

    /// In pieces, so that the queue's limit is felt.
    func writeAll(_ bytes: Bytes) async throws {
        var rest = bytes
        while !rest.isEmpty { try await write(rest.takeFirst(min(rest.count, 256 << 10))) }
    }
}

/// Lattica's unary RPC: one bincode value each way. Lengths are one byte up to 250, then a tag and 2, 4 or 8 bytes.
enum LatticaRPC {
    struct Malformed: Error {}

    static func request(method: String, data: [UInt8]) -> [UInt8] {
        [0] + prefixed(Array("1".utf8)) + prefixed(Array(method.utf8)) + prefixed(data) + [0]
    }

    static func answer(in response: [UInt8]) throws -> [UInt8] {
        var reader = ByteReader(response.span.bytes)
        guard try reader.readByte() == 1 else { throw Malformed() }
        _ = try field(&reader)
        return try field(&reader)
    }

    /// What the service `Interop` says to a request.
    static func serve(_ request: [UInt8]) throws -> [UInt8] {
        var reader = ByteReader(request.span.bytes)
        guard try reader.readByte() == 0 else { throw Malformed() }
        let identifier = try field(&reader)
        let method = String(decoding: try field(&reader), as: UTF8.self)
        let data = try field(&reader)
        switch method {
        case "Interop.echo": return [1] + prefixed(identifier) + prefixed(data) + [0]
        case "Interop.digest": return [1] + prefixed(identifier) + prefixed(SHA256.hash(data).bytes) + [0]
        default: return [2] + prefixed(identifier) + prefixed(Array("no method \(method)".utf8))
        }
    }

    private static func prefixed(_ bytes: [UInt8]) -> [UInt8] {
        let count = UInt64(bytes.count)
        let (tag, width): ([UInt8], Int) =
            switch count {
            case ..<251: ([], 1)
            case ..<(1 << 16): ([0xFB], 2)
            case ..<(1 << 32): ([0xFC], 4)
            default: ([0xFD], 8)
            }
        let length = (0..<width).map { UInt8(truncatingIfNeeded: count >> (8 * $0)) }
        return tag + length + bytes
    }

    private static func field(_ reader: inout ByteReader) throws -> [UInt8] {
        let first = try reader.readByte()
        guard first > 250 else { return try reader.readBytes(Int(first)) }
        let widths: [UInt8: Int] = [0xFB: 2, 0xFC: 4, 0xFD: 8]
        guard let width = widths[first] else { throw Malformed() }
        let length = try reader.readBytes(width).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard length <= UInt64(reader.remaining) else { throw Malformed() }
        return try reader.readBytes(Int(length))
    }
}
