/// Why a text or a list of components is no multiaddr. The description names the part that is wrong:
///
///     invalid multiaddr "/ip4/1.2.3.400/tcp/1": ip4 "1.2.3.400" is not an IPv4 address
public struct MultiaddrError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What kind of mistake it is.
    public enum Code: Hashable, Sendable {
        case empty
        case missingSlash
        case unknownProtocol
        case missingValue
        case invalidValue
        /// More bytes or more components than an address may have.
        case tooLong
        /// A part that may stand only at the end.
        case misplaced
    }

    public let code: Code
    /// The address as given, shortened when long, control characters escaped.
    public let address: String
    /// What is wrong, naming the part.
    public let message: String

    init(_ code: Code, in address: String, _ message: String) {
        self.code = code
        self.address = printable(address, limit: 200)
        self.message = message
    }

    public var description: String { "invalid multiaddr \"\(address)\": \(message)" }
}

/// Text from anywhere, fit for a log line: no control characters, and not long.
func printable(_ text: String, limit: Int) -> String {
    var result = String.UnicodeScalarView()
    for (count, scalar) in text.unicodeScalars.enumerated() {
        if count == limit { return String(result) + "…" }
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator:
            result.append(contentsOf: "\\u{\(String(scalar.value, radix: 16))}".unicodeScalars)
        default: result.append(scalar)
        }
    }
    return String(result)
}
