import Glibc
import MartletCore
import Testing

@testable import MartletRuntime

@Suite struct StreamSocketCloseTests {
    @Test func closeFlushesWhatIsPendingAndTellsBothSides() async throws {
        try await withGroup(loopCount: 2) { group in
            let pair = try await connectedPair(group.loops[0], group.loops[1])
            let bytes = [UInt8](repeating: 7, count: 5_000_000)
            pair.dialer.loop.execute {
                pair.dialer.outgoing = bytes
                pair.dialer.socket?.close()
                pair.dialer.socket?.close()
            }
            await pair.listener.wait { $0.closed != nil }
            await pair.dialer.wait { $0.closed != nil }
            try await pair.listener.loop.perform {
                #expect(pair.listener.received == bytes)
                #expect(pair.listener.closed == .some(nil))
            }
            try await pair.dialer.loop.perform {
                #expect(pair.dialer.closed == .some(nil))
                #expect(pair.dialer.closedCount == 1)
            }
        }
    }

    /// What we sent last arrives although the other side has sent bytes that we never read.
    @Test func closeWithUnreadInputDoesNotDestroyOutput() async throws {
        try await withGroup(loopCount: 2) { group in
            let pair = try await connectedPair(group.loops[0], group.loops[1])
            try await pair.dialer.loop.perform { pair.dialer.socket?.pauseReading() }
            pair.listener.send([UInt8](repeating: 1, count: 100_000))
            await pair.listener.wait { $0.socket?.sentByteCount == 100_000 }
            pair.dialer.loop.execute {
                pair.dialer.outgoing = [9, 9]
                pair.dialer.socket?.close()
            }
            await pair.listener.wait { $0.closed != nil }
            try await pair.listener.loop.perform {
                #expect(pair.listener.received == [9, 9])
                #expect(pair.listener.closed == .some(nil))
            }
        }
    }

    @Test func closeGivesUpOnAPeerThatTakesNothing() async throws {
        try await withGroup(loopCount: 2) { group in
            var options = StreamSocketOptions()
            options.lingerTime = .milliseconds(30)
            let pair = try await connectedPair(group.loops[0], group.loops[1], options: options)
            try await pair.listener.loop.perform { pair.listener.socket?.pauseReading() }
            pair.dialer.loop.execute {
                pair.dialer.zerosToSend = 1 << 30
                pair.dialer.socket?.close()
            }
            await pair.dialer.wait { $0.closed != nil }
            try await pair.dialer.loop.perform {
                #expect(pair.dialer.closed??.code == ETIMEDOUT)
                #expect(pair.dialer.closed??.operation == .close)
            }
        }
    }

    @Test func closeOfAPeerThatNeverEndsIsDoneAfterTheLingerTime() async throws {
        try await withGroup(loopCount: 2) { group in
            var options = StreamSocketOptions()
            options.lingerTime = .milliseconds(30)
            let pair = try await connectedPair(group.loops[0], group.loops[1], options: options)
            try await pair.listener.loop.perform { pair.listener.keepsSending = true }
            pair.dialer.loop.execute { pair.dialer.socket?.close() }
            await pair.dialer.wait { $0.closed != nil }
            try await pair.dialer.loop.perform { #expect(pair.dialer.closed == .some(nil)) }
        }
    }

    @Test func abortIsSilentHereAndAResetThere() async throws {
        try await withGroup(loopCount: 2) { group in
            let pair = try await connectedPair(group.loops[0], group.loops[1])
            try await pair.dialer.loop.perform {
                let socket = try #require(pair.dialer.socket)
                socket.abort()
                socket.abort()
                socket.close()
                socket.setNeedsFlush()
                #expect(socket.isClosed)
            }
            await pair.listener.wait { $0.closed != nil }
            try await pair.listener.loop.perform {
                #expect(pair.listener.closed??.code == ECONNRESET)
                #expect(pair.listener.closed??.reason == "connection reset by peer")
            }
            try await pair.dialer.loop.perform { #expect(pair.dialer.closedCount == 0) }
        }
    }

    @Test func aResetIsNoticedWhilePaused() async throws {
        try await withGroup(loopCount: 2) { group in
            let pair = try await connectedPair(group.loops[0], group.loops[1])
            try await pair.listener.loop.perform { pair.listener.socket?.pauseReading() }
            pair.dialer.send([1, 2, 3])
            await pair.dialer.wait { $0.socket?.sentByteCount == 3 }
            try await pair.dialer.loop.perform { pair.dialer.socket?.abort() }
            await pair.listener.wait { $0.closed != nil }
            try await pair.listener.loop.perform { #expect(pair.listener.closed??.code == ECONNRESET) }
        }
    }

    @Test func anEndWhilePausedIsReadAfterResuming() async throws {
        try await withGroup(loopCount: 2) { group in
            let pair = try await connectedPair(group.loops[0], group.loops[1])
            try await pair.listener.loop.perform { pair.listener.socket?.pauseReading() }
            pair.dialer.loop.execute {
                pair.dialer.outgoing = [1, 2, 3]
                pair.dialer.socket?.finish()
            }
            await pair.dialer.wait { $0.socket?.sentByteCount == 3 }
            for _ in 0..<20 { try await pair.listener.loop.perform {} }
            try await pair.listener.loop.perform {
                #expect(pair.listener.closed == nil)
                #expect(pair.listener.received == [])
                pair.listener.socket?.resumeReading()
            }
            await pair.listener.wait { $0.closed != nil }
            try await pair.listener.loop.perform { #expect(pair.listener.received == [1, 2, 3]) }
        }
    }

    @Test func aHalfClosedConnectionStillCarriesTheAnswer() async throws {
        try await withGroup(loopCount: 2) { group in
            let pair = try await connectedPair(group.loops[0], group.loops[1])
            try await pair.listener.loop.perform { pair.listener.keepsSending = true }
            pair.dialer.loop.execute {
                pair.dialer.outgoing = [1]
                pair.dialer.socket?.finish()
            }
            await pair.listener.wait { $0.remoteFinishedCount == 1 }
            try await pair.listener.loop.perform {
                #expect(pair.listener.received == [1])
                #expect(pair.listener.socket?.isRemoteFinished == true)
                pair.listener.outgoing = [UInt8](repeating: 2, count: 3_000_000)
                pair.listener.socket?.close()
            }
            await pair.dialer.wait { $0.closed != nil }
            try await pair.dialer.loop.perform {
                #expect(pair.dialer.received.count == 3_000_000)
                #expect(pair.dialer.closed == .some(nil))
            }
            await pair.listener.wait { $0.closed == .some(nil) }
        }
    }

    @Test func aHalfClosedConnectionNoticesAReset() async throws {
        try await withGroup(loopCount: 2) { group in
            let pair = try await connectedPair(group.loops[0], group.loops[1])
            try await pair.listener.loop.perform { pair.listener.keepsSending = true }
            try await pair.dialer.loop.perform { pair.dialer.socket?.finish() }
            await pair.listener.wait { $0.remoteFinishedCount == 1 }
            try await pair.dialer.loop.perform { pair.dialer.socket?.abort() }
            await pair.listener.wait { $0.closed != nil }
            // Linux reports the reset of a connection that the other side had ended already as a broken pipe.
            try await pair.listener.loop.perform { #expect([ECONNRESET, EPIPE].contains(pair.listener.closed??.code)) }
        }
    }

    @Test func closingInsideEveryCallback() async throws {
        try await withGroup(loopCount: 2) { group in
            for closeKind in 0..<2 {
                let pair = try await connectedPair(group.loops[0], group.loops[1])
                try await pair.listener.loop.perform {
                    pair.listener.onReceive = { peer in
                        if closeKind == 0 { peer.socket?.close() } else { peer.socket?.abort() }
                    }
                }
                pair.dialer.send([UInt8](repeating: 1, count: 2_000_000))
                await pair.dialer.wait { $0.closed != nil }
            }
        }
    }

    @Test func closingBeforeStartingAndBeforeADelegate() async throws {
        try await withGroup { group in
            let loop = group.next()
            let seen = Latch()
            let address = try await loop.perform {
                try StreamListener.listen(loop: loop, address: .loopback(port: 0)) { descriptor in
                    // Never started, closed gracefully; the next is aborted.
                    guard let socket = try? StreamSocket(loop: loop, descriptor: descriptor.descriptor) else { return }
                    if seen.count == 0 { socket.close() } else { socket.abort() }
                    seen.signal()
                }.boundAddress
            }
            for _ in 0..<2 {
                let peer = TestPeer(loop)
                try? await connect(peer, to: address)
                await peer.wait { $0.closed != nil || $0.socket == nil }
            }
            await seen.wait(2)
        }
    }

    @Test func aSocketMadeOfNothingIsAnError() async throws {
        try await withGroup { group in
            let loop = group.next()
            try await loop.perform {
                #expect(throws: SocketError.self) { _ = try StreamSocket(loop: loop, descriptor: -1) }
                let unconnected = try Descriptor.open(Descriptor.stream, for: .loopback(port: 0))
                #expect(throws: SocketError.self) { _ = try StreamSocket(loop: loop, descriptor: unconnected) }
            }
        }
    }

    /// Writing to a peer that is gone reports what it had said before, and then the break.
    @Test func whatArrivedBeforeTheBreakStillCounts() async throws {
        try await withGroup(loopCount: 2) { group in
            let pair = try await connectedPair(group.loops[0], group.loops[1])
            pair.dialer.send([5, 6, 7])
            await pair.dialer.wait { $0.socket?.sentByteCount == 3 }
            try await pair.dialer.loop.perform { pair.dialer.socket?.abort() }
            pair.listener.loop.execute {
                pair.listener.zerosToSend = 1 << 20
                pair.listener.socket?.setNeedsFlush()
            }
            await pair.listener.wait { $0.closed != nil }
            try await pair.listener.loop.perform {
                #expect(pair.listener.closedCount == 1)
                #expect(pair.listener.closed! != nil)
            }
        }
    }

    @Test func delegatesAndSocketsAreLetGoOf() async throws {
        try await withGroup { group in
            let loop = group.next()
            weak var delegate: TestPeer?
            weak var socket: StreamSocket?
            do {
                let pair = try await connectedPair(loop, loop)
                delegate = pair.dialer
                let confined = Confined<StreamSocket?>(nil)
                try await loop.perform { confined.value = pair.dialer.socket }
                socket = confined.value
                confined.value = nil
                try await loop.perform { pair.dialer.socket?.close() }
                await pair.dialer.wait { $0.closed != nil }
                await pair.listener.wait { $0.closed != nil }
            }
            try await loop.perform {}
            try await loop.perform {}
            #expect(delegate == nil)
            #expect(socket == nil)
            #expect(try await loop.perform { loop.resources.isEmpty })
        }
    }
}
