import CNgtcp2

/// Datagrams that lie one behind the other and go to the same place: all of one size but the last, which may be shorter.
public struct DatagramBatch: Hashable, Sendable {
    /// Bytes of room for a batch of up to 64 KiB.
    public static let room = Int(MQ_BATCH_ROOM)

    public var byteCount: Int
    /// The size of every datagram but the last.
    public var datagramSize: Int
    public var destination: QUICAddress

    public init(byteCount: Int, datagramSize: Int, destination: QUICAddress) {
        self.byteCount = byteCount
        self.datagramSize = datagramSize
        self.destination = destination
    }
}
