/// What `martlet doctor` says to people.
enum DoctorText {
    static func lines(of report: DoctorReport) -> [String] {
        // What was asked for comes first.
        var lines = report.peer.map(peer) ?? []
        lines += [report.verdict, ""] + advice(report.reasons, report.remedies, "")
        lines += network(report) + sockets(report) + addresses(report) + forwarding(report) + pinholes(report)
        lines += relays(report)
        while lines.last?.isEmpty == true { lines.removeLast() }
        return lines
    }

    private static func advice(_ reasons: [String], _ remedies: [String], _ indent: String) -> [String] {
        var lines = reasons.map { "\(indent)\($0)" }
        if !remedies.isEmpty { lines += ["\(indent)What helps:"] + remedies.map { "\(indent)- \($0)" } }
        return lines.isEmpty || !indent.isEmpty ? lines : lines + [""]
    }

    /// What lies between this machine and the internet.
    private static func network(_ report: DoctorReport) -> [String] {
        let udp = report.udp
        var lines: [String] = []
        if let address = udp.externalAddress { lines.append("  Seen by peers at \(address)") }
        if let terms = udp.nat.terms { lines.append("  UDP, in the terms of RFC 4787: \(terms)") }
        switch udp.hairpin {
        case "yes":
            lines.append("  Machines of this network reach each other at its address outside, too (hairpinning)")
        case "no":
            lines.append("  Machines of this network do not reach each other at its address outside (no hairpinning)")
        default: break
        }
        switch report.outerNat {
        case "carrier": lines.append("  Behind a provider's NAT")
        case "router": lines.append("  Behind a second router")
        default: break
        }
        return lines.isEmpty ? [] : ["This network:"] + lines + [""]
    }

    /// Sockets of which the same is known are told of together.
    private static func sockets(_ report: DoctorReport) -> [String] {
        var told: [(names: [String], explanation: String, seenAt: [String])] = []
        for socket in report.sockets where socket.hasAddress {
            if let index = told.firstIndex(where: { $0.explanation == socket.explanation }) {
                told[index].names.append(socket.listener)
                told[index].seenAt += socket.seenAt.prefix(3)
            } else {
                told.append(([socket.listener], socket.explanation, Array(socket.seenAt.prefix(3))))
            }
        }
        return told.flatMap { group in
            group.names + ["  \(group.explanation)"] + group.seenAt.map { "  Peers see it at \($0)" } + [""]
        }
    }

    private static func addresses(_ report: DoctorReport) -> [String] {
        guard !report.addresses.isEmpty else { return [] }
        let lines = report.addresses.map { address in
            let asked = address.successes + address.failures
            let verdict =
                switch address.reachability {
                case "public": "reached by strangers"
                case "private" where address.successes > 0: "reached only by peers that this node had sent something to"
                case "private": "not reached"
                default:
                    asked == 0
                        ? "not tried by anybody yet"
                        : "reached by peers that this node had sent something to; whether strangers get in is not known"
                }
            return "  \(address.address)  \(verdict)" + (asked == 0 ? "" : " (\(address.successes) of \(asked) peers)")
        }
        return ["Addresses that peers were asked to dial:"] + lines + [""]
    }

    private static func forwarding(_ report: DoctorReport) -> [String] {
        if report.forwardedPorts.isEmpty {
            guard !report.forwardingFailures.isEmpty else { return [] }
            return ["The router forwards no port:"] + report.forwardingFailures.map { "  \($0)" } + [""]
        }
        let lines = report.forwardedPorts.flatMap { port in
            let place = "\(port.externalAddress ?? "the router") port \(port.externalPort)"
            let time = port.expiresSeconds.map { "renewed in time, now for \(Int($0)) s" } ?? "until it restarts"
            let line = "  \(port.transport.uppercased()) port \(port.port) at \(place), by \(port.method), \(time)"
            guard port.isBehindAnotherNat else { return [line] }
            return [line, "  That is no address of the internet: another NAT lies in front of the router."]
        }
        return ["The router forwards:"] + lines + [""]
    }

    private static func pinholes(_ report: DoctorReport) -> [String] {
        if report.pinholes.isEmpty {
            guard !report.pinholeFailures.isEmpty else { return [] }
            return ["The router was not had to let anything in by IPv6:"] + report.pinholeFailures.map { "  \($0)" } + [
                ""
            ]
        }
        let lines = report.pinholes.map { port in
            let time = port.expiresSeconds.map { "renewed in time, now for \(Int($0)) s" } ?? "until it restarts"
            return
                "  \(port.transport.uppercased()) port \(port.port) of \(port.externalAddress ?? "this machine"), by \(port.method), \(time)"
        }
        return ["The router lets in by IPv6:"] + lines + [""]
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
        if !peer.reasons.isEmpty, peer.error == nil { lines.append("  Why there is no direct connection:") }
        lines += advice(peer.reasons, peer.remedies, "  ")
        for attempt in peer.attempts.suffix(3) {
            let outcome =
                switch attempt.isConnected {
                case true?: "connected"
                case false?: "failed: \(attempt.failure ?? "no reason")"
                case nil: "under way"
                }
            lines.append("  Attempt by \(attempt.method), came as far as \(attempt.stage), \(outcome)")
            lines.append("    sent \(attempt.packetsSent), heard \(attempt.packetsHeard) packets")
            lines += kinds(attempt)
            lines += attempt.localAddresses.map { "    told the peer \($0)" }
            lines += attempt.remoteAddresses.map { address in
                "    the peer told \(address)" + (attempt.triedAddresses.contains(address) ? ", tried" : "")
            }
            lines += attempt.triedAddresses.filter { !attempt.remoteAddresses.contains($0) }.map { "    tried \($0)" }
        }
        return lines + [""]
    }

    private static func kinds(_ attempt: DoctorReport.Attempt) -> [String] {
        [("this side", attempt.localNat), ("the peer", attempt.remoteNat)].compactMap { side, nat in
            nat.terms.map { "    \(side): \($0)" }
        }
    }
}
