import Glibc
import MartletCore
import TemporaryFiles
import Testing

@testable import MartletRuntime

@Suite struct StreamSocketTests {
    @Test(arguments: ["127.0.0.1:0", "[::1]:0", "unix"])
    func bytesGoBothWays(_ place: String) async throws {
        try await withGroup(loopCount: 2) { group in
            let directory = TemporaryDirectory()
            let address = try #require(SocketAddress(place == "unix" ? "\(directory.path)/s" : place))
            let pair = try await connectedPair(group.loops[0], group.loops[1], at: address)
            pair.dialer.send([1, 2, 3])
            await pair.listener.wait { $0.received == [1, 2, 3] }
            pair.listener.send([4, 5])
            await pair.dialer.wait { $0.received == [4, 5] }
            try await pair.dialer.loop.perform {
                let socket = try #require(pair.dialer.socket)
                #expect(socket.sentByteCount == 3)
                #expect(socket.receivedByteCount == 2)
                if !address.isUnix { #expect(socket.remoteAddress == pair.listener.socket?.localAddress) }
            }
        }
    }

    /// More than any buffer holds, both ways at once, content checked.
    @Test func bulkArrivesWholeBothWays() async throws {
        try await withGroup(loopCount: 2) { group in
            let pair = try await connectedPair(group.loops[0], group.loops[1])
            var random = RandomSource(seed: 1)
            let one = random.bytes(9_000_001)
            let two = random.bytes(7_000_003)
            pair.dialer.send(one)
            pair.listener.send(two)
            await pair.listener.wait { $0.received.count == one.count }
            await pair.dialer.wait { $0.received.count == two.count }
            try await pair.listener.loop.perform { #expect(pair.listener.received == one) }
            try await pair.dialer.loop.perform { #expect(pair.dialer.received == two) }
        }
    }

    @Test func congestionIsControlledAsTheOptionsSayOnLongPathsOnly() async throws {
        try await withGroup { group in
            let loop = group.next()
            func control(_ name: String?, from roundTrip: Duration) async throws -> [String?] {
                var options = StreamSocketOptions()
                options.longPathControl = name
                options.longPathRoundTrip = roundTrip
                let pair = try await connectedPair(loop, loop, options: options, acceptOptions: options)
                return try await loop.perform {
                    [pair.dialer.socket?.congestionControl, pair.listener.socket?.congestionControl]
                }
            }
            let usual = try await control(nil, from: .zero)
            // Every kernel has this one and lets everybody use it.
            let other = usual[0] == "reno" ? "cubic" : "reno"
            #expect(try await control(other, from: .zero) == [other, other])
            #expect(try await control(other, from: .seconds(60)) == usual)
            #expect(try await control("no such thing", from: .zero) == usual)
        }
    }

    @Test func leftoverComesAgainInFrontOfWhatFollows() async throws {
        try await withGroup { group in
            let loop = group.next()
            let pair = try await connectedPair(loop, loop)
            try await loop.perform { pair.listener.keepsLast = 3 }
            pair.dialer.send([1, 2, 3, 4])
            await pair.listener.wait { $0.received == [1] && $0.kept.count == 3 }
            pair.dialer.send([5])
            await pair.listener.wait { $0.received == [1, 2] && $0.kept == [3, 4, 5] }
        }
    }

    @Test func aLeftoverThatLeavesNoRoomEndsTheConnection() async throws {
        try await withGroup(loopCount: 2) { group in
            let pair = try await connectedPair(group.loops[0], group.loops[1])
            try await pair.listener.loop.perform { pair.listener.keepsLast = .max }
            pair.dialer.send([UInt8](repeating: 1, count: 1_000_000))
            await pair.listener.wait { $0.closed != nil }
            try await pair.listener.loop.perform { #expect(pair.listener.closed??.code == EMSGSIZE) }
        }
    }

    @Test func aPausedReaderStopsTheSender() async throws {
        try await withGroup(loopCount: 2) { group in
            let pair = try await connectedPair(group.loops[0], group.loops[1])
            let total = 64 << 20
            try await pair.listener.loop.perform {
                pair.listener.keepsReceived = false
                pair.listener.socket?.pauseReading()
            }
            try await pair.dialer.loop.perform {
                pair.dialer.zerosToSend = total
                pair.dialer.socket?.setNeedsFlush()
            }
            // The kernel's buffers fill up; until they have, a flush goes on by itself.
            let sent = Confined(-1)
            var rounds = 0
            while true {
                try await Task.sleep(for: .milliseconds(20))
                let now = try await pair.dialer.loop.perform { pair.dialer.socket?.sentByteCount ?? 0 }
                if now == sent.value, now > 0 { rounds += 1 } else { rounds = 0 }
                if rounds == 5 { break }
                sent.value = now
            }
            #expect(sent.value < total)
            try await pair.listener.loop.perform {
                #expect(pair.listener.receivedByteCount == 0)
                pair.listener.socket?.resumeReading()
            }
            await pair.listener.wait { $0.receivedByteCount == total }
        }
    }

    /// One socket that never lacks input does not keep another from being read.
    @Test func readingIsFairBetweenSockets() async throws {
        try await withGroup(loopCount: 2) { group in
            let (one, two) = (group.loops[0], group.loops[1])
            let flood = try await connectedPair(one, two)
            let small = try await connectedPair(one, two)
            try await two.perform { flood.listener.keepsReceived = false }
            try await one.perform {
                flood.dialer.zerosToSend = 1 << 40
                flood.dialer.socket?.setNeedsFlush()
            }
            await flood.listener.wait { $0.receivedByteCount > 1 << 20 }
            for round in 1...20 {
                small.dialer.send([UInt8(round)])
                await small.listener.wait { $0.received.last == UInt8(round) }
            }
            try await one.perform { flood.dialer.socket?.abort() }
        }
    }

    @Test func aDelegateThatFillsABlockIsAskedAgain() async throws {
        try await withGroup { group in
            let loop = group.next()
            let pair = try await connectedPair(loop, loop)
            let count = EventLoopGroup.transmitBlockSize * 3 + 5
            pair.dialer.send([UInt8](repeating: 9, count: count))
            await pair.listener.wait { $0.received.count == count }
        }
    }

    /// Or what the tasks of a turn say, and what comes meanwhile, waits for as many blocks as a turn has rounds.
    @Test func aSocketSendsOneFullBlockInATurn() async throws {
        try await withGroup { group in
            let loop = group.next()
            let pair = try await connectedPair(loop, loop)
            let count = EventLoopGroup.transmitBlockSize * 20
            let turns = Confined<[Int]>([])
            try await loop.perform {
                pair.listener.keepsReceived = false
                pair.dialer.zerosToSend = count
                pair.dialer.onTransmit = { peer in
                    guard peer.zerosToSend > 0 else { return }
                    turns.value.append(loop.turnCount)
                    // As a connection does whose streams have room again.
                    peer.socket?.setNeedsFlush()
                    loop.schedule(AskingWork(peer))
                }
                pair.dialer.socket?.setNeedsFlush()
            }
            await pair.listener.wait { $0.receivedByteCount == count }
            try await loop.perform {
                #expect(turns.value.count >= 19)
                #expect(Set(turns.value).count == turns.value.count)
            }
        }
    }

    /// Asks for a flush in the second half of a turn.
    private final class AskingWork: LoopWork, @unchecked Sendable {
        let peer: TestPeer
        init(_ peer: TestPeer) { self.peer = peer }
        override func run() { peer.socket?.setNeedsFlush() }
    }

    @Test func anIdleSocketHoldsNoBlocks() async throws {
        try await withGroup { group in
            let loop = group.next()
            let pair = try await connectedPair(loop, loop)
            pair.dialer.send([UInt8](repeating: 1, count: 100_000))
            await pair.listener.wait { $0.received.count == 100_000 }
            try await loop.perform {
                #expect(pair.dialer.socket?.holdsTransmitBlock == false)
                #expect(pair.listener.socket?.holdsTransmitBlock == false)
            }
        }
    }

    // MARK: connecting

    @Test func aRefusedConnectNamesTheAddress() async throws {
        try await withGroup { group in
            let loop = group.next()
            // A port that was free a moment ago.
            let address = try await loop.perform {
                let listener = try StreamListener.listen(loop: loop, address: .loopback(port: 0)) { $0.close() }
                defer { listener.close() }
                return listener.boundAddress
            }
            let error = await #expect(throws: SocketError.self) {
                try await connect(TestPeer(loop), to: address)
            }
            #expect(error?.description == "connect to \(address): connection refused")
        }
    }

    @Test func aUnixConnectWithoutAListenerFails() async throws {
        try await withGroup { group in
            let loop = group.next()
            let error = await #expect(throws: SocketError.self) {
                try await connect(TestPeer(loop), to: .unix(path: "/nonexistent/socket"))
            }
            #expect(error?.description == "connect to /nonexistent/socket: no such file or directory")
            let long = String(repeating: "x", count: 200)
            let tooLong = await #expect(throws: SocketError.self) {
                try await connect(TestPeer(loop), to: .unix(path: "/" + long))
            }
            #expect(tooLong?.code == ENAMETOOLONG)
        }
    }

    /// A listener whose backlog is full lets the connect hang.
    private func hangingAddress() throws -> (SocketAddress, [CInt]) {
        let listener = try Descriptor.open(Descriptor.stream, for: .loopback(port: 0))
        #expect(Descriptor.bind(listener, to: .loopback(port: 0)) == 0)
        #expect(Glibc.listen(listener, 0) == 0)
        let address = try #require(SocketAddress.local(of: listener))
        var open = [listener]
        for _ in 0..<4 {
            let filler = try Descriptor.open(Descriptor.stream, for: address)
            _ = Descriptor.connect(filler, to: address)
            open.append(filler)
        }
        return (address, open)
    }

    @Test func aConnectTimesOut() async throws {
        let (address, open) = try hangingAddress()
        try await withGroup { group in
            let loop = group.next()
            var options = StreamSocketOptions()
            options.connectTimeout = .milliseconds(20)
            let error = await #expect(throws: SocketError.self) {
                try await connect(TestPeer(loop), to: address, options: options)
            }
            #expect(error?.description == "connect to \(address): connection timed out")
        }
        for descriptor in open { Descriptor.close(descriptor) }
    }

    @Test func aCancelledConnectIsSilent() async throws {
        let (address, open) = try hangingAddress()
        try await withGroup { group in
            let loop = group.next()
            try await loop.perform {
                let attempt = Confined(
                    StreamSocket.connect(loop: loop, to: address) { _ in Issue.record("cancelled") })
                loop.execute { attempt.value.cancel() }
                let early = StreamSocket.connect(loop: loop, to: address) { _ in Issue.record("cancelled") }
                early.cancel()
                early.cancel()
            }
            try await loop.perform {}
            try await loop.perform {}
        }
        for descriptor in open { Descriptor.close(descriptor) }
    }

    @Test func shutdownEndsAConnectUnderWay() async throws {
        let (address, open) = try hangingAddress()
        let group = try EventLoopGroup(loopCount: 1)
        let loop = group.next()
        let task = Task { try await connect(TestPeer(loop), to: address) }
        try await loop.perform {}
        await eventually { loop.inspectResources() > 0 }
        await group.shutdown()
        let error = await #expect(throws: SocketError.self) { try await task.value }
        #expect(error?.code == ESHUTDOWN)
        for descriptor in open { Descriptor.close(descriptor) }
    }

    /// Listening, and dialing two peers, all from one port: what hole punching needs.
    @Test func dialingFromTheListeningPort() async throws {
        try await withGroup { group in
            let loop = group.next()
            let accepted = Latch()
            let addresses = try await loop.perform {
                try (0..<3).map { _ in
                    try StreamListener.listen(loop: loop, address: .loopback(port: 0)) { descriptor in
                        accepted.signal()
                        descriptor.close()
                    }.boundAddress
                }
            }
            for target in addresses[1...] {
                let peer = TestPeer(loop)
                try await connect(peer, to: target, from: addresses[0])
                try await loop.perform {
                    if let socket = peer.socket { #expect(socket.localAddress == addresses[0]) }
                }
            }
            await accepted.wait(2)
            // Its own port still accepts.
            try await connect(TestPeer(loop), to: addresses[0])
            await accepted.wait(3)
        }
    }

    @Test func bindingWhereOneCannotSaysSo() async throws {
        try await withGroup { group in
            let loop = group.next()
            let error = await #expect(throws: SocketError.self) {
                try await connect(
                    TestPeer(loop), to: .loopback(port: 9), from: .ip4(192, 0, 2, 1, port: 0))
            }
            #expect(error?.description == "bind to 192.0.2.1:0: address not available")
        }
    }
}

extension EventLoop {
    /// How many things are open on the loop, asked from outside.
    func inspectResources() -> Int {
        let gate = ThreadGate()
        let count = Confined(0)
        guard
            execute({
                count.value = self.resources.count
                gate.open()
            })
        else { return 0 }
        gate.wait()
        return count.value
    }
}
