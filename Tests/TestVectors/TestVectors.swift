import MartletCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Why vectors cannot be used.
public struct TestVectorError: Error, CustomStringConvertible {
    public let description: String
}

/// The lines of a vector file, comments left out, split at tabs. The file is in the folder `Vectors` nearest above the test.
public func vectors(_ name: String, file: String = #filePath) throws -> [[String]] {
    guard let contents = contents(of: name, above: file) else {
        throw TestVectorError(description: "no vectors \(name)")
    }
    let lines = String(decoding: contents, as: UTF8.self).split(separator: "\n").filter { !$0.hasPrefix("#") }
    guard !lines.isEmpty else { throw TestVectorError(description: "\(name) has no vectors") }
    return lines.map { $0.split(separator: "\t", omittingEmptySubsequences: false).map(String.init) }
}

private func contents(of name: String, above file: String) -> [UInt8]? {
    var folder = file.split(separator: "/", omittingEmptySubsequences: false)
    while folder.count > 1 {
        folder.removeLast()
        if let found = contents(of: folder.joined(separator: "/") + "/Vectors/" + name) { return found }
    }
    return nil
}

/// The bytes of a small file; nil when it cannot be opened.
public func contents(of path: String) -> [UInt8]? {
    guard let handle = fopen(path, "r") else { return nil }
    defer { fclose(handle) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while case let count = fread(&buffer, 1, buffer.count, handle), count > 0 { bytes += buffer[..<count] }
    return bytes
}

public func hex(_ text: String) throws -> [UInt8] { try Multibase.base16.decodeWithoutPrefix(text) }
public func hex(_ bytes: some Collection<UInt8>) -> String { Multibase.base16.encodeWithoutPrefix(bytes) }

/// What `body` throws.
public func failure<E: Error>(of body: () throws(E) -> some Any) -> E? {
    do throws(E) {
        _ = try body()
        return nil
    } catch { return error }
}
