public import MartletCore

/// The serving side of one unary call: the request is read to the end of the stream, then answered with one message.
///
/// A request that is refused for its size is read on without being kept, so that its sender can be told.
public struct LatticaUnaryServer {
    /// What the request comes to.
    public enum Request: Equatable, Sendable {
        case call(id: String, method: String, argument: RPCMessage)
        /// To be answered with an error.
        case refused(id: String, text: String)
    }

    private let limits: LatticaLimits
    private var request = GatheredBytes()
    private var refusal: (id: String, text: String)?

    public init(limits: LatticaLimits = LatticaLimits()) { self.limits = limits }

    public var bufferedByteCount: Int { request.byteCount }

    public mutating func received(_ bytes: Bytes) {
        guard refusal == nil else { return }
        request.append(bytes)
        if request.byteCount > limits.messageSize + LatticaMessage.overhead(limits) {
            refuse("\(LatticaError.messageTooLong(limit: limits.messageSize))")
        }
    }

    /// Keeps nothing of the request from now on; it will be answered with `text`.
    public mutating func refuse(_ text: String) {
        guard refusal == nil else { return }
        var reader = BincodeReader(request.take())
        var id: String?
        if (try? reader.readTag(count: 1, field: "message")) != nil {
            id = try? reader.readString(limit: limits.idSize, field: "id")
        }
        refusal = (id ?? "", text)
    }

    /// The peer has finished its request.
    ///
    /// - Throws: what makes the request unanswerable; the stream is to be reset.
    public mutating func finished() throws(LatticaError) -> Request {
        if let refusal { return .refused(id: refusal.id, text: refusal.text) }
        let message = request.take()
        do throws(LatticaError) {
            guard case .request(let id, let method, let data) = try LatticaMessage(decoding: message, limits: limits)
            else { throw .unexpected("an answer") }
            return .call(id: id, method: method, argument: data)
        } catch .malformed(.truncated) {
            throw .ended(afterByteCount: message.byteCount)
        } catch .compressed(let compression) {
            return .refused(id: "", text: "\(LatticaError.compressed(compression))")
        } catch .messageTooLong(let limit) {
            return .refused(id: "", text: "\(LatticaError.messageTooLong(limit: limit))")
        }
    }
}
