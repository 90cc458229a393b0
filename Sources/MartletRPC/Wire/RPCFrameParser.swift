package import MartletCore

/// Takes a lane's bytes as they come and gives whole frames with their payload, without copying the payload of large ones.
package struct RPCFrameParser {
    /// Payloads below this size do not keep a large block alive: what is left of the block's piece is copied, once.
    private static let pinThreshold = 4096

    private let limits: RPCLimits
    private let headerLimit: Int
    private var input = Bytes()
    /// Bytes received and not yet part of a whole frame, which another connection will bring again.
    private var carry: [UInt8] = []
    private var current: RPCFrame?
    private var remaining = 0
    private var payload = RPCMessage()
    /// The size of the frame being received, header included.
    private var frameCount = 0

    package init(limits: RPCLimits) {
        self.limits = limits
        headerLimit = RPCFrame.headerLimit(limits)
    }

    /// Gives bytes that follow those given before. All frames in those must have been taken.
    package mutating func append(_ bytes: Bytes) {
        precondition(input.isEmpty, "bytes given before all frames were taken")
        input = bytes
    }

    /// The next whole frame, its payload and its size; nil until more bytes come.
    package mutating func next() throws(DecodingError) -> (frame: RPCFrame, payload: RPCMessage, byteCount: Int)? {
        if let whole = try nextWhole() { return whole }
        while true {
            if let frame = current {
                if remaining > 0 {
                    guard !input.isEmpty else { return nil }
                    takePayload()
                    if remaining > 0 { return nil }
                }
                current = nil
                let message = payload
                payload = RPCMessage()
                return (frame, message, frameCount)
            }
            guard !input.isEmpty, let decoded = try decodeHeader() else { return nil }
            current = decoded.frame
            remaining = decoded.frame.payloadCount
            frameCount = decoded.headerCount + remaining
        }
    }

    /// A frame that lies in the input as a whole, as most do: nothing of it need be kept for later.
    private mutating func nextWhole() throws(DecodingError) -> (
        frame: RPCFrame, payload: RPCMessage, byteCount: Int
    )? {
        guard current == nil, carry.isEmpty, !input.isEmpty,
            let decoded = try RPCFrame.decode(input.span, limits: limits)
        else { return nil }
        let count = decoded.frame.payloadCount
        guard input.count - decoded.headerCount >= count else { return nil }
        input.removeFirst(decoded.headerCount)
        let payload = count == 0 ? RPCMessage() : RPCMessage(takeInput(count))
        return (decoded.frame, payload, decoded.headerCount + count)
    }

    private mutating func takePayload() {
        let count = min(remaining, input.count)
        payload.append(takeInput(count))
        remaining -= count
    }

    private mutating func takeInput(_ count: Int) -> Bytes {
        if count < Self.pinThreshold, input.retainedByteCount > 2 * input.count + Self.pinThreshold {
            input = input.compacted()
        }
        return input.takeFirst(count)
    }

    private mutating func decodeHeader() throws(DecodingError) -> RPCDecodedFrame? {
        if carry.isEmpty {
            if let decoded = try RPCFrame.decode(input.span, limits: limits) {
                input.removeFirst(decoded.headerCount)
                return decoded
            }
            try carry(input.count)
            return nil
        }
        // A header that came in pieces: a few bytes at a time, since what follows it is payload.
        while !input.isEmpty {
            let before = carry.count
            let following = input
            try carry(max(1, min(input.count, max(64, before), headerLimit - before)))
            guard let decoded = try RPCFrame.decode(carry.span.bytes, limits: limits) else { continue }
            // Before these bytes the header was not whole, so it ends among them.
            input = following.dropFirst(max(0, decoded.headerCount - before))
            carry = []
            return decoded
        }
        return nil
    }

    /// Moves `count` bytes from the input behind the incomplete header.
    private mutating func carry(_ count: Int) throws(DecodingError) {
        guard carry.count + count <= headerLimit else {
            // More than any header takes, and still not whole.
            throw .tooLong(field: "frame header", length: UInt64(carry.count + count), limit: headerLimit)
        }
        input.takeFirst(count).withUnsafeBytes { carry.append(contentsOf: $0) }
    }
}
