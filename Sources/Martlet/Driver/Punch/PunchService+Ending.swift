import Logging
import MartletConnection
import MartletCore
import MartletIdentity
import MartletReachability
import MartletRuntime
import MartletSwarm

// How punches end, and when they are tried again.
extension PunchService {
    func finished(_ punch: ActivePunch, _ outcome: PunchOutcome) {
        guard let report = punch.machine?.report else { return }
        let peer = punch.peer
        driver.logger.info(
            "punched holes",
            metadata: [
                "peer": "\(peer)", "outcome": "\(outcome)", "stage": "\(report.stage.rawValue)",
                "tactic": "\(report.tactic ?? "-")", "attempt": "\(report.attempt)",
                "local": "\(report.localAddresses)", "remote": "\(report.remoteAddresses)",
                "tried": "\(report.triedAddresses)", "nat": "\(report.localNAT)", "remote-nat": "\(report.remoteNAT)",
                "sent": "\(report.packetsSent)", "heard": "\(report.packetsHeard)",
            ])
        end(peer, reporting: true)
        switch outcome {
        case .connected: schedule.remove(peer)
        case .failed:
            doubtMappings()
            // The next attempt of DCUtR follows at once; it measures the round trip anew.
            if report.method == .dcutr, !isInbound(punch), report.stage >= .exchanged,
                report.attempt < limits.maximumAttempts
            {
                beginDCUtR(peer, over: punch.relayed, attempt: report.attempt + 1)
            } else if report.stage == .signalling, report.method == .martlet, punch.isDialer,
                speaksNotOurs(punch.relayed)
            {
                // It does not speak our protocol: its own is its to begin.
                schedule.remove(peer)
            } else {
                schedule.failed(peer, now: home.now)
            }
            plan()
        }
    }

    /// Whether the peer is known to speak other protocols than ours.
    private func speaksNotOurs(_ id: ConnectionID) -> Bool {
        let protocols = protocols(over: id)
        return !protocols.isEmpty && !protocols.contains(Punch.protocolID)
    }

    private func isInbound(_ punch: ActivePunch) -> Bool {
        driver.driver(of: punch.relayed)?.connection.role == (punch.stream.method == .dcutr ? .dialer : .listener)
    }

    func end(_ peer: PeerID, reporting: Bool) {
        guard let punch = active.removeValue(forKey: peer) else { return }
        punch.isOver = true
        punch.timer.cancel()
        punch.stream.finish()
        stopConnecting(punch)
        punch.tcpProbe?.end()
        punch.sockets.close()
        guard reporting, var report = punch.machine?.report else { return }
        report.peer = peer
        report.endedAt = report.endedAt ?? home.now
        report.outcome = report.outcome ?? .failed("another punch took its place")
        report.learned(natKind)
        if reports[peer] == nil {
            reportOrder.append(peer)
            if reportOrder.count > Self.reportedPeers { reports[reportOrder.removeFirst()] = nil }
        }
        reports[peer] = (reports[peer] ?? []).suffix(Self.reportsPerPeer - 1) + [report]
    }

    // MARK: Trying again

    func plan() {
        if let deadline = schedule.deadline { timer?.schedule(at: deadline) } else { timer?.cancel() }
    }

    func timedOut() {
        while let (peer, id) = schedule.nextDue(now: home.now) {
            begin(peer, over: id)
        }
        plan()
    }

    func networkChanged() {
        for key in observers.keys { observers[key]?.networkChanged(localAddresses: localAddresses) }
        startOver()
    }

    /// What failed before may succeed now.
    func startOver() {
        schedule.networkChanged(now: home.now)
        refreshServers()
        plan()
        // Of two nodes the one that dialed through the relay begins: the others learn that there is news.
        for info in driver.engine.swarm.connectionInfos where info.path == .relayed && info.role == .listener {
            guard let connection = driver.driver(of: info.id) else { continue }
            connection.loop.execute { connection.pushIdentify() }
        }
    }

    func refresh() {
        refreshServers()
        planRefresh()
    }

    func planRefresh() {
        guard !servers.isEmpty, isBehindNAT else { return }
        refreshTimer?.schedule(at: home.now + Self.refreshInterval)
    }
}
