import MartletCore

extension RPCFrame {
    /// At least as many bytes as the header takes.
    package var headerBound: Int {
        switch self {
        case .call(let header):
            32 + (header.methodName?.utf8.count ?? 0) + header.metadata.encodedBound + (header.message?.bound ?? 0)
        case .message(_, let header, _): 8 + header.bound
        case .result(_, let header): 8 + (header?.bound ?? 0)
        case .failure(_, let error): 32 + error.message.utf8.count + error.details.count
        case .more, .end, .cancel, .credit, .acknowledge, .goAway: 24
        }
    }

    /// Writes the header to the start of `room`, which has `headerBound` bytes, and returns its size.
    package func write(to room: UnsafeMutableRawBufferPointer) -> Int {
        var writer = FrameWriter(room)
        switch self {
        case .call(let header): writer.write(header)
        case .message(let call, let header, let ends):
            writer.byte(
                RPCWire.FrameType.message | header.flags | RPCWire.Flag.message | (ends ? RPCWire.Flag.ends : 0))
            writer.varint(call)
            writer.write(header)
        case .more(let call, let byteCount):
            writer.byte(RPCWire.FrameType.more)
            writer.varint(call)
            writer.varint(byteCount)
        case .end(let call):
            writer.byte(RPCWire.FrameType.end)
            writer.varint(call)
        case .result(let call, let header):
            writer.byte(RPCWire.FrameType.result | (header.map { $0.flags | RPCWire.Flag.message } ?? 0))
            writer.varint(call)
            if let header { writer.write(header) }
        case .failure(let call, let error):
            writer.byte(RPCWire.FrameType.failure)
            writer.varint(call)
            writer.byte(error.code.rawValue)
            writer.byte(error.outcome.rawValue)
            writer.text(error.message)
            writer.varint(error.details.count)
            writer.bytes(error.details)
        case .cancel(let call):
            writer.byte(RPCWire.FrameType.cancel)
            writer.varint(call)
        case .credit(let call, let byteCount):
            writer.byte(RPCWire.FrameType.credit)
            writer.varint(call)
            writer.varint(byteCount)
        case .acknowledge(let count):
            writer.byte(RPCWire.FrameType.acknowledge)
            writer.varint(Int(count))
        case .goAway:
            writer.byte(RPCWire.FrameType.goAway)
        }
        return writer.count
    }
}

extension RPCMessageHeader {
    fileprivate var bound: Int { 32 + (tensor.map { 10 + 9 * $0.shape.count } ?? 0) }

    fileprivate var flags: UInt8 {
        (fragment < total ? RPCWire.Flag.partial : 0) | (tensor == nil ? 0 : RPCWire.Flag.tensor)
    }
}

extension RPCMetadata {
    /// The size of all entries on the wire.
    var encodedCount: Int {
        entries.reduce(0) { sum, entry in
            let name = entry.name.utf8.count
            let value = entry.value.utf8.count
            return sum + Varint.byteCount(UInt64(name)) + name + Varint.byteCount(UInt64(value)) + value
        }
    }

    fileprivate var encodedBound: Int { isEmpty ? 0 : 9 + encodedCount }
}

/// Writes the fields of a header one after the other. The room was made large enough before.
private struct FrameWriter {
    private let room: UnsafeMutableRawBufferPointer
    private(set) var count = 0

    init(_ room: UnsafeMutableRawBufferPointer) { self.room = room }

    mutating func byte(_ value: UInt8) {
        room[count] = value
        count += 1
    }

    mutating func varint(_ value: Int) {
        // One byte is what most fields take.
        if value < 0x80 { return byte(UInt8(truncatingIfNeeded: value)) }
        count += Varint.write(UInt64(value), to: UnsafeMutableRawBufferPointer(rebasing: room[count...]))
    }

    mutating func bytes(_ bytes: Bytes) {
        guard !bytes.isEmpty else { return }
        bytes.withUnsafeBytes { UnsafeMutableRawBufferPointer(rebasing: room[count...]).copyMemory(from: $0) }
        count += bytes.count
    }

    mutating func text(_ text: String) {
        var text = text
        text.withUTF8 { utf8 in
            varint(utf8.count)
            guard !utf8.isEmpty else { return }
            UnsafeMutableRawBufferPointer(rebasing: room[count...]).copyMemory(from: UnsafeRawBufferPointer(utf8))
            count += utf8.count
        }
    }

    mutating func write(_ header: RPCCallHeader) {
        byte(
            RPCWire.FrameType.call | (header.message.map { $0.flags | RPCWire.Flag.message } ?? 0)
                | (header.ends ? RPCWire.Flag.ends : 0))
        byte(
            (header.isOneWay ? RPCWire.CallFlag.oneWay : 0)
                | (header.milliseconds == nil ? 0 : RPCWire.CallFlag.deadline)
                | (header.metadata.isEmpty ? 0 : RPCWire.CallFlag.metadata)
                | (header.methodName == nil ? 0 : RPCWire.CallFlag.name))
        varint(header.call)
        varint(header.method)
        if let name = header.methodName { text(name) }
        if let milliseconds = header.milliseconds { varint(milliseconds) }
        if !header.metadata.isEmpty {
            varint(header.metadata.encodedCount)
            for entry in header.metadata.entries {
                text(entry.name)
                text(entry.value)
            }
        }
        if let message = header.message { write(message) }
    }

    mutating func write(_ header: RPCMessageHeader) {
        if let tensor = header.tensor {
            byte(tensor.elementType.rawValue)
            varint(tensor.shape.count)
            for dimension in tensor.shape { varint(dimension) }
        }
        varint(header.total)
        if header.fragment < header.total { varint(header.fragment) }
    }
}
