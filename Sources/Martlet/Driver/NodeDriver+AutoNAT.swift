import Logging
import MartletConnection
import MartletCore
import MartletReachability
import MartletRuntime
import MartletSwarm

extension NodeDriver {
    /// The listening sockets as they are bound, by which observed addresses name them.
    var boundListeners: [Multiaddr] {
        listeners.compactMap(\.boundAddress.multiaddr)
            + quicSockets.filter(\.isListening).compactMap(\.address.quicMultiaddr)
    }

    /// Looks at which addresses this machine has now. Returns whether they are others than before.
    @discardableResult
    func noteLocalAddresses() -> Bool {
        let addresses = Set(NetworkInterfaces.addresses().compactMap { $0.ipAddress?.unmapped })
        let old = engine.observed.localAddresses
        guard addresses != old else { return false }
        guard !old.isEmpty else {
            engine.observed.localAddresses = addresses
            return false
        }
        engine.observed.networkChanged(localAddresses: addresses)
        probeRelays()
        return true
    }

    /// Takes in what a peer says of where it sees us, or that it is gone.
    func noteObserved(_ id: ConnectionID, _ event: PeerConnectionEvent) {
        switch event {
        case .identified(let info, _):
            // Servers of AutoNAT show themselves here.
            reachability.changed()
            guard let address = info.observedAddress, let driver = driver(of: id), let listener = driver.listener else {
                return
            }
            engine.observed.observed(
                address, at: listener, by: driver.connection.remoteAddress, over: id,
                isOutbound: driver.connection.role == .dialer, now: home.now)
        case .closed:
            engine.observed.connectionClosed(id, now: home.now)
            reachability.changed()
        case .established, .identifyFailed, .roundTrip, .usage: break
        }
    }

    func tellReachability(_ addresses: [AddressReachability]) {
        for known in addresses {
            logger.info(
                "reachability",
                metadata: [
                    "address": "\(known.address)", "origin": "\(known.origin.rawValue)",
                    "is": "\(known.reachability.rawValue)",
                ])
        }
        events.send(.reachabilityChanged(addresses))
    }
}
