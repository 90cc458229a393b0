import MartletConnection
import MartletCore
import MartletReachability
import MartletRuntime
import MartletSwarm

extension PunchService {
    // MARK: What this side says of itself

    /// Where this node may be found and how its NAT behaves, as far as it is known now.
    func description() -> PunchDescription {
        var description = PunchDescription()
        let sockets = driver.quicSockets.filter(\.isListening)
        for socket in sockets { note(observers[ObjectIdentifier(socket)]?.mapped, in: &description.udp) }
        for candidate in driver.engine.observed.candidates() { note(candidate.address, in: &description) }
        for address in driver.engine.announced.addresses where address.isPublic && !address.isCircuit {
            note(address, in: &description)
        }
        let locals = localAddresses.sorted { rank($0) < rank($1) }
        for socket in sockets { noteLocal(socket.address, locals, in: &description.udp) }
        for listener in driver.listeners { noteLocal(listener.boundAddress, locals, in: &description.tcp) }
        description.nat = natKind
        description.isTCPUnsure = isTCPUnsure(besides: description.nat)
        return description
    }

    /// Whether the NAT may give TCP another port towards each peer.
    private func isTCPUnsure(besides udp: NATKind) -> Bool {
        guard let listener = driver.listeners.first(where: { $0.boundAddress.isIP4 && !$0.boundAddress.isLoopback }),
            let address = listener.boundAddress.multiaddr, !localAddresses.contains(where: { $0.isGlobalIPv4 })
        else { return false }
        let tcp = driver.engine.observed.natKind(of: address)
        for kind in [tcp, udp] where kind.mapping != .unknown { return kind.mapping.isDependent }
        return tcp.allocation != .preserving && udp.allocation != .preserving
    }

    /// What is told to peers that speak DCUtR only: nothing of our own network.
    func publicAddresses() -> [Multiaddr] {
        let description = description()
        return description.udp.filter { isTold($0) }.map(\.quicMultiaddr)
            + description.tcp.filter { isTold($0) }.map(\.tcpMultiaddr)
    }

    private func isTold(_ address: TransportAddress) -> Bool {
        address.isPublic || limits.takesLoopback && address.ip.scope == .loopback
    }

    private func note(_ address: TransportAddress?, in list: inout [TransportAddress]) {
        if let address, !list.contains(address) { list.append(address) }
    }

    private func note(_ address: Multiaddr, in description: inout PunchDescription) {
        note(TransportAddress(quic: address), in: &description.udp)
        note(TransportAddress(tcp: address), in: &description.tcp)
    }

    private func noteLocal(_ bound: SocketAddress, _ locals: [IPAddress], in list: inout [TransportAddress]) {
        guard let ip = bound.ipAddress else { return }
        guard bound.isUnspecified else { return note(TransportAddress(ip, port: bound.port), in: &list) }
        for local in locals where local.isSameVersion(as: ip) {
            note(TransportAddress(local, port: bound.port), in: &list)
        }
    }

    /// Public addresses before those of the local network; others are of no use to anybody.
    private func rank(_ ip: IPAddress) -> Int { ip.scope == .global ? 0 : 1 }

    var localAddresses: [IPAddress] {
        NetworkInterfaces.addresses().compactMap { $0.ipAddress?.unmapped }.filter {
            $0.scope == .global || $0.scope == .privateNetwork || limits.takesLoopback && $0.scope == .loopback
        }
    }

    /// What is known of the NAT in front of the IPv4 socket, by whatever way.
    var natKind: NATKind {
        guard let socket = driver.quicSockets.first(where: { $0.isListening && $0.address.isIP4 }) else {
            return NATKind()
        }
        var kind = observers[ObjectIdentifier(socket)]?.natKind ?? NATKind()
        guard let listener = socket.address.quicMultiaddr else { return kind }
        let told = driver.reachability.natKind(of: listener)
        if kind.mapping == .unknown || told.mapping.isDependent { kind.mapping = told.mapping }
        if kind.allocation == .unknown { kind.allocation = told.allocation }
        if kind.filtering == .unknown { kind.filtering = told.filtering }
        return kind
    }

    // MARK: Peers on the internet

    /// A peer whose TCP address is known: it can say where it sees this node's TCP port.
    func noteTCPServer(_ id: ConnectionID, at remote: Multiaddr, _ listening: [Multiaddr]) {
        guard let ip = remote.ipAddress?.unmapped, ip.scope == .global || limits.takesLoopback,
            tcpServers.count < Self.serverLimit, !tcpServers.contains(where: { $0.connection == id }),
            let address = listening.lazy.compactMap({ TransportAddress(tcp: $0) }).first(where: { $0.ip == ip })
        else { return }
        tcpServers.append((id, address))
    }

    /// A peer that answers STUN, being a Martlet node: at the address of the connection, or at that of the same host for QUIC.
    func noteServer(at remote: Multiaddr, _ listening: [Multiaddr]) {
        guard let ip = remote.ipAddress?.unmapped else { return }
        let found =
            TransportAddress(quic: remote)
            ?? listening.lazy.compactMap { TransportAddress(quic: $0) }.first { $0.ip == ip }
        guard let found, found.ip.scope == .global || limits.takesLoopback, !servers.contains(found) else { return }
        guard servers.count < Self.serverLimit else { return }
        servers.append(found)
        refreshServers()
        planRefresh()
    }

    /// Asks all servers how they see the sockets.
    func refreshServers() {
        for socket in driver.quicSockets where socket.isListening {
            let key = ObjectIdentifier(socket)
            let these = servers.filter { mainSocket(for: $0.ip) === socket }
            guard !these.isEmpty else { continue }
            if observers[key] == nil {
                observers[key] = MappingObserver(port: socket.address.port, localAddresses: localAddresses)
            }
            observers[key]?.ask(these, random: &random, now: home.now)
        }
        flushObservers()
    }

    func flushObservers() {
        var deadline: Instant?
        for socket in driver.quicSockets where socket.isListening {
            let key = ObjectIdentifier(socket)
            observers[key]?.handleTimeout(now: home.now)
            var packets: [(bytes: [UInt8], to: TransportAddress)] = []
            while let order = observers[key]?.nextOrder() { packets.append(order) }
            send(packets)
            if let next = observers[key]?.deadline { deadline = min(deadline ?? next, next) }
        }
        if let deadline { observerTimer.schedule(at: deadline) } else { observerTimer.cancel() }
    }

    /// Whether answers are awaited that a punch would better know.
    var isLearning: Bool { observers.values.contains(where: \.isLearning) }

    /// A direct path was lost, or could not be had: the NAT may have forgotten its mappings, or have another address.
    func doubtMappings() {
        for key in observers.keys { observers[key]?.doubt(now: home.now) }
    }

    /// A server answered: it may see this node at another address than before.
    func noteAnswer(_ socket: QUICSocket, from server: IPAddress) {
        guard let seen = observers[ObjectIdentifier(socket)]?.mapped?.ip, let listener = socket.address.quicMultiaddr
        else { return }
        driver.reachability.noteExternalAddress(seen, by: server, at: listener)
    }

    /// The NAT in front of this machine has another address than this.
    func externalAddressLost(_ ip: IPAddress) {
        for key in observers.keys { observers[key]?.addressLost(ip) }
        startOver()
    }

    var isBehindNAT: Bool { observers.values.contains { $0.natKind.mapping != .none } }

    /// Servers that have answered.
    var answeringServers: [TransportAddress] {
        driver.quicSockets.filter(\.isListening).flatMap { observers[ObjectIdentifier($0)]?.servers ?? [] }
    }
}

extension IPAddress {
    fileprivate var isGlobalIPv4: Bool { if case .v4 = self { scope == .global } else { false } }

    fileprivate func isSameVersion(as other: IPAddress) -> Bool {
        switch (self, other) {
        case (.v4, .v4), (.v6, .v6): true
        case (.v4, .v6), (.v6, .v4): false
        }
    }
}
