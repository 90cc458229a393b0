import MartletCore

/// What travels in Lattica's stream protocol, each in a frame of its own.
public enum LatticaStreamFrame: Equatable, Sendable {
    /// Begins a call; the argument follows as data.
    case request(id: String, method: String, data: RPCMessage)
    /// A part of the argument, a part of the result, or an item.
    case data(id: String, RPCMessage, isEnd: Bool)
    case error(id: String, text: String)
    /// The server is done with a call. Never sent by a client: a Lattica server would drop the whole stream.
    case close(id: String)
    /// The client wants no more of a call.
    case cancel(id: String)

    /// - Parameter body: a frame without its length. What follows the value in it is ignored, as Lattica does.
    public init(decoding body: RPCMessage, limits: LatticaLimits = LatticaLimits()) throws(LatticaError) {
        var reader = BincodeReader(body)
        do {
            let tag = try reader.readTag(count: 5, field: "frame")
            let id = try reader.readString(limit: limits.idSize, field: "id")
            switch tag {
            case 0:
                self = .request(
                    id: id, method: try reader.readString(limit: limits.methodNameSize, field: "method"),
                    data: try reader.readBytes(limit: limits.frameSize, field: "data"))
            case 1:
                self = .data(
                    id: id, try reader.readBytes(limit: limits.frameSize, field: "data"),
                    isEnd: try reader.readBool(field: "is_end"))
            case 2: self = .error(id: id, text: try reader.readString(limit: limits.errorTextSize, field: "error"))
            case 3: self = .close(id: id)
            default: self = .cancel(id: id)
            }
        } catch {
            throw .malformed(error)
        }
    }

    /// The frame with its length in front.
    public var encoded: RPCMessage {
        var writer = BincodeWriter()
        switch self {
        case .request(let id, let method, let data):
            writer.write(byte: 0)
            writer.write(string: id)
            writer.write(string: method)
            writer.write(bytes: data)
        case .data(let id, let data, let isEnd):
            writer.write(byte: 1)
            writer.write(string: id)
            writer.write(bytes: data)
            writer.write(bool: isEnd)
        case .error(let id, let text):
            writer.write(byte: 2)
            writer.write(string: id)
            writer.write(string: text)
        case .close(let id):
            writer.write(byte: 3)
            writer.write(string: id)
        case .cancel(let id):
            writer.write(byte: 4)
            writer.write(string: id)
        }
        let body = writer.finish()
        var length = UInt32(clamping: body.byteCount).bigEndian
        let header = withUnsafeBytes(of: &length) { Bytes(copying: $0) }
        // Small frames are one piece, so that they are one write.
        guard body.pieceCount == 1, body.byteCount <= 8192 else { return RPCMessage(pieces: [header] + body.pieces) }
        return RPCMessage(RPCMessage(pieces: [header] + body.pieces).contiguous())
    }

    /// What a client sends to make a call: the request, which carries no argument, and the argument in parts, of which the
    /// last says so. An empty argument is one empty part.
    public static func call(id: String, method: String, argument: RPCMessage) -> [LatticaStreamFrame] {
        var parts = argument.split(LatticaLimits.framePayloadSize)
        if parts.isEmpty { parts = [RPCMessage()] }
        var frames = [LatticaStreamFrame.request(id: id, method: method, data: RPCMessage())]
        for (index, part) in parts.enumerated() {
            frames.append(.data(id: id, part, isEnd: index == parts.count - 1))
        }
        return frames
    }

    /// What a server sends for a whole result: its parts, of which the last says so, then the end. Nothing but the end for
    /// an empty one.
    public static func result(id: String, _ result: RPCMessage) -> [LatticaStreamFrame] {
        let parts = result.split(LatticaLimits.framePayloadSize)
        return parts.enumerated().map { .data(id: id, $1, isEnd: $0 == parts.count - 1) } + [.close(id: id)]
    }
}

extension RPCMessage {
    /// The bytes in parts of at most `size`, without copying them.
    func split(_ size: Int) -> [RPCMessage] {
        var parts: [RPCMessage] = []
        var part = RPCMessage()
        for index in 0..<pieceCount {
            var rest = piece(index)
            while !rest.isEmpty {
                part.append(rest.takeFirst(min(rest.count, size - part.byteCount)))
                if part.byteCount == size {
                    parts.append(part)
                    part = RPCMessage()
                }
            }
        }
        if !part.isEmpty { parts.append(part) }
        return parts
    }
}
