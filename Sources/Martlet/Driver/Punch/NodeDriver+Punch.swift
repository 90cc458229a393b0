import MartletConnection
import MartletCore
import MartletIdentity
import MartletReachability
import MartletRuntime
import MartletSwarm

extension NodeDriver {
    /// Begins to better relayed connections.
    func startPunching(_ limits: PunchLimits) {
        let service = PunchService(driver: self, limits: limits)
        punches = service
        service.start()
    }

    /// The listening TCP address of a kind that reaches `remote`: connections made from it show the listener's port outside.
    func listeningAddress(for remote: SocketAddress) -> SocketAddress? {
        listeners.map(\.boundAddress).first {
            !$0.isUnix && $0.isIP4 == remote.isIP4 && ($0.isUnspecified || $0.isLoopback == remote.isLoopback)
        }
    }

    /// Where TCP is dialed from: the listening port, so that a NAT has one mapping for both directions. Only towards the
    /// internet; nearer, two nodes that dial each other at once would get one connection without a listener.
    func dialingAddress(for remote: SocketAddress) -> SocketAddress? {
        guard remote.ipAddress?.scope == .global else { return nil }
        return listeningAddress(for: remote)
    }

    /// Gives up dials of an address that a punch is about to connect to from the same port. They would keep the pair of ports
    /// from it; and a SYN of theirs that comes through when the punch is over has the peer's listener answer, which
    /// the peer's NAT takes for an error: to it the peer is still the one that began. It then refuses both sides for minutes.
    func giveUpDials(of address: SocketAddress) {
        let these = dialing.filter { ($0.value as? DialAttempt)?.remote == address }
        for id in these.keys.sorted() { close(id, "a punch goes to the same address") }
    }

    /// Both sides connected to each other by TCP.
    func punchedTCP(_ socket: StreamSocket, isClient: Bool, expecting peer: PeerID) {
        // Used on its loop alone.
        nonisolated(unsafe) let socket = socket
        let address = socket.remoteAddress.multiaddr
        let listener = socket.localAddress.multiaddr
        guard let address, let id = try? punchedID(at: address, isClient: isClient) else {
            socket.loop.execute { socket.close() }
            return
        }
        socket.loop.execute { [self] in
            run(id, isClient ? .dialer : .listener, address, expecting: peer, socket, listener)
        }
    }

    private func punchedID(at address: Multiaddr, isClient: Bool) throws -> ConnectionID? {
        guard !isStopped else { return nil }
        return isClient
            ? try engine.swarm.punching(to: address, now: home.now)
            : try engine.swarm.accepted(from: address, now: home.now)
    }
}
