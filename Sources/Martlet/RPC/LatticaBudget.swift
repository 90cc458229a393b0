import MartletIdentity
import MartletRPC
import Synchronization

/// The bytes of arguments that peers have waiting here, for each and together.
final class LatticaBudget: Sendable {
    private struct State {
        var total = 0
        var byPeer: [PeerID: Int] = [:]
    }

    private let state = Mutex(State())

    /// What one stream has waiting. It is given back with the last reference.
    final class Reservation: Sendable {
        private let budget: LatticaBudget
        private let peer: PeerID
        private let held = Mutex(0)

        init(_ budget: LatticaBudget, _ peer: PeerID) {
            self.budget = budget
            self.peer = peer
        }

        deinit { budget.change(peer, by: -held.withLock { $0 }) }

        /// Says how much the stream has now. More than before only if the limits allow it.
        ///
        /// - Returns: the limit that stands in the way, with its value; nil when it is done.
        func set(_ byteCount: Int, _ limits: LatticaLimits) -> String? {
            held.withLock { held in
                let refusal = budget.change(peer, by: byteCount - held, limits)
                if refusal == nil { held = byteCount }
                return refusal
            }
        }
    }

    func reservation(for peer: PeerID) -> Reservation { Reservation(self, peer) }

    @discardableResult
    private func change(_ peer: PeerID, by count: Int, _ limits: LatticaLimits? = nil) -> String? {
        state.withLock { state in
            let total = state.total + count
            let ofPeer = (state.byPeer[peer] ?? 0) + count
            if let limits, count > 0 {
                if total > limits.bufferedBytes { return "bufferedBytes, which is \(limits.bufferedBytes), is reached" }
                if ofPeer > limits.bufferedBytesPerPeer {
                    return "bufferedBytesPerPeer, which is \(limits.bufferedBytesPerPeer), is reached"
                }
            }
            state.total = total
            state.byPeer[peer] = ofPeer == 0 ? nil : ofPeer
            return nil
        }
    }
}
