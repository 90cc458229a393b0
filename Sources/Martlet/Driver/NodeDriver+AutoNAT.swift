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

    /// Asks all peers whether they are still there, so that what is lost is noticed soon.
    func probeConnections() {
        for info in engine.swarm.connectionInfos {
            guard let driver = driver(of: info.id) else { continue }
            driver.loop.execute { driver.connection.probe(now: driver.loop.now) }
        }
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
            let remote = driver.connection.remoteAddress
            let isOutbound = driver.connection.role == .dialer
            engine.observed.observed(
                address, at: listener, by: remote, over: id, isOutbound: isOutbound, now: home.now)
            if isOutbound, !remote.isCircuit, let seen = address.ipAddress, let host = remote.ipAddress {
                reachability.noteExternalAddress(seen, by: host, at: listener)
            }
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
