import FoundationEssentials

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Standard output and standard error, a whole line at a time and at once: whoever reads a pipe sees it without delay.
enum Output {
    static func line(_ text: String) { write(Array((text + "\n").utf8), to: STDOUT_FILENO) }

    /// Prints `value` as JSON on one line.
    static func json(_ value: some Encodable) {
        guard let bytes = try? JSON.encode(value) else { return error("a result could not be written as JSON") }
        write(bytes + [UInt8(ascii: "\n")], to: STDOUT_FILENO)
    }

    static func error(_ text: String) { write(Array("martlet: \(text)\n".utf8), to: STDERR_FILENO) }

    /// Text on standard error as it is, for progress.
    static func progress(_ text: String) { write(Array(text.utf8), to: STDERR_FILENO) }

    static func write(_ bytes: [UInt8], to descriptor: CInt) {
        bytes.withUnsafeBytes { write($0, to: descriptor) }
    }

    static func write(_ bytes: UnsafeRawBufferPointer, to descriptor: CInt) {
        var rest = bytes
        while !rest.isEmpty {
            #if canImport(Glibc)
                let n = Glibc.write(descriptor, rest.baseAddress, rest.count)
            #else
                let n = Darwin.write(descriptor, rest.baseAddress, rest.count)
            #endif
            if n < 0 {
                if errno == EINTR { continue }
                // Nobody reads any more: what is left to say has no listener.
                if descriptor == STDOUT_FILENO, errno == EPIPE { exit(0) }
                return
            }
            rest = UnsafeRawBufferPointer(rebasing: rest[n...])
        }
    }
}

/// The JSON of the command line and of the control socket: snake case, keys in order of the alphabet.
enum JSON {
    static func encode(_ value: some Encodable) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(value))
    }

    static func decode<T: Decodable>(_ type: T.Type, from bytes: [UInt8]) throws -> T {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(type, from: Data(bytes))
    }
}
