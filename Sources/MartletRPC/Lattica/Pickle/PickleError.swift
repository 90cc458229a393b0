/// Why a pickle is refused. Positions are byte offsets from its start.
public enum PickleError: Error, Hashable, Sendable, CustomStringConvertible {
    case truncated(position: Int)
    /// An opcode that makes or calls something other than plain values, or is none.
    case refusedOpcode(name: String, opcode: UInt8, position: Int)
    case unsupportedProtocol(version: UInt8, position: Int)
    /// An opcode takes more values than there are, or one of another kind.
    case badStack(opcode: String, position: Int)
    /// A number, a text or a length that makes no sense.
    case invalid(what: String, position: Int)
    /// A memo entry is asked for that was never made.
    case noMemoEntry(index: Int, position: Int)
    /// A list or dict contains itself.
    case selfReference(position: Int)
    /// A list or dict as a key of a dict, or a key that occurs twice.
    case badKey(position: Int)
    /// Bytes or values are left when the pickle says that it ends.
    case leftover(position: Int)
    /// A limit of `PickleLimits` was reached.
    case limit(name: String, value: Int, position: Int)

    public var description: String {
        switch self {
        case .truncated(let position): "the pickle ends too early, at byte \(position)"
        case .refusedOpcode(let name, let opcode, let position):
            "\(name) (opcode 0x\(String(opcode, radix: 16))) at byte \(position): only None, bool, int, float, str, "
                + "bytes, list, tuple and dict are taken"
        case .unsupportedProtocol(let version, let position): "pickle protocol \(version) at byte \(position)"
        case .badStack(let opcode, let position): "\(opcode) at byte \(position) does not find the values it takes"
        case .invalid(let what, let position): "\(what) at byte \(position)"
        case .noMemoEntry(let index, let position): "memo entry \(index), asked for at byte \(position), is not there"
        case .selfReference(let position): "the list or dict begun at byte \(position) contains itself"
        case .badKey(let position): "a key of the dict begun at byte \(position) cannot be hashed, or occurs twice"
        case .leftover(let position): "something is left when the pickle ends at byte \(position)"
        case .limit(let name, let value, let position): "\(name), which is \(value), is exceeded at byte \(position)"
        }
    }
}
