import MartletCore

/// What travels in Lattica's unary protocol: one of these each way, up to the end of the stream.
public enum LatticaMessage: Equatable, Sendable {
    case request(id: String, method: String, data: RPCMessage)
    case response(id: String, data: RPCMessage)
    case error(id: String, text: String)

    /// The size of a message without its payload is at most this, for the limits' defaults.
    static func overhead(_ limits: LatticaLimits) -> Int { limits.idSize + limits.methodNameSize + 64 }

    /// - Throws: `.malformed`, `.messageTooLong` or `.compressed`. What follows the message is ignored, as Lattica does.
    public init(decoding message: RPCMessage, limits: LatticaLimits = LatticaLimits()) throws(LatticaError) {
        var reader = BincodeReader(message)
        let compression: LatticaCompression
        do throws(DecodingError) {
            switch try reader.readTag(count: 3, field: "message") {
            case 0:
                self = .request(
                    id: try reader.readString(limit: limits.idSize, field: "id"),
                    method: try reader.readString(limit: limits.methodNameSize, field: "method"),
                    data: try reader.readBytes(limit: limits.messageSize, field: "data"))
                compression = try Self.readCompression(&reader)
            case 1:
                self = .response(
                    id: try reader.readString(limit: limits.idSize, field: "id"),
                    data: try reader.readBytes(limit: limits.messageSize, field: "data"))
                compression = try Self.readCompression(&reader)
            default:
                self = .error(
                    id: try reader.readString(limit: limits.idSize, field: "id"),
                    text: try reader.readString(limit: limits.errorTextSize, field: "error"))
                compression = .none
            }
        } catch .tooLong("data", _, let limit) {
            throw .messageTooLong(limit: limit)
        } catch {
            throw .malformed(error)
        }
        guard compression == .none else { throw .compressed(compression) }
    }

    private static func readCompression(_ reader: inout BincodeReader) throws(DecodingError) -> LatticaCompression {
        guard try reader.readOption(field: "compression") else { return .none }
        return LatticaCompression.allCases[
            try reader.readTag(count: LatticaCompression.allCases.count, field: "compression")]
    }

    /// The bytes to send before the sending side is finished.
    public var encoded: RPCMessage {
        var writer = BincodeWriter()
        switch self {
        case .request(let id, let method, let data):
            writer.write(byte: 0)
            writer.write(string: id)
            writer.write(string: method)
            writer.write(bytes: data)
            writer.write(isPresent: false)
        case .response(let id, let data):
            writer.write(byte: 1)
            writer.write(string: id)
            writer.write(bytes: data)
            writer.write(isPresent: false)
        case .error(let id, let text):
            writer.write(byte: 2)
            writer.write(string: id)
            writer.write(string: text)
        }
        return writer.finish()
    }
}
