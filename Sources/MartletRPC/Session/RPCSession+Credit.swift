import MartletCore

/// What a call may send and what a session may hold: the flow control of calls (docs/protocols/rpc.md).
extension RPCSession {
    /// Counts what was received against what was granted. False when the call or the session is over with it.
    func charge(_ call: RPCCall, _ count: Int) -> Bool {
        guard count <= call.outstanding else {
            violated("more was sent on a call than was granted")
            return false
        }
        call.outstanding -= count
        call.buffered += count
        adjust(call)
        guard usage <= limits.bufferedBytesPerSession else {
            overflow(call, "the limit on buffered bytes per session (\(limits.bufferedBytesPerSession)) is reached")
            return false
        }
        return true
    }

    /// What a call holds counts against the session's limit; of a call that was granted more than its first window, all
    /// that it may come to hold does, so that it never lacks room for what it was granted.
    private func adjust(_ call: RPCCall) {
        let held = call.buffered + call.outstanding
        let isExtended = held > RPCWire.initialCredit
        let counted = isExtended ? held : call.buffered
        usage += counted - call.usage
        granted += (isExtended ? counted : 0) - (call.isExtended ? call.usage : 0)
        call.usage = counted
        call.isExtended = isExtended
    }

    /// Whether the session can spare `count` more for a call. Calls beyond their first window have half of what there is,
    /// so that the other half is left for the first windows; one alone may have more.
    private func canGrant(_ call: RPCCall, _ count: Int) -> Bool {
        let held = call.buffered + call.outstanding + count
        guard held > RPCWire.initialCredit else { return true }
        let others = granted - (call.isExtended ? call.usage : 0)
        return usage - call.usage + held <= limits.bufferedBytesPerSession
            && (others == 0 || others + held <= limits.bufferedBytesPerSession / 2)
    }

    /// Lets the peer send `count` more, now or as soon as the session can spare it.
    func grant(_ call: RPCCall, _ count: Int) {
        guard canGrant(call, count) else {
            if call.starvedFor == 0 { starved.append(call) }
            call.starvedFor = max(call.starvedFor, count)
            return
        }
        call.outstanding += count
        adjust(call)
        call.pendingCredit += count
        lane(call.lane).makeUrgent(call)
    }

    private func feedStarved() {
        while let call = starved.first {
            guard !call.isOver, !call.ignoresInput else {
                starved.removeFirst()
                continue
            }
            guard canGrant(call, call.starvedFor) else { return }
            starved.removeFirst()
            let count = call.starvedFor
            call.starvedFor = 0
            grant(call, count)
        }
    }

    /// A message was taken from a stream: its room is granted again, in portions of half a window.
    func taken(_ message: RPCMessage, from call: RPCCall, now: Instant) {
        call.buffered = max(0, call.buffered - message.byteCount - RPCWire.messageCharge)
        adjust(call)
        if !starved.isEmpty { feedStarved() }
        guard failure == nil, !call.isOver, !call.isRemoteEnded, !call.ignoresInput, call.starvedFor == 0 else {
            return
        }
        var room = call.window - call.outstanding - call.buffered
        guard room >= call.window / 2 else { return }
        // A reader that empties half a window in so short a time is held up by the window.
        let larger = min(call.window * 2, limits.callWindow)
        if let last = call.grantedAt, now - last < .milliseconds(100), larger > call.window,
            canGrant(call, room + larger - call.window)
        {
            room += larger - call.window
            call.window = larger
        }
        call.grantedAt = now
        if !canGrant(call, room) { room = RPCWire.initialCredit - call.buffered - call.outstanding }
        if room > 0 { grant(call, room) }
    }

    /// The peer sends nothing more on a call: what it might have sent is free for others.
    func closeWindow(of call: RPCCall) {
        call.outstanding = 0
        call.pendingCredit = 0
        adjust(call)
        if !starved.isEmpty { feedStarved() }
    }

    /// Nothing is kept of a call any more.
    func release(_ call: RPCCall) {
        guard call.usage > 0 || call.outstanding > 0 else { return }
        call.buffered = 0
        closeWindow(of: call)
    }

    /// The peer lets us send more.
    func granted(_ call: RPCCall, _ count: Int, _ lane: RPCLane) {
        call.credit = min(call.credit + count, 1 << 40)
        lane.makeReady(call)
    }
}
