import MartletCore
import MartletIdentity
import MartletSwarm

extension PeerID {
    init(_ peer: CircuitPeerProtobuf?, in field: String) throws(DecodingError) {
        guard let peer, peer.hasID else { throw .invalid(field: field, reason: "names no peer") }
        // Checked before it is copied: an id has 44 bytes at most.
        guard peer.id.count <= PeerID.maximumByteCount else {
            throw .tooLong(field: "peer id", length: UInt64(peer.id.count), limit: PeerID.maximumByteCount)
        }
        try self.init(bytes: Array(peer.id))
    }
}

extension CircuitPeerProtobuf {
    init(_ peer: PeerID) {
        self.init()
        id = protobufData(peer.bytes)
    }
}

extension CircuitReservationProtobuf {
    init(_ reservation: CircuitReservation) {
        self.init()
        expire = reservation.expiration
        addrs = reservation.addresses.prefix(Circuit.addressLimit).map { protobufData($0.bytes) }
        if let voucher = reservation.voucher { self.voucher = protobufData(voucher) }
    }
}

extension CircuitLimitProtobuf {
    /// Zero stands for no limit, and longer times and sizes than fit are cut to what does.
    init(_ limit: ConnectionLimit) {
        self.init()
        duration = limit.duration.map { UInt32(clamping: max(1, $0.components.seconds)) } ?? 0
        data = limit.byteCount ?? 0
    }
}

extension ConnectionLimit {
    init(_ limit: CircuitLimitProtobuf) {
        self.init(
            duration: limit.duration > 0 ? .seconds(Int64(limit.duration)) : nil,
            byteCount: limit.data > 0 ? limit.data : nil)
    }
}
