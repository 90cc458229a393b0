import MartletCore
public import MartletIdentity
public import MartletRPC

/// What this node holds of models, and what its peers do.
///
///     node.shards.register(model: "M", layers: 0..<16, version: 3, capacity: 8)
///     let reply = try await node.call(shard: .layer(7, of: "M"), "Model.forward", activations, affinity: sessionID)
///
/// A node that uses shards asks every peer that it connects to what it holds, and tells its peers when its own change.
public struct NodeShards: Sendable {
    let node: Node

    /// Offers to serve a part of a model: peers that ask for it may be routed here. The methods that they call are
    /// registered with `Node.rpc` as any others. Registering the same layers again replaces them.
    ///
    /// - Throws: `RPCError` when the registration cannot be told to others, or there are too many.
    public func register(model: String, layers: Range<Int>, version: UInt64 = 0, capacity: Int = 1) throws {
        let shard = ShardRegistration(model: model, layers: layers, version: version, capacity: capacity)
        guard ShardList.accepts(shard) else {
            throw RPCError(
                .invalidArgument, "a shard needs layers, a capacity, and a model's name of at most 255 bytes")
        }
        guard registrations.count < ShardList.countLimit else {
            throw RPCError(.resourceExhausted, "a node registers at most \(ShardList.countLimit) shards")
        }
        node.shardExchange.change(node) { own in
            own.removeAll { $0.model == model && $0.layers == layers }
            own.append(shard)
        }
    }

    /// Serves these layers of the model no longer.
    public func unregister(model: String, layers: Range<Int>) {
        node.shardExchange.change(node) { own in own.removeAll { $0.model == model && $0.layers == layers } }
    }

    /// What this node holds.
    public var registrations: [ShardRegistration] { node.shardExchange.ownList.shards }

    /// What connected peers hold, as far as they have said. Asking begins with the first shard that is registered, called or
    /// looked up here.
    public var known: [(peer: PeerID, shards: [ShardRegistration])] {
        node.shardExchange.follow(node)
        return node.shardExchange.known
    }
}

extension Node {
    /// Parts of models: what this node holds of them, and what its peers do.
    public var shards: NodeShards { NodeShards(node: self) }

    /// Calls a method of a connected peer that holds what is needed, chosen by latency and load.
    ///
    /// When a holder cannot be called, or is lost while an idempotent call is under way, the next one is tried, without waiting
    /// for the lost one to come back. A call that is not idempotent and may have run waits for its holder, as any call does.
    ///
    /// - Parameter affinity: calls with the same key go to the same holder while it is there, so that its caches stay warm.
    /// - Throws: `RPCError`; `.unavailable` when no connected peer holds it.
    public func call(
        shard need: ShardNeed, _ method: String, _ message: RPCMessage, affinity: String? = nil,
        options: RPCCallOptions = RPCCallOptions()
    ) async throws -> RPCMessage {
        await shardExchange.follow(self)?.value
        let deadline = options.deadline.map { Instant.systemNow() + $0 }
        var tried: [PeerID] = []
        var lastError: RPCError?
        while let peer = shardExchange.choose(need, affinity, excluding: tried) {
            let begin = Instant.systemNow()
            var options = options
            options.deadline = deadline.map { $0 - begin }
            do {
                let reply = try await callOnce(peer, method, message, options: options)
                shardExchange.ended(at: peer, since: begin, isFailure: false)
                return reply
            } catch let error as RPCError {
                let mayMove = error.outcome == .notSent || (options.idempotent && error.code == .unavailable)
                let isFinal = error.code == .deadlineExceeded || error.code == .cancelled
                shardExchange.ended(
                    at: peer, since: begin, isFailure: error.code == .unavailable || mayMove && !isFinal)
                guard mayMove, !isFinal else { throw error }
                lastError = error
                tried.append(peer)
            } catch {
                shardExchange.ended(at: peer, since: begin, isFailure: false)
                throw error
            }
        }
        throw lastError ?? RPCError(.unavailable, "no connected peer holds \(need)", outcome: .notSent)
    }
}
