public import MartletConnection
import MartletCore

extension PeerConnection {
    // MARK: Opening

    /// Opens a stream and proposes `protocols`, the preferred first. The handler hears `streamOpened` when the peer agrees.
    ///
    /// With a single protocol that the peer is known to speak, data may be sent at once and travels with the proposal.
    ///
    /// - Parameter isHopeful: sends data at once although it is not known yet whether the peer speaks the only protocol.
    /// - Throws: when the connection is closed or as many streams are open as the peer allows.
    @discardableResult
    public func openStream(
        _ protocols: [String], isHopeful: Bool = false, handler: any StreamHandler
    ) throws(StreamOpenError) -> PeerStream {
        let id = try muxer.openStream(now: now)
        var dialer = MultistreamDialer(proposals: protocols)
        let opening = dialer.takeOutput()
        let stream = PeerStream(
            id: id, isOutbound: true, connection: self, negotiation: .proposing(dialer, proposals: protocols))
        stream.handler = handler
        streams[id] = stream
        muxer.send(Bytes(opening), on: id)
        startDeadline(of: stream)
        if protocols.count == 1, isHopeful || remoteProtocols?.contains(protocols[0]) == true {
            stream.protocolID = protocols[0]
            stream.isOpenedEarly = true
            noteUsage()
            handler.streamOpened(stream)
        }
        markActive()
        return stream
    }

    func accept(_ id: StreamID) {
        let stream = PeerStream(
            id: id, isOutbound: false, connection: self, negotiation: .answering(MultistreamListener()))
        streams[id] = stream
        startDeadline(of: stream)
    }

    // MARK: Receiving

    func received(_ bytes: Bytes, on id: StreamID) {
        guard let stream = streams[id] else { return muxer.consumed(bytes.count, on: id, now: now) }
        if case .agreed = stream.negotiation {
            stream.handler?.streamReceived(bytes, on: stream)
            return
        }
        var rest = bytes
        negotiate(stream, &rest)
        // Negotiation consumed what it took; the handler accounts for what is left.
        let taken = bytes.count - rest.count
        if stream.isOpen, taken > 0 { muxer.consumed(taken, on: id, now: now) }
        if stream.isOpen, !rest.isEmpty { stream.handler?.streamReceived(rest, on: stream) }
    }

    private func negotiate(_ stream: PeerStream, _ bytes: inout Bytes) {
        do {
            switch stream.negotiation {
            case .proposing(var dialer, let proposals):
                let progress = try dialer.receive(bytes.span)
                bytes.removeFirst(progress.consumed)
                let output = dialer.takeOutput()
                stream.negotiation = .proposing(dialer, proposals: proposals)
                if !output.isEmpty { muxer.send(Bytes(output), on: stream.id) }
                if let protocolID = progress.agreed { agreed(stream, protocolID) }
            case .answering(var listener):
                let table = local.protocols
                let progress = try listener.receive(bytes.span) { table.entry(for: $0) != nil }
                bytes.removeFirst(progress.consumed)
                let output = listener.takeOutput()
                stream.negotiation = .answering(listener)
                if !output.isEmpty { muxer.send(Bytes(output), on: stream.id) }
                if let protocolID = progress.agreed { serve(stream, protocolID) }
            case .agreed: break
            }
        } catch {
            let reason: StreamCloseReason =
                if case .refused(let proposals) = error { .protocolNotSupported(proposals) } else {
                    .protocolViolation("\(error)")
                }
            close(stream, reason: reason, resettingPeer: true)
        }
    }

    private func agreed(_ stream: PeerStream, _ protocolID: String) {
        stream.negotiation = .agreed
        if !stream.isOpenedEarly {
            stream.deadline = nil
            stream.protocolID = protocolID
            noteUsage()
            stream.handler?.streamOpened(stream)
        } else if !stream.isDeadlineOfHandler {
            stream.deadline = nil
        }
    }

    private func serve(_ stream: PeerStream, _ protocolID: String) {
        guard let entry = local.protocols.entry(for: protocolID) else {
            return close(stream, reason: .resetLocally, resettingPeer: true)
        }
        let count = inboundCounts[protocolID] ?? 0
        guard count < entry.streamLimit else {
            return close(
                stream, reason: .protocolViolation("more than \(entry.streamLimit) streams of \(protocolID)"),
                resettingPeer: true)
        }
        inboundCounts[protocolID] = count + 1
        stream.inboundSlot = protocolID
        stream.negotiation = .agreed
        stream.deadline = nil
        stream.protocolID = protocolID
        let handler = entry.makeHandler(self)
        stream.handler = handler
        noteUsage()
        handler.streamOpened(stream)
    }

    func remoteFinished(_ id: StreamID) {
        guard let stream = streams[id] else { return }
        switch stream.negotiation {
        case .agreed:
            stream.markRemoteFinished()
            stream.handler?.streamRemoteFinished(stream)
        case .proposing(_, let proposals):
            close(stream, reason: .protocolNotSupported(proposals), resettingPeer: true)
        case .answering:
            close(stream, reason: .finished, resettingPeer: true)
        }
    }

    func writable(_ id: StreamID) {
        guard let stream = streams[id] else { return }
        stream.handler?.streamWritable(stream)
    }

    // MARK: Closing

    /// The muxer says that the stream is over.
    func ended(_ id: StreamID, _ reason: StreamCloseReason) {
        guard let stream = streams[id] else { return }
        close(stream, reason: reason, resettingPeer: false)
    }

    func close(_ stream: PeerStream, reason: StreamCloseReason, resettingPeer: Bool) {
        guard streams.removeValue(forKey: stream.id) != nil else { return }
        if resettingPeer {
            muxer.reset(stream.id)
            markActive()
        }
        if let slot = stream.inboundSlot {
            let left = (inboundCounts[slot] ?? 1) - 1
            inboundCounts[slot] = left > 0 ? left : nil
        }
        let handler = stream.handler
        stream.handler = nil
        handler?.streamClosed(stream, reason: reason)
        stream.connection = nil
        noteUsage()
        closeIfRetired()
    }

    // MARK: Time

    func startDeadline(of stream: PeerStream) {
        let deadline = now + settings.streamTimeout
        stream.deadline = deadline
        // All streams have the same time-out, so the queue is in order of time.
        deadlines.append((deadline, stream.id))
        if deadlines.count > 64 + 4 * streams.count {
            deadlines.removeAll { [streams] in streams[$0.1]?.deadline != $0.0 }
        }
        markActive()
    }

    func expireStreams() {
        while let (deadline, id) = deadlines.first, deadline <= now {
            deadlines.removeFirst()
            guard let stream = streams[id], stream.deadline == deadline else { continue }
            close(stream, reason: .negotiationTimedOut, resettingPeer: true)
        }
    }

    // MARK: Usage

    /// Reports when the application begins or ceases to use the connection.
    func noteUsage() {
        let isBusy = self.isBusy
        guard isBusy != wasBusy else { return }
        wasBusy = isBusy
        if restingKeepAlive != nil { applyKeepAlive() }
        report(.usage(isBusy: isBusy))
    }

    func applyKeepAlive() {
        muxer.setKeepAlive(isBusy ? nil : restingKeepAlive, now: now)
        markActive()
    }
}
