import MartletConnection
import MartletCore
import MartletIdentity
import MartletReachability
import MartletRuntime
import MartletSwarm

/// A dial through a relay: first the relay is connected to, then it is asked for the peer. Confined to the home loop, except
/// for the stream.
final class CircuitDial: PendingDial, @unchecked Sendable {
    let relay: PeerID
    let peer: PeerID
    private(set) var isCancelled = false
    /// Gives up waiting for the connection to the relay.
    var cancelRequest: (() -> Void)?
    private var carrier: ConnectionDriver?
    /// Confined to the carrier's loop.
    private var stream: PeerStream?
    private var isStreamCancelled = false

    init(relay: PeerID, peer: PeerID) {
        self.relay = relay
        self.peer = peer
    }

    func cancel() {
        isCancelled = true
        cancelRequest?()
        cancelRequest = nil
        carrier?.loop.execute { [self] in
            isStreamCancelled = true
            stream?.reset()
            stream = nil
        }
    }

    /// Asks the relay, over the connection of `carrier`, for the peer.
    ///
    /// - Parameter completion: called on the carrier's loop, once, unless the dial is cancelled before.
    func ask(_ carrier: ConnectionDriver, completion: @escaping @Sendable (sending CircuitConnector.Outcome) -> Void) {
        cancelRequest = nil
        self.carrier = carrier
        carrier.loop.execute { [self] in
            guard !isStreamCancelled else { return }
            let connector = CircuitConnector(to: peer) { [self] outcome in
                stream = nil
                guard !isStreamCancelled else { return }
                // It stays on this loop, where it was made.
                nonisolated(unsafe) let outcome = outcome
                completion(outcome)
            }
            do throws(StreamOpenError) {
                // A relay is asked at once, without a round trip to find out whether it is one.
                stream = try carrier.openStream([Circuit.hopProtocolID], isHopeful: true, handler: connector)
            } catch {
                completion(.failed(.noStream(error)))
            }
        }
    }
}
