import Glibc
import MartletCore
import Testing

@testable import MartletRuntime

final class TestReceiver: DatagramSocketDelegate, @unchecked Sendable {
    let loop: EventLoop
    var received: [([UInt8], SocketAddress)] = []
    var batchCount = 0
    var hasRoomCount = 0
    var closed: SocketError??
    private var waiters: [((TestReceiver) -> Bool, CheckedContinuation<Void, Never>)] = []

    init(_ loop: EventLoop) { self.loop = loop }

    func wait(_ condition: @escaping @Sendable (TestReceiver) -> Bool) async {
        await withCheckedContinuation { continuation in
            loop.execute {
                if condition(self) { continuation.resume() } else { self.waiters.append((condition, continuation)) }
            }
        }
    }

    func datagramReceived(_ region: ReceivedRegion, from address: SocketAddress) {
        received.append((region.slice(0..<region.count).array, address))
    }

    func datagramBatchEnded() {
        batchCount += 1
        changed()
    }

    func datagramQueueHasRoom() {
        hasRoomCount += 1
        changed()
    }

    func datagramSocketClosed(_ error: SocketError?) {
        closed = .some(error)
        changed()
    }

    private func changed() {
        let due = waiters.filter { $0.0(self) }
        waiters.removeAll { $0.0(self) }
        for (_, waiter) in due { waiter.resume() }
    }
}

@Suite struct DatagramSocketTests {
    private func open(
        _ loop: EventLoop, _ address: SocketAddress = .loopback(port: 0), options: DatagramOptions = .init()
    ) async throws -> (Confined<DatagramSocket>, TestReceiver) {
        try await loop.perform {
            let socket = try DatagramSocket.bind(loop: loop, address: address, options: options)
            let receiver = TestReceiver(loop)
            socket.delegate = receiver
            return (Confined(socket), receiver)
        }
    }

    @Test(arguments: ["127.0.0.1:0", "[::1]:0"])
    func datagramsArriveWholeInBatches(_ place: String) async throws {
        try await withGroup(loopCount: 2) { group in
            let address = try #require(SocketAddress(place))
            let (sender, _) = try await open(group.loops[0], address)
            let (target, receiver) = try await open(group.loops[1], address)
            let to = target.value.localAddress
            let from = sender.value.localAddress
            try await group.loops[0].perform {
                for index in 0..<200 {
                    try sender.value.send(Bytes([UInt8](repeating: UInt8(index), count: index * 7)), to: to)
                }
            }
            await receiver.wait { $0.received.count == 200 }
            try await group.loops[1].perform {
                for (index, (bytes, source)) in receiver.received.enumerated() {
                    #expect(bytes == [UInt8](repeating: UInt8(index), count: index * 7))
                    #expect(source == from)
                }
                #expect(receiver.batchCount < 200)
            }
        }
    }

    /// The kernel joins what was sent together and leaves apart what was not; a turn that may take one byte takes one batch.
    @Test(arguments: [1 << 20, 1])
    func datagramsThatMayBeJoinedArriveWholeInBatches(bytesPerTurn: Int) async throws {
        try await withGroup(loopCount: 2) { group in
            var options = DatagramOptions()
            options.joinsDatagrams = true
            options.receivedBytesPerTurn = bytesPerTurn
            let (sender, _) = try await open(group.loops[0])
            let (target, receiver) = try await open(group.loops[1], options: options)
            let to = target.value.localAddress
            let apart = (0..<200).map { [UInt8](repeating: UInt8($0), count: 1 + $0 * 7) }
            let joined = [UInt8](repeating: 201, count: 29_500)
            try await group.loops[0].perform {
                for bytes in apart { try sender.value.send(Bytes(bytes), to: to) }
            }
            try await group.loops[0].perform {
                #expect(joined.withUnsafeBytes { sender.value.sendNow($0, size: 1_000, to: to) })
            }
            await receiver.wait { $0.received.count == 230 }
            try await group.loops[1].perform {
                #expect(receiver.received.prefix(200).map(\.0) == apart)
                #expect(receiver.received.dropFirst(200).map(\.0.count) == [Int](repeating: 1_000, count: 29) + [500])
                #expect(receiver.batchCount < 230)
            }
        }
    }

    @Test func aFullQueueRefusesAndSaysWhenItHasRoom() async throws {
        try await withGroup { group in
            let loop = group.next()
            var options = DatagramOptions()
            options.queueLimit = 10
            let (sender, receiver) = try await open(loop, options: options)
            let to = sender.value.localAddress
            try await loop.perform {
                for _ in 0..<10 { try sender.value.send([1], to: to) }
                #expect(throws: DatagramSendError.queueFull(limit: 10)) { try sender.value.send([1], to: to) }
            }
            await receiver.wait { $0.hasRoomCount == 1 && $0.received.count == 10 }
        }
    }

    @Test func tooManyQueuedBytesAreRefused() async throws {
        try await withGroup { group in
            let loop = group.next()
            var options = DatagramOptions()
            options.queuedBytesLimit = 1_000
            let (sender, receiver) = try await open(loop, options: options)
            let to = sender.value.localAddress
            try await loop.perform {
                try sender.value.send(Bytes([UInt8](repeating: 0, count: 900)), to: to)
                #expect(throws: DatagramSendError.queuedBytesFull(limit: 1_000)) {
                    try sender.value.send(Bytes([UInt8](repeating: 0, count: 101)), to: to)
                }
            }
            await receiver.wait { $0.hasRoomCount == 1 }
        }
    }

    @Test func datagramsThatAreTooLongAreDroppedAndCounted() async throws {
        try await withGroup { group in
            let loop = group.next()
            var options = DatagramOptions()
            options.maximumDatagramSize = 100
            let (target, receiver) = try await open(loop, options: options)
            let (sender, _) = try await open(loop)
            let to = target.value.localAddress
            try await loop.perform {
                try sender.value.send(Bytes([UInt8](repeating: 1, count: 101)), to: to)
                try sender.value.send(Bytes([UInt8](repeating: 2, count: 100)), to: to)
            }
            await receiver.wait { $0.received.count == 1 }
            try await loop.perform {
                #expect(receiver.received[0].0 == [UInt8](repeating: 2, count: 100))
                #expect(target.value.truncatedCount == 1)
            }
        }
    }

    /// One datagram that cannot be sent does not hold up the others.
    @Test func aRefusedDatagramIsCountedAndTheRestGoesOn() async throws {
        try await withGroup { group in
            let loop = group.next()
            let (target, receiver) = try await open(loop)
            let (sender, _) = try await open(loop)
            let to = target.value.localAddress
            try await loop.perform {
                try sender.value.send([1], to: to)
                try sender.value.send(Bytes([UInt8](repeating: 0, count: 70_000)), to: to)
                try sender.value.send([2], to: .unix(path: "/nowhere"))
                try sender.value.send([3], to: to)
            }
            await receiver.wait { $0.received.count == 2 }
            try await loop.perform {
                #expect(receiver.received.map(\.0) == [[1], [3]])
                #expect(sender.value.refusedCount == 2)
            }
        }
    }

    @Test func aClosedSocketRefusesAndTells() async throws {
        try await withGroup { group in
            let loop = group.next()
            let (socket, receiver) = try await open(loop)
            let to = socket.value.localAddress
            try await loop.perform {
                socket.value.close()
                socket.value.close()
                #expect(throws: DatagramSendError.closed) { try socket.value.send([1], to: to) }
                #expect(receiver.closed == .some(nil))
            }
        }
    }

    @Test func whatTheKernelGrantedOfTheBuffersIsTold() async throws {
        try await withGroup { group in
            // So little every system grants.
            var options = DatagramOptions()
            options.sendBufferSize = 16_384
            options.receiveBufferSize = 32_768
            let (socket, _) = try await open(group.loops[0], options: options)
            let granted = try await group.loops[0].perform { socket.value.kernelBuffers }
            #expect(granted == KernelBuffers(send: 16_384, receive: 32_768))
        }
    }

    @Test func aPortInUseIsAnErrorThatNamesIt() async throws {
        try await withGroup { group in
            let loop = group.next()
            let (socket, _) = try await open(loop)
            let address = socket.value.localAddress
            let error = await #expect(throws: SocketError.self) { _ = try await open(loop, address) }
            #expect(error?.description == "bind to \(address): address already in use")
        }
    }
}
