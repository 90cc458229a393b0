package import MartletCore

/// A frame's header as it stood at the start of some bytes.
package struct RPCDecodedFrame: Sendable {
    package let frame: RPCFrame
    /// The size of the header; the payload comes after it.
    package let headerCount: Int
}

extension RPCFrame {
    /// The longest header that is taken from a peer.
    static func headerLimit(_ limits: RPCLimits) -> Int {
        let call = limits.metadataSize + limits.methodNameSize
        return max(call, limits.errorTextSize + limits.errorDetailsSize) + 512
    }

    /// Decodes the header at the start of `span`; nil when it is not all there yet.
    package static func decode(_ span: RawSpan, limits: RPCLimits) throws(DecodingError) -> RPCDecodedFrame? {
        var reader = ByteReader(span)
        do throws(DecodingError) {
            let frame = try read(&reader, limits)
            return RPCDecodedFrame(frame: frame, headerCount: reader.position)
        } catch .truncated {
            return nil
        }
    }

    private static func read(_ reader: inout ByteReader, _ limits: RPCLimits) throws(DecodingError) -> RPCFrame {
        let first = try reader.readByte()
        let flags = first & 0xF0
        switch first & 0x0F {
        case RPCWire.FrameType.call:
            return .call(try readCall(&reader, flags, limits))
        case RPCWire.FrameType.message:
            let call = try readCall(&reader)
            guard flags & RPCWire.Flag.message != 0 else { throw .invalid(field: "message", reason: "without one") }
            return .message(call: call, try readMessage(&reader, flags), ends: flags & RPCWire.Flag.ends != 0)
        case RPCWire.FrameType.more:
            try requireNone(flags)
            let call = try readCall(&reader)
            let count = try reader.readCount("fragment", limit: RPCWire.fragmentLimit)
            guard count > 0 else { throw .invalid(field: "fragment", reason: "empty") }
            return .more(call: call, byteCount: count)
        case RPCWire.FrameType.end:
            try requireNone(flags)
            return .end(call: try readCall(&reader))
        case RPCWire.FrameType.result:
            let call = try readCall(&reader)
            guard flags & RPCWire.Flag.message != 0 else {
                try requireNone(flags)
                return .result(call: call, nil)
            }
            try requireNone(flags & RPCWire.Flag.ends)
            return .result(call: call, try readMessage(&reader, flags))
        case RPCWire.FrameType.failure:
            try requireNone(flags)
            return try readFailure(&reader, limits)
        case RPCWire.FrameType.cancel:
            try requireNone(flags)
            return .cancel(call: try readCall(&reader))
        case RPCWire.FrameType.credit:
            try requireNone(flags)
            let call = try readCall(&reader)
            return .credit(call: call, byteCount: try reader.readCount("credit", limit: 1 << 40))
        case RPCWire.FrameType.acknowledge:
            try requireNone(flags)
            return .acknowledge(Int64(try reader.readVarint()))
        case RPCWire.FrameType.goAway:
            try requireNone(flags)
            return .goAway
        case let type:
            throw .invalid(field: "frame type", reason: "\(type) is unknown")
        }
    }

    private static func requireNone(_ flags: UInt8) throws(DecodingError) {
        guard flags == 0 else { throw .invalid(field: "frame flags", reason: "\(flags) means nothing here") }
    }

    /// The number of a call that is answered.
    private static func readCall(_ reader: inout ByteReader) throws(DecodingError) -> Int {
        let call = try reader.readCount("call number", limit: RPCWire.callLimit)
        guard call > 0 else { throw .invalid(field: "call number", reason: "0 is no call") }
        return call
    }

    private static func readCall(
        _ reader: inout ByteReader, _ flags: UInt8, _ limits: RPCLimits
    ) throws(DecodingError) -> RPCCallHeader {
        let more = try reader.readByte()
        guard more & ~RPCWire.CallFlag.known == 0 else { throw .invalid(field: "call flags", reason: "\(more)") }
        let call = try reader.readCount("call number", limit: RPCWire.callLimit)
        let method = try reader.readCount("method number", limit: RPCWire.methodLimit - 1)
        var header = RPCCallHeader(call: call, method: method)
        header.isOneWay = more & RPCWire.CallFlag.oneWay != 0
        header.ends = flags & RPCWire.Flag.ends != 0
        if more & RPCWire.CallFlag.name != 0 {
            header.methodName = try reader.readText("method name", limit: limits.methodNameSize)
        }
        if more & RPCWire.CallFlag.deadline != 0 {
            header.milliseconds = try reader.readCount("deadline", limit: 1 << 40)
        }
        if more & RPCWire.CallFlag.metadata != 0 {
            header.metadata = try readMetadata(&reader, limits)
        }
        if flags & RPCWire.Flag.message != 0 {
            header.message = try readMessage(&reader, flags)
        } else {
            try requireNone(flags & ~RPCWire.Flag.ends)
        }
        if call == 0 {
            // What is never answered cannot be granted credit or be told of an error, so it is all here.
            let isWhole = header.message.map { $0.fragment == $0.total } ?? false
            guard header.isOneWay, header.ends, isWhole else {
                throw .invalid(field: "call number", reason: "0 is for one-way calls of a single frame")
            }
        }
        return header
    }

    private static func readMetadata(
        _ reader: inout ByteReader, _ limits: RPCLimits
    ) throws(DecodingError) -> RPCMetadata {
        let block = try reader.readLengthPrefixedSpan(limit: limits.metadataSize, field: "metadata")
        var inner = ByteReader(block)
        var entries: [RPCMetadata.Entry] = []
        do throws(DecodingError) {
            while !inner.isAtEnd {
                let name = try inner.readText("metadata name", limit: limits.metadataSize)
                let value = try inner.readText("metadata value", limit: limits.metadataSize)
                entries.append(.init(name: name, value: value))
            }
        } catch .truncated {
            // The block is all there, so more bytes would not help.
            throw .invalid(field: "metadata", reason: "an entry is cut off")
        }
        return RPCMetadata(entries)
    }

    private static func readMessage(
        _ reader: inout ByteReader, _ flags: UInt8
    ) throws(DecodingError) -> RPCMessageHeader {
        var tensor: TensorDescription?
        if flags & RPCWire.Flag.tensor != 0 {
            let type = TensorElementType(rawValue: try reader.readByte())
            let rank = try reader.readCount("tensor rank", limit: TensorDescription.maximumRank)
            var shape: [Int] = []
            for _ in 0..<rank {
                shape.append(try reader.readCount("tensor dimension", limit: TensorDescription.maximumDimension))
            }
            tensor = TensorDescription(type, shape)
        }
        let isPartial = flags & RPCWire.Flag.partial != 0
        let total = try reader.readCount("message", limit: isPartial ? 1 << 48 : RPCWire.fragmentLimit)
        guard isPartial else { return RPCMessageHeader(total: total, fragment: total, tensor: tensor) }
        let fragment = try reader.readCount("fragment", limit: RPCWire.fragmentLimit)
        guard fragment < total else { throw .invalid(field: "fragment", reason: "as large as its message") }
        return RPCMessageHeader(total: total, fragment: fragment, tensor: tensor)
    }

    private static func readFailure(
        _ reader: inout ByteReader, _ limits: RPCLimits
    ) throws(DecodingError) -> RPCFrame {
        let call = try readCall(&reader)
        let code = RPCError.Code(rawValue: try reader.readByte())
        guard let outcome = RPCError.Outcome(rawValue: try reader.readByte()) else {
            throw .invalid(field: "outcome", reason: "unknown")
        }
        let text = try reader.readText("error text", limit: limits.errorTextSize)
        let details = try reader.readLengthPrefixedSpan(limit: limits.errorDetailsSize, field: "error details")
        return .failure(call: call, RPCError(code, text, details: Bytes(copying: details), outcome: outcome))
    }
}

extension ByteReader {
    /// A varint no larger than `limit`.
    @_lifetime(self: copy self)
    mutating func readCount(_ field: String, limit: Int) throws(DecodingError) -> Int {
        let value = try readVarint()
        guard value <= UInt64(clamping: limit) else { throw .tooLong(field: field, length: value, limit: limit) }
        return Int(value)
    }

    /// A length and so many bytes of valid UTF-8.
    @_lifetime(self: copy self)
    mutating func readText(_ field: String, limit: Int) throws(DecodingError) -> String {
        let bytes = try readLengthPrefixed(limit: limit, field: field)
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw .invalid(field: field, reason: "not UTF-8")
        }
        return text
    }
}
