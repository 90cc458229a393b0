internal import SwiftProtobuf

extension PublicKey {
    /// Reads the `PublicKey` message of the peer-ids specification.
    ///
    /// Only the deterministic encoding is taken (fields in order, nothing else in the message, shortest lengths): the
    /// peer id is a hash of these bytes, and another spelling of the same key would be another peer.
    public init(protobuf: [UInt8]) throws(KeyError) {
        guard protobuf.count <= Self.maximumProtobufByteCount else {
            throw .tooLong(byteCount: protobuf.count, limit: Self.maximumProtobufByteCount)
        }
        let message: WirePublicKey
        do {
            message = try WirePublicKey(serializedBytes: protobuf, partial: true)
        } catch {
            throw .malformed(reason: "not a PublicKey message")
        }
        guard message.hasType, let kind = Kind(rawValue: message.type.rawValue) else {
            // A number that the enumeration lacks is read as no type.
            throw .unsupported(reason: "no type, or one that is unknown")
        }
        guard message.hasData else { throw .malformed(reason: "no data") }
        let key = try PublicKey(kind: kind, rawBytes: [UInt8](message.data))
        guard key.protobuf == protobuf else { throw .malformed(reason: "not in the deterministic encoding") }
        self = key
    }

    /// The `PublicKey` message, in the one encoding that peer ids are made from.
    public var protobuf: [UInt8] {
        var message = WirePublicKey()
        message.type = WireKeyType(rawValue: kind.rawValue) ?? .ed25519
        message.data = protobufData(rawBytes)
        return serialized(message)
    }
}

/// `bytes` as the type of a protobuf `bytes` field, which is Foundation's and not to be imported.
func protobufData<Data: SwiftProtobufContiguousBytes>(_ bytes: some Sequence<UInt8>) -> Data { Data(bytes) }

/// A message with all its required fields set, which is the one case in which serialising could fail.
func serialized(_ message: some Message) -> [UInt8] {
    do {
        return try message.serializedBytes()
    } catch {
        preconditionFailure("a complete message does not serialise: \(error)")
    }
}
