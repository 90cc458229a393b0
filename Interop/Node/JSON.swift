/// Just enough JSON for one line of output.
enum JSON {
    case string(String)
    case integer(Int)
    case number(Double)
    case boolean(Bool)
    case list([JSON])

    var text: String {
        switch self {
        case .string(let string): Self.quoted(string)
        case .integer(let integer): "\(integer)"
        case .number(let number): "\(number)"
        case .boolean(let boolean): "\(boolean)"
        case .list(let list): "[" + list.map(\.text).joined(separator: ", ") + "]"
        }
    }

    static func object(_ fields: [(String, JSON)]) -> String {
        "{" + fields.map { "\(quoted($0)): \($1.text)" }.joined(separator: ", ") + "}"
    }

    private static func quoted(_ string: String) -> String {
        var result = "\""
        for scalar in string.unicodeScalars {
            switch scalar {
            case "\"", "\\": result += "\\\(scalar)"
            case "\n": result += "\\n"
            case _ where scalar.value < 0x20: result += " "
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
