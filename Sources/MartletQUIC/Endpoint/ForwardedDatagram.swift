import CNgtcp2
public import MartletCore

/// A datagram that came to one endpoint of a group and is for another.
public struct ForwardedDatagram: Sendable {
    /// Longer ones are dropped: no peer sends them, unless it means harm.
    static let maximumByteCount = Int(MQ_MAXIMUM_DATAGRAM)

    public let bytes: Bytes
    public let from: QUICAddress
    /// The index of the endpoint that is to have it.
    public let member: Int
    /// Who has looked already whether it resets a connection.
    let asked: Set64

    init(_ datagram: UnsafeRawBufferPointer, from: QUICAddress, to member: Int, asked: Set64 = Set64()) {
        bytes = Bytes(copying: datagram)
        self.from = from
        self.member = member
        self.asked = asked
    }
}

/// Numbers from 0 to 63.
struct Set64: Hashable, Sendable {
    private var bits: UInt64 = 0

    func contains(_ number: Int) -> Bool { bits & 1 << UInt64(number) != 0 }
    mutating func insert(_ number: Int) { bits |= 1 << UInt64(number) }
}
