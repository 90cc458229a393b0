import MartletCore
import Testing

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The lines of a vector file, comments left out, split at tabs.
func vectors(_ name: String, file: String = #filePath) throws -> [[String]] {
    let folder = file.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
    let text = String(decoding: try #require(contents(of: "\(folder)/Vectors/\(name)")), as: UTF8.self)
    let lines = text.split(separator: "\n").filter { !$0.hasPrefix("#") }
    try #require(!lines.isEmpty)
    return lines.map { $0.split(separator: "\t", omittingEmptySubsequences: false).map(String.init) }
}

/// The bytes of a small file; nil when it cannot be opened.
func contents(of path: String) -> [UInt8]? {
    guard let handle = fopen(path, "r") else { return nil }
    defer { fclose(handle) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while case let count = fread(&buffer, 1, buffer.count, handle), count > 0 { bytes += buffer[..<count] }
    return bytes
}

func hex(_ text: String) throws -> [UInt8] { try Multibase.base16.decodeWithoutPrefix(text) }
func hex(_ bytes: some Collection<UInt8>) -> String { Multibase.base16.encodeWithoutPrefix(bytes) }

/// What `body` throws.
func failure<E: Error>(of body: () throws(E) -> some Any) -> E? {
    do throws(E) {
        _ = try body()
        return nil
    } catch { return error }
}

/// A protobuf field of type `bytes`.
func field(_ number: Int, _ bytes: [UInt8]) -> [UInt8] {
    Varint.encode(UInt64(number << 3 | 2)) + Varint.encode(UInt64(bytes.count)) + bytes
}
