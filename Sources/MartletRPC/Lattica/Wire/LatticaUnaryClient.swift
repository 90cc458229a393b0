public import MartletCore

/// The calling side of one unary call: the request is written and the sending side finished, then the answer is read to the
/// end of the stream.
public struct LatticaUnaryClient {
    /// How a call came out.
    public enum Answer: Equatable, Sendable {
        case result(RPCMessage)
        case failed(String)
    }

    private let limits: LatticaLimits
    private var answer = GatheredBytes()

    public init(limits: LatticaLimits = LatticaLimits()) { self.limits = limits }

    /// What to send.
    public static func request(id: String, method: String, argument: RPCMessage) -> RPCMessage {
        LatticaMessage.request(id: id, method: method, data: argument).encoded
    }

    public var bufferedByteCount: Int { answer.byteCount }

    /// - Throws: `.messageTooLong`: then the stream is to be reset.
    public mutating func received(_ bytes: Bytes) throws(LatticaError) {
        let limit = max(limits.messageSize, limits.errorTextSize) + LatticaMessage.overhead(limits)
        guard answer.byteCount + bytes.count <= limit else { throw .messageTooLong(limit: limits.messageSize) }
        answer.append(bytes)
    }

    /// The peer has finished: what it said. The answer's id is not compared, for the stream tells which call it belongs to.
    public mutating func finished() throws(LatticaError) -> Answer {
        let message = answer.take()
        do throws(LatticaError) {
            switch try LatticaMessage(decoding: message, limits: limits) {
            case .response(_, let data): return .result(data)
            case .error(_, let text): return .failed(text)
            case .request: throw .unexpected("a request")
            }
        } catch .malformed(.truncated) {
            throw .ended(afterByteCount: message.byteCount)
        }
    }
}
