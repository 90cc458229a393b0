/// Bytes that the kernel keeps for a socket in each direction. It may grant less than was asked for.
public struct KernelBuffers: Hashable, Sendable {
    public var send: Int
    public var receive: Int

    public init(send: Int, receive: Int) {
        self.send = send
        self.receive = receive
    }
}
