import CNgtcp2
import MartletCore

/// Packets of no connection.
extension QUICEndpoint {
    private func answer(_ bytes: [UInt8], to address: QUICAddress) {
        if !answers.append((Bytes(bytes), address)) { droppedCount &+= 1 }
    }

    /// A datagram of up to `limit` bytes, written by `body`, which returns how many.
    private func answer(to address: QUICAddress, limit: Int, _ body: (UnsafeMutablePointer<UInt8>, Int) -> Int) {
        let bytes = [UInt8](unsafeUninitializedCapacity: limit) { room, count in
            count = room.baseAddress.map { body($0, limit) } ?? 0
        }
        if !bytes.isEmpty { answer(bytes, to: address) }
    }

    func negotiateVersion(_ header: mq_header, _ count: Int, _ address: QUICAddress) {
        // Shorter ones could make this side send more than it got (RFC 9000, 6.1).
        guard count >= 1200 else { return }
        let number = UInt8(truncatingIfNeeded: random.next())
        answer(to: address, limit: 256) { room, limit in
            withUnsafePointer(to: header) { mq_write_version_negotiation(room, limit, number, $0) }
        }
    }

    func sendRetry(_ initial: inout mq_initial, _ address: QUICAddress, _ now: Instant) {
        let id = makeID()
        var raw = address.raw
        let secret = group.retrySecret
        withUnsafePointer(to: initial) { initial in
            answer(to: address, limit: 512) { mq_write_retry($0, $1, initial, id, secret, &raw, now.unsigned) }
        }
    }

    /// A stateless reset bears a random id, so every connection with that address may be the one meant.
    func wasReset(_ datagram: UnsafeRawBufferPointer, _ address: QUICAddress, _ now: Instant) -> Bool {
        guard let candidates = byAddress[address] else { return false }
        for connection in candidates.prefix(Self.resetCandidates) {
            connection.receive(datagram, from: address, now: now)
            if connection.isClosed { return true }
        }
        return false
    }

    /// Shows the datagram to the next endpoint of the group that has connections with its address. Returns whether there is one, which
    /// then answers in place of this one.
    func askOthers(
        _ datagram: UnsafeRawBufferPointer, _ address: QUICAddress, _ forwarded: ForwardedDatagram?, _ now: Instant
    ) -> Bool {
        var asked = forwarded?.asked ?? Set64()
        let isFirst = asked == Set64()
        asked.insert(member.index)
        guard let other = group.member(at: address, besides: asked), !isFirst || group.mayAsk(configuration, now: now)
        else { return false }
        forward(datagram, address, to: other, asked: asked)
        return true
    }

    /// Says that the connection of a packet is gone, as often as the limit allows (RFC 9000, 10.3).
    func reset(_ header: mq_header, _ count: Int, _ address: QUICAddress, _ now: Instant) {
        // One byte less than what caused it, so that two that know nothing do not answer each other forever.
        let size = min(count - 1, 43)
        guard size >= 21, group.mayReset(configuration, now: now), let id = header.destination else { return }
        let noise = random.bytes(size - Int(MQ_TOKEN_LENGTH))
        let secret = identity.resetSecret
        answer(to: address, limit: 64) {
            mq_write_stateless_reset($0, $1, secret, id, header.destination_length, noise, noise.count)
        }
    }
}
