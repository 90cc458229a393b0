public import MartletCore
public import MartletIdentity
import SwiftProtobuf
import Synchronization

/// What this node says of itself to its peers, shared by all its connections. Any thread may read or change it.
public final class LocalPeer: Sendable {
    public let identity: KeyPair
    /// The network that this node belongs to: identify's protocol version.
    public let network: String
    public let agentVersion: String
    public let protocols: ProtocolTable

    private struct State {
        var listenAddresses: [Multiaddr] = []
        var sequence: UInt64
        var encoded: [[UInt8]]?
        var encodedProtocols: [String] = []
    }

    private let state: Mutex<State>
    private static let sentAddressLimit = 32

    /// - Parameter sequence: where the sequence numbers of peer records start: they must grow from run to run, so it is
    ///   the wall clock in nanoseconds outside simulations.
    public init(
        identity: KeyPair, network: String, agentVersion: String, protocols: ProtocolTable, sequence: UInt64
    ) {
        self.identity = identity
        self.network = network
        self.agentVersion = agentVersion
        self.protocols = protocols
        state = Mutex(State(sequence: sequence))
    }

    public var peerID: PeerID { identity.peerID }

    public var listenAddresses: [Multiaddr] { state.withLock { $0.listenAddresses } }

    /// Sets the addresses that peers are told of. Connected peers hear of it by a push, which the swarm starts.
    public func setListenAddresses(_ addresses: [Multiaddr]) {
        state.withLock { state in
            guard state.listenAddresses != addresses else { return }
            state.listenAddresses = addresses
            state.sequence += 1
            state.encoded = nil
        }
    }

    /// The identify messages for a peer seen at `observed`, each with its length in front.
    ///
    /// The part common to all peers is encoded and signed once per change. Concatenated protobufs merge, so the observed
    /// address goes to the end of the first message.
    func identifyMessages(observed: Multiaddr?) -> [UInt8] {
        var messages = commonMessages()
        if let observed {
            var tail = IdentifyProtobuf()
            tail.observedAddr = protobufData(observed.bytes)
            if let bytes: [UInt8] = try? tail.serializedBytes() { messages[0] += bytes }
        }
        var output: [UInt8] = []
        for message in messages {
            Varint.append(UInt64(message.count), to: &output)
            output += message
        }
        return output
    }

    private func commonMessages() -> [[UInt8]] {
        let names = protocols.protocolIDs
        return state.withLock { state in
            if let encoded = state.encoded, state.encodedProtocols == names { return encoded }
            let messages = encode(names, Array(state.listenAddresses.prefix(Self.sentAddressLimit)), state.sequence)
            state.encoded = messages
            state.encodedProtocols = names
            return messages
        }
    }

    private func encode(_ names: [String], _ addresses: [Multiaddr], _ sequence: UInt64) -> [[UInt8]] {
        var message = IdentifyProtobuf()
        message.publicKey = protobufData(identity.publicKey.protobuf)
        message.listenAddrs = addresses.map { protobufData($0.bytes) }
        message.protocolVersion = network
        message.agentVersion = agentVersion
        if let record = try? PeerRecord(peerID: peerID, sequence: sequence, addresses: addresses) {
            message.signedPeerRecord = protobufData(record.sealed(with: identity).bytes)
        }
        var messages: [IdentifyProtobuf] = []
        // Room for the observed address is kept in every message.
        var size = message.listenAddrs.reduce(800) { $0 + $1.count } + message.signedPeerRecord.count
        for name in names {
            size += name.utf8.count + 3
            if size > Identify.sentMessageLimit, messages.count < Identify.messageCountLimit - 1 {
                messages.append(message)
                message = IdentifyProtobuf()
                size = name.utf8.count + 3
            }
            message.protocols.append(name)
        }
        messages.append(message)
        return messages.compactMap { try? $0.serializedBytes() }
    }
}
