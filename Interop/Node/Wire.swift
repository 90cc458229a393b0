import Martlet
import MartletCore

/// The protocols of Interop/README.md.
enum Wire {
    static let echo = "/interop/echo/1.0.0"
    static let halfClose = "/interop/half-close/1.0.0"
    static let reset = "/interop/reset/1.0.0"
    static let nowhere = "/interop/nowhere/1.0.0"
    static let identify = "/ipfs/id/1.0.0"

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
