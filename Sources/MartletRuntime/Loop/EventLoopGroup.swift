import MartletCore
import Synchronization

/// The loops of a node. Connections are spread over them, so that a node uses the cores it is given.
///
///     let group = try EventLoopGroup(loopCount: 2)
///     defer { await group.shutdown() }
public final class EventLoopGroup: Sendable {
    /// Bytes of one receive block and of one transmit block.
    public static let receiveBlockSize = 256 * 1024
    public static let transmitBlockSize = 272 * 1024

    public let loops: [EventLoop]
    private let turn = Atomic<Int>(0)

    /// Starts `loopCount` loops with their threads.
    ///
    /// - Throws: when the system has no descriptors or threads left.
    public init(
        loopCount: Int, name: String = "martlet", configuration: EventLoop.Configuration = .init()
    ) throws(SocketError) {
        precondition(loopCount > 0, "a group of \(loopCount) loops")
        let receivePool = BufferPool(blockSize: Self.receiveBlockSize, idleLimit: 4 * loopCount)
        let transmitPool = BufferPool(blockSize: Self.transmitBlockSize, idleLimit: 2 * loopCount)
        var loops: [EventLoop] = []
        for index in 0..<loopCount {
            do {
                loops.append(
                    try EventLoop(
                        name: "\(name)-\(index)", configuration: configuration, receivePool: receivePool,
                        transmitPool: transmitPool))
            } catch {
                for loop in loops { loop.beginShutdown() }
                throw error
            }
        }
        self.loops = loops
    }

    deinit {
        for loop in loops { loop.beginShutdown() }
    }

    /// The loops in turn.
    public func next() -> EventLoop { loops[nextIndex()] }

    /// All loops, beginning with the next in turn.
    public func inTurn() -> [EventLoop] {
        let first = nextIndex()
        return Array(loops[first...] + loops[..<first])
    }

    private func nextIndex() -> Int {
        let (index, _) = turn.add(1, ordering: .relaxed)
        return Int(UInt(bitPattern: index) % UInt(loops.count))
    }

    /// Closes every socket, listener, timer and look-up of all loops and waits until their threads are gone.
    ///
    /// Sockets tell their delegates `ESHUTDOWN`. Tasks go on; those that still belong to a loop run on the global executor
    /// from then on. A task that blocks its thread for ever keeps this from returning.
    public func shutdown() async {
        for loop in loops { loop.beginShutdown() }
        for loop in loops { await loop.waitUntilEnded() }
    }
}
