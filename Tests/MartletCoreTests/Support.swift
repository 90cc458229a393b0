import Testing

@testable import MartletCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The lines of a vector file, comments left out, split at tabs.
func vectors(_ name: String, file: String = #filePath) throws -> [[String]] {
    let folder = file.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
    let handle = try #require(fopen("\(folder)/Vectors/\(name)", "r"), "no vectors \(name)")
    defer { fclose(handle) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while case let count = fread(&buffer, 1, buffer.count, handle), count > 0 { bytes += buffer[..<count] }
    let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n").filter { !$0.hasPrefix("#") }
    try #require(!lines.isEmpty)
    return lines.map { $0.split(separator: "\t", omittingEmptySubsequences: false).map(String.init) }
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
