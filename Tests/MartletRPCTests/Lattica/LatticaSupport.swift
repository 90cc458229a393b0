import MartletCore
import MartletRPC
import Testing

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// What the tests of Lattica's protocols share.
enum Lattica {
    /// The lines of a vector file, comments left out, split at tabs.
    static func vectors(_ name: String, file: String = #filePath) throws -> [[String]] {
        let folder = file.split(separator: "/", omittingEmptySubsequences: false).dropLast(2).joined(separator: "/")
        let handle = try #require(fopen("\(folder)/Vectors/\(name)", "r"), "no vectors \(name)")
        defer { fclose(handle) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while case let count = fread(&buffer, 1, buffer.count, handle), count > 0 { bytes += buffer[..<count] }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n").filter { !$0.hasPrefix("#") }
        try #require(!lines.isEmpty)
        return lines.map { $0.split(separator: "\t", omittingEmptySubsequences: false).map(String.init) }
    }

    static func hex(_ text: String) throws -> Bytes { Bytes(try Multibase.base16.decodeWithoutPrefix(text)) }

    /// What `body` throws.
    static func failure<E: Error>(of body: () throws(E) -> some Any) -> E? {
        do throws(E) {
            _ = try body()
            return nil
        } catch { return error }
    }

    static func pattern(_ count: Int, seed: UInt64 = 1) -> Bytes {
        var random = RandomSource(seed: seed)
        return Bytes(random.bytes(count))
    }

    /// All frames one after the other, as they go over the wire.
    static func wire(_ frames: [LatticaStreamFrame]) -> Bytes {
        RPCMessage(pieces: frames.flatMap { $0.encoded.pieces }).contiguous()
    }
}

extension RPCMessage {
    var array: [UInt8] { contiguous().array }
}
