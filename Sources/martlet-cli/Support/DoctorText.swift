/// What `martlet doctor` says to people.
enum DoctorText {
    static func lines(of report: DoctorReport) -> [String] {
        var lines = [report.verdict, ""]
        lines += sockets(report) + addresses(report) + forwarding(report) + relays(report)
        if let peer = report.peer { lines += self.peer(peer) }
        while lines.last?.isEmpty == true { lines.removeLast() }
        return lines
    }

    private static func sockets(_ report: DoctorReport) -> [String] {
        report.sockets.flatMap { socket in
            [socket.listener, "  \(socket.explanation)"] + socket.seenAt.prefix(3).map { "  Peers see it at \($0)" } + [
                ""
            ]
        }
    }

    private static func addresses(_ report: DoctorReport) -> [String] {
        guard !report.addresses.isEmpty else { return [] }
        let lines = report.addresses.map { address in
            let verdict =
                switch address.reachability {
                case "public": "reached by strangers"
                case "private": "not reached by strangers"
                default: "not tried by anybody yet"
                }
            return
                "  \(address.address)  \(verdict) (\(address.successes) of \(address.successes + address.failures) peers)"
        }
        return ["Addresses that peers were asked to dial:"] + lines + [""]
    }

    private static func forwarding(_ report: DoctorReport) -> [String] {
        if report.forwardedPorts.isEmpty {
            guard !report.forwardingFailures.isEmpty else { return [] }
            return ["The gateway forwards no port:"] + report.forwardingFailures.map { "  \($0)" } + [""]
        }
        let lines = report.forwardedPorts.flatMap { port in
            let place = "\(port.externalAddress ?? "the gateway") port \(port.externalPort)"
            let time = port.expiresSeconds.map { "renewed in time, now for \(Int($0)) s" } ?? "until it restarts"
            let line = "  \(port.transport.uppercased()) port \(port.port) at \(place), by \(port.method), \(time)"
            guard port.isBehindAnotherNat else { return [line] }
            return [line, "  That is no address of the internet: another NAT lies in front of the gateway."]
        }
        return ["The gateway forwards:"] + lines + [""]
    }

    private static func relays(_ report: DoctorReport) -> [String] {
        guard !report.relays.isEmpty else { return [] }
        let lines = report.relays.map { relay in
            if let seconds = relay.expiresSeconds {
                let roundTrip = relay.rttUs.map { ", \(Text.roundTrip(microseconds: $0)) away" } ?? ""
                return "  \(relay.address)  reserved, renewed in time, now for \(Int(seconds)) s\(roundTrip)"
            }
            return "  \(relay.address)  not reserved: \(relay.lastFailure ?? "asked, no answer yet")"
        }
        return ["Relays:"] + lines + [""]
    }

    private static func peer(_ peer: DoctorReport.Peer) -> [String] {
        var lines = ["The peer \(peer.peer ?? ""):"]
        if let error = peer.error { lines.append("  \(error.message)") }
        lines += peer.paths.map { path in
            let roundTrip = path.rttUs.map { ", \(Text.roundTrip(microseconds: $0))" } ?? ""
            return "  \(path.path) (\(path.transport ?? "-"))\(roundTrip) at \(path.address)"
        }
        for attempt in peer.attempts.suffix(3) {
            let outcome =
                switch attempt.isConnected {
                case true?: "connected"
                case false?: "failed: \(attempt.failure ?? "no reason")"
                case nil: "under way"
                }
            lines.append("  Attempt by \(attempt.method), came as far as \(attempt.stage), \(outcome)")
            lines.append("    sent \(attempt.packetsSent), heard \(attempt.packetsHeard) packets")
            lines += attempt.triedAddresses.map { "    tried \($0)" }
        }
        lines += peer.reasons.map { "  \($0)" }
        if !peer.remedies.isEmpty { lines += ["  What helps:"] + peer.remedies.map { "  - \($0)" } }
        return lines + [""]
    }
}
