public import MartletCore
public import MartletIdentity
import SwiftProtobuf

/// The identify protocols of libp2p (specs/identify/README.md).
public enum Identify {
    public static let protocolID = "/ipfs/id/1.0.0"
    public static let pushProtocolID = "/ipfs/id/push/1.0.0"

    /// rust-libp2p refuses messages above 4,096 bytes, so larger information goes out in several messages.
    static let sentMessageLimit = 4096
    /// go accepts 8 KiB with a signed record; a little more costs us nothing.
    static let messageLimit = 16_384
    static let messageCountLimit = 10
    static let protocolLimit = 512
    static let protocolLengthLimit = 256
    static let addressLimit = 64
    static let agentLengthLimit = 256
}

/// What a peer says of itself.
public struct IdentifyInfo: Hashable, Sendable {
    public var publicKey: PublicKey?
    public var protocolVersion: String?
    public var agentVersion: String?
    /// Nil when the message did not speak of them, which in a push means "as before".
    public var listenAddresses: [Multiaddr]?
    public var protocols: [String]?
    /// Our address as the peer sees it: a candidate only, for a peer can say anything.
    public var observedAddress: Multiaddr?
    /// The signed peer record as received, its signature and its author verified.
    public var signedRecord: [UInt8]?
    public var recordSequence: UInt64?

    public init() {}

    /// Takes in one more message of the exchange; later fields win and lists grow, as protobuf merging has it.
    ///
    /// - Parameter sender: the peer at the other end; a key or a record of somebody else's is refused.
    public mutating func merge(_ message: [UInt8], from sender: PeerID) throws(DecodingError) {
        let decoded: IdentifyProtobuf
        do {
            decoded = try IdentifyProtobuf(serializedBytes: message)
        } catch {
            throw .invalid(field: "identify message", reason: "not a valid protobuf")
        }
        if decoded.hasPublicKey {
            guard let key = try? PublicKey(protobuf: Array(decoded.publicKey)) else {
                throw .invalid(field: "identify public key", reason: "not a key of a known kind")
            }
            guard key.peerID == sender else {
                throw .invalid(
                    field: "identify public key", reason: "belongs to \(key.peerID), the sender is \(sender)")
            }
            publicKey = key
        }
        if decoded.hasProtocolVersion { protocolVersion = try text(decoded.protocolVersion, "protocol version") }
        if decoded.hasAgentVersion { agentVersion = try text(decoded.agentVersion, "agent version") }
        try mergeAddresses(decoded.listenAddrs)
        try mergeProtocols(decoded.protocols)
        if decoded.hasObservedAddr { observedAddress = try? Multiaddr(bytes: Array(decoded.observedAddr)) }
        if decoded.hasSignedPeerRecord { try mergeRecord(Array(decoded.signedPeerRecord), from: sender) }
    }

    private func text(_ value: String, _ field: String) throws(DecodingError) -> String {
        guard value.utf8.count <= Identify.agentLengthLimit else {
            throw .tooLong(field: field, length: UInt64(value.utf8.count), limit: Identify.agentLengthLimit)
        }
        return value
    }

    /// Addresses of kinds unknown here are skipped: the peer may know transports that we do not.
    private mutating func mergeAddresses(_ encoded: [some Sequence<UInt8>]) throws(DecodingError) {
        guard !encoded.isEmpty else { return }
        var addresses = listenAddresses ?? []
        for bytes in encoded {
            guard addresses.count < Identify.addressLimit else {
                throw .tooLong(
                    field: "identify addresses", length: UInt64(addresses.count + 1), limit: Identify.addressLimit)
            }
            if let address = try? Multiaddr(bytes: Array(bytes)) { addresses.append(address) }
        }
        listenAddresses = addresses
    }

    private mutating func mergeProtocols(_ names: [String]) throws(DecodingError) {
        guard !names.isEmpty else { return }
        var merged = protocols ?? []
        for name in names {
            guard merged.count < Identify.protocolLimit else {
                throw .tooLong(
                    field: "identify protocols", length: UInt64(merged.count + 1), limit: Identify.protocolLimit)
            }
            guard name.utf8.count <= Identify.protocolLengthLimit else {
                throw .tooLong(
                    field: "identify protocol", length: UInt64(name.utf8.count), limit: Identify.protocolLengthLimit)
            }
            merged.append(name)
        }
        protocols = merged
    }

    private mutating func mergeRecord(_ envelope: [UInt8], from sender: PeerID) throws(DecodingError) {
        guard let (record, _) = try? PeerRecord.open(envelope) else {
            throw .invalid(field: "signed peer record", reason: "signature or content is not valid")
        }
        guard record.peerID == sender else {
            throw .invalid(field: "signed peer record", reason: "is of \(record.peerID), the sender is \(sender)")
        }
        signedRecord = envelope
        recordSequence = record.sequence
        listenAddresses = Array(record.addresses.prefix(Identify.addressLimit))
    }
}
