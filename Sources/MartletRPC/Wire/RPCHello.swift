package import MartletCore

/// Names a session of one caller: 16 random bytes, valid for the peer that made it.
package struct RPCSessionID: Hashable, Sendable {
    package let high: UInt64
    package let low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    package init(random: inout RandomSource) {
        self.init(high: random.next(), low: random.next())
    }
}

/// The first bytes on a lane, from its caller.
package struct RPCHello: Hashable, Sendable {
    package var session: RPCSessionID
    package var lane: RPCPriority
    /// The server must know the session: it was greeted in it before.
    package var isResumed: Bool
    /// How many frames of this lane the caller has received.
    package var receivedCount: Int64
    /// Counts the streams that the lane has had, from 1: of two on different connections the later may come first.
    package var link: Int64

    package init(session: RPCSessionID, lane: RPCPriority, isResumed: Bool, receivedCount: Int64, link: Int64) {
        self.session = session
        self.lane = lane
        self.isResumed = isResumed
        self.receivedCount = receivedCount
        self.link = link
    }

    package var encoded: Bytes {
        var bytes: [UInt8] = [RPCWire.version]
        for word in [session.high, session.low] {
            for shift in stride(from: 56, through: 0, by: -8) { bytes.append(UInt8(truncatingIfNeeded: word >> shift)) }
        }
        bytes.append(lane.rawValue)
        bytes.append(isResumed ? 1 : 0)
        Varint.append(UInt64(max(0, receivedCount)), to: &bytes)
        Varint.append(UInt64(max(0, link)), to: &bytes)
        return Bytes(bytes)
    }

    /// The hello at the start of `span` and its size; nil when it is not all there yet.
    package static func decode(_ span: RawSpan) throws(DecodingError) -> (hello: RPCHello, byteCount: Int)? {
        var reader = ByteReader(span)
        do throws(DecodingError) {
            let version = try reader.readByte()
            guard version == RPCWire.version else { throw .invalid(field: "version", reason: "\(version) is unknown") }
            let high = try reader.readBigEndian(UInt64.self)
            let low = try reader.readBigEndian(UInt64.self)
            guard let lane = RPCPriority(rawValue: try reader.readByte()) else {
                throw .invalid(field: "lane", reason: "unknown")
            }
            let flags = try reader.readByte()
            guard flags <= 1 else { throw .invalid(field: "hello flags", reason: "\(flags)") }
            let received = Int64(try reader.readVarint())
            let link = Int64(try reader.readVarint())
            guard link > 0 else { throw .invalid(field: "link", reason: "links are counted from 1") }
            let hello = RPCHello(
                session: RPCSessionID(high: high, low: low), lane: lane, isResumed: flags == 1,
                receivedCount: received, link: link)
            return (hello, reader.position)
        } catch .truncated {
            return nil
        }
    }
}

/// The first bytes on a lane, from its server.
package struct RPCWelcome: Hashable, Sendable {
    /// Whether the lane may be used.
    package enum Status: UInt8, Hashable, Sendable {
        case welcome = 0
        /// The session is over, or was never here.
        case unknownSession = 1
        /// This peer, or all together, have as many sessions as they may.
        case tooManySessions = 2
        case stopping = 3
    }

    package var status: Status
    /// How many frames of this lane the server has received.
    package var receivedCount: Int64
    /// Calls that may be under way in the session.
    package var callLimit: Int
    /// The largest message taken.
    package var messageLimit: Int

    package init(status: Status, receivedCount: Int64 = 0, callLimit: Int = 0, messageLimit: Int = 0) {
        self.status = status
        self.receivedCount = receivedCount
        self.callLimit = callLimit
        self.messageLimit = messageLimit
    }

    package var encoded: Bytes {
        var bytes: [UInt8] = [RPCWire.version, status.rawValue]
        for number in [Int(receivedCount), callLimit, messageLimit] {
            Varint.append(UInt64(max(0, number)), to: &bytes)
        }
        return Bytes(bytes)
    }

    /// The welcome at the start of `span` and its size; nil when it is not all there yet.
    package static func decode(_ span: RawSpan) throws(DecodingError) -> (welcome: RPCWelcome, byteCount: Int)? {
        var reader = ByteReader(span)
        do throws(DecodingError) {
            let version = try reader.readByte()
            guard version == RPCWire.version else { throw .invalid(field: "version", reason: "\(version) is unknown") }
            guard let status = Status(rawValue: try reader.readByte()) else {
                throw .invalid(field: "status", reason: "unknown")
            }
            let received = Int64(try reader.readVarint())
            let calls = try reader.readCount("call limit", limit: 1 << 40)
            let message = try reader.readCount("message limit", limit: 1 << 50)
            return (
                RPCWelcome(status: status, receivedCount: received, callLimit: calls, messageLimit: message),
                reader.position
            )
        } catch .truncated {
            return nil
        }
    }
}
