import Martlet
import MartletCore
import MartletIdentity

/// Asks a peer who it is on a stream of its own, and reads the answer as it is on the wire.
enum IdentifyQuestion {
    struct Malformed: Error {}

    /// - Parameter finishesFirst: finish the stream before reading anything.
    static func ask(_ node: Node, _ peer: PeerID, finishesFirst: Bool = false) async throws -> [(String, JSON)] {
        let stream = try await node.openStream(to: peer, protocol: Wire.identify)
        if finishesFirst { try await stream.finish() }
        let answer = try await stream.readToEnd()
        try await stream.finish()
        return try fields(of: answer, from: peer)
    }

    /// The messages are merged, as a large identify comes in several.
    private static func fields(of answer: [UInt8], from peer: PeerID) throws -> [(String, JSON)] {
        var found: [UInt64: [[UInt8]]] = [:]
        var messages = ByteReader(answer.span.bytes)
        while !messages.isAtEnd {
            let message = try messages.readLengthPrefixed(limit: 1 << 20, field: "identify message")
            var reader = ByteReader(message.span.bytes)
            while !reader.isAtEnd {
                let key = try reader.readVarint()
                guard key & 7 == 2 else { throw Malformed() }
                found[key >> 3, default: []].append(try reader.readLengthPrefixed(limit: 1 << 20, field: "field"))
            }
        }
        let texts = { (number: UInt64) in (found[number] ?? []).map { String(decoding: $0, as: UTF8.self) } }
        let addresses = { (number: UInt64) in
            try (found[number] ?? []).map { JSON.string("\(try Multiaddr(bytes: $0))") }
        }
        let key = try found[1]?.first.map { try PublicKey(protobuf: $0) }
        guard key == nil || key?.peerID == peer else { throw Malformed() }
        let record = try found[8]?.first.map { try PeerRecord.open($0) }
        guard record == nil || record?.0.peerID == peer else { throw Malformed() }
        return [
            ("protocol_version", .string(texts(5).last ?? "")),
            ("agent_version", .string(texts(6).last ?? "")),
            ("protocols", .list(texts(3).map { .string($0) })),
            ("listen_addrs", .list(try addresses(2))),
            ("observed_addr", try addresses(4).last ?? .string("")),
            ("signed_peer_record", .boolean(record != nil)),
        ]
    }
}
