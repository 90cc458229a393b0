public import MartletCore

extension YamuxSession {
    /// How many round trips half a window may last before it counts as too small.
    private static let growthRoundTrips: Int64 = 2
    /// The round trip assumed at least. Within one machine the true one is shorter than the time that the two loops
    /// take over a turn, and a window sized by it would make the sender wait. One much larger than needed makes everybody
    /// else on the connection wait: what a window holds is in front of every message sent after it.
    private static let shortestRoundTrip: Int64 = 100_000

    /// The application has taken `count` bytes: from half a window on, the peer is granted as many again.
    ///
    /// A window of which half was taken within two round trips limits the flow, and doubles: per stream up to
    /// `maximumStreamWindow`, per connection up to `maximumConnectionWindow`, per node as the budget allows.
    public func consumed(_ count: Int, on id: StreamID, now: Instant) {
        guard count > 0, !hasEnded, let stream = stream(id) else { return }
        stream.unconsumed = max(0, stream.unconsumed - count)
        // Taking a stream's bytes is taking the stream: it is acknowledged even if nothing is ever sent on it.
        if stream.mustSendACK { notices.append(stream) }
        guard !stream.hasReceivedFIN, stream.grantable >= stream.windowLimit / 2 else { return }
        if !stream.mustSendWindow {
            growWindow(of: stream, now: now)
            stream.epoch = now
            stream.mustSendWindow = true
        }
        notices.append(stream)
    }

    private func growWindow(of stream: YamuxStream, now: Instant) {
        // By the path's own round trip: one that is long because of full windows must not make them longer still.
        guard let roundTrip = liveness.pathRoundTrip, let epoch = stream.epoch,
            (now - epoch).nanoseconds < Self.growthRoundTrips * max(roundTrip, Self.shortestRoundTrip)
        else { return }
        let limit = min(stream.windowLimit * 2, configuration.maximumStreamWindow, stream.windowCeiling)
        let growth = limit - stream.windowLimit
        guard growth > 0, windowTotal + growth <= configuration.maximumConnectionWindow,
            budget?.reserve(growth) ?? true
        else { return }
        stream.windowLimit = limit
        windowTotal += growth
    }
}
