import Martlet
import MartletCore
import MartletIdentity
import MartletReachability
import MartletSwarm
import Testing

private func pattern(_ count: Int) -> [UInt8] {
    var random = RandomSource(seed: 11)
    return random.bytes(count)
}

@Suite struct RelayServiceTests {
    @Test func aReservationSaysHowLongAndWhere() async throws {
        let trio = try await RelayTrio()
        let reservation = try await trio.reserve()
        let now = UInt64(WallTime.systemNow().nanosecondsSince1970 / 1_000_000_000)
        #expect(reservation.expiration > now + 3000 && reservation.expiration <= now + 3600)
        #expect(reservation.addresses.first == trio.relay.listenAddresses[0])
        let voucher = try ReservationVoucher.open(try #require(reservation.voucher))
        #expect(voucher.relay == trio.relay.peerID)
        #expect(voucher.client == trio.target.peerID)
        #expect(voucher.expiration == reservation.expiration)
        try await trio.waitUntil { $0.reservations == 1 }
        await trio.stop()
    }

    @Test(arguments: [0, 1, 10_000_000]) func aCircuitCarriesBytesBothWays(_ count: Int) async throws {
        let trio = try await RelayTrio()
        trio.serveEcho()
        _ = try await trio.reserve()
        var talk = try await trio.circuit()
        let sent = pattern(count)
        let writer = Task { [stream = talk.stream] in
            var rest = Bytes(sent)
            while !rest.isEmpty { try await stream.write(rest.takeFirst(min(rest.count, 77_777))) }
            try await stream.finish()
        }
        let received = try await talk.readAll()
        try await writer.value
        #expect(received == sent)
        try await trio.waitUntil { $0.circuits == 0 }
        #expect(try await trio.relay.relayStatus()?.relayedByteCount == 2 * count)
        await trio.stop()
    }

    @Test func manyCircuitsAtOnceKeepTheirBytesApart() async throws {
        let trio = try await RelayTrio()
        trio.serveEcho()
        _ = try await trio.reserve()
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for index in 0..<32 {
                group.addTask {
                    var talk = try await trio.circuit()
                    let sent = [UInt8](repeating: UInt8(index), count: 100_000 + index)
                    try await talk.send(sent)
                    try await talk.stream.finish()
                    return try await talk.readAll() == sent
                }
            }
            for try await isExact in group { #expect(isExact) }
        }
        try await trio.waitUntil { $0.circuits == 0 }
        await trio.stop()
    }

    @Test func refusalsHaveTheStatusThatSaysWhy() async throws {
        let trio = try await RelayTrio()
        let connect = HopMessage.connect(to: trio.target.peerID).encoded
        // Connected, but without a reservation.
        #expect(try await trio.refusal(trio.source, connect) == .noReservation)
        let relay = HopMessage.connect(to: trio.relay.peerID).encoded
        #expect(try await trio.refusal(trio.source, relay) == .noReservation)
        #expect(try await trio.refusal(trio.source, [1, 0xFF]) == .malformedMessage)
        #expect(try await trio.refusal(trio.source, [0xFF, 0xFF, 0x7F]) == .malformedMessage)
        #expect(try await trio.refusal(trio.source, [2, 8, 1]) == .malformedMessage)
        #expect(try await trio.refusal(trio.source, HopMessage.status(.ok).encoded) == .unexpectedMessage)
        _ = try await trio.reserve()
        #expect(try await trio.refusal(trio.target, connect) == .permissionDenied)
        // The target does not serve the stop protocol as an application would.
        trio.target.stopHandling(Circuit.stopProtocolID)
        #expect(try await trio.refusal(trio.source, connect) == .connectionFailed)
        trio.target.handle(Circuit.stopProtocolID) { stream in
            var talk = MessageStream(stream)
            _ = try await talk.message()
            try await talk.send(StopMessage.status(.permissionDenied).encoded)
        }
        #expect(try await trio.refusal(trio.source, connect) == .permissionDenied)
        trio.target.handle(Circuit.stopProtocolID) { stream in stream.reset() }
        #expect(try await trio.refusal(trio.source, connect) == .connectionFailed)
        try await trio.waitUntil { $0.circuits == 0 }
        await trio.stop()
    }

    @Test func aReservationEndsWithTheConnection() async throws {
        let trio = try await RelayTrio()
        _ = try await trio.reserve()
        try await trio.target.disconnect(from: trio.relay.peerID)
        try await trio.waitUntil { $0.reservations == 0 }
        let connect = HopMessage.connect(to: trio.target.peerID).encoded
        #expect(try await trio.refusal(trio.source, connect) == .noReservation)
        await trio.stop()
    }

    @Test func aCircuitIsCutOffAtItsLimit() async throws {
        let limit = 300_000
        let trio = try await RelayTrio { $0.circuitLimit = ConnectionLimit(byteCount: UInt64(limit)) }
        let ended = AsyncStream.makeStream(of: Int.self)
        trio.serve { talk in
            var talk = talk
            var count = 0
            do {
                while let bytes = try await talk.read() { count += bytes.count }
                ended.continuation.yield(-1)
            } catch {
                ended.continuation.yield(count)
            }
        }
        _ = try await trio.reserve()
        let (answer, talk) = try await trio.ask(trio.source, .connect(to: trio.target.peerID))
        #expect(answer == .status(.ok, limit: ConnectionLimit(byteCount: UInt64(limit))))
        let error = await #expect(throws: MartletError.self) {
            while true { try await talk.stream.write(Bytes([UInt8](repeating: 1, count: 10_000))) }
        }
        #expect(error?.code == .streamReset)
        var counts = ended.stream.makeAsyncIterator()
        let count = try #require(await counts.next())
        #expect(count >= 0 && count <= limit)
        try await trio.waitUntil { $0.circuits == 0 && $0.circuitsCut == 1 }
        #expect(try await trio.relay.relayStatus()?.relayedByteCount == limit)
        await trio.stop()
    }

    @Test func aCircuitEndsWhenItsTimeIsUp() async throws {
        let trio = try await RelayTrio { $0.circuitLimit = ConnectionLimit(duration: .seconds(3)) }
        trio.serveEcho()
        _ = try await trio.reserve()
        // On a busy machine the time may be up before the answer to the request was read.
        let error = await #expect(throws: MartletError.self) {
            var talk = try await trio.circuit()
            _ = try await talk.read()
        }
        #expect(error?.code == .streamReset)
        try await trio.waitUntil { $0.circuits == 0 }
        await trio.stop()
    }

    @Test func aSlowReceiverStopsItsSender() async throws {
        let window = 512 * 1024
        let trio = try await RelayTrio { $0.circuitWindow = window }
        let gate = AsyncStream.makeStream(of: Void.self)
        let total = 48 << 20
        let received = AsyncStream.makeStream(of: Int.self)
        trio.serve { talk in
            var talk = talk
            for await _ in gate.stream { break }
            var count = 0
            while let bytes = try await talk.read() { count += bytes.count }
            received.continuation.yield(count)
        }
        _ = try await trio.reserve()
        let talk = try await trio.circuit()
        let writer = Task {
            let piece = Bytes(pattern(65_536))
            for _ in 0..<total / piece.count { try await talk.stream.write(piece) }
            try await talk.stream.finish()
        }
        // Until nothing moves any more.
        var passed = -1
        while true {
            try await Task.sleep(for: .milliseconds(300))
            let now = try #require(try await trio.relay.relayStatus()).relayedByteCount
            if now == passed { break }
            passed = now
        }
        // The receiver's window, the queue, and the sender's window.
        #expect(passed > 0)
        #expect(passed <= 256 * 1024 + RelayConfiguration().circuitQueue + window)
        gate.continuation.finish()
        var counts = received.stream.makeAsyncIterator()
        #expect(await counts.next() == total)
        try await writer.value
        await trio.stop()
    }

    @Test func whoSaysNothingOnAStreamToTheRelayIsReset() async throws {
        let relay = try await NodePair.node {
            $0.relay = RelayConfiguration()
            $0.streamTimeout = .seconds(1)
        }
        let client = try await NodePair.node()
        try await client.connect(to: relay.listenAddresses[0])
        for opening in [[], [5]] as [[UInt8]] {
            // On a busy machine the reset comes before anything was sent.
            let error = await #expect(throws: MartletError.self) {
                let talk = MessageStream(try await client.openStream(to: relay.peerID, protocol: Circuit.hopProtocolID))
                if !opening.isEmpty { try await talk.send(opening) }
                _ = try await talk.stream.read()
            }
            #expect(error?.code == .streamReset)
        }
        await client.stop()
        await relay.stop()
    }

    @Test func aHalfClosedCircuitThatRestsIsCutAndOneThatMovesIsNot() async throws {
        let trio = try await RelayTrio {
            $0.circuitLimit = nil
            $0.halfClosedTimeout = .seconds(8)
        }
        let gate = AsyncStream.makeStream(of: Void.self)
        // Goes on for more than the time after the other side's end, and then forgets to end its own.
        trio.serve { talk in
            var talk = talk
            _ = try await talk.readAll()
            for count in 1...20 {
                try await Task.sleep(for: .milliseconds(500))
                try await talk.send([UInt8(count)])
            }
            for await _ in gate.stream {}
        }
        _ = try await trio.reserve()
        var talk = try await trio.circuit()
        try await talk.send([1])
        try await talk.stream.finish()
        var received: [UInt8] = []
        let error = await #expect(throws: MartletError.self) {
            while let bytes = try await talk.read() { received += bytes.array }
        }
        #expect(error?.code == .streamReset)
        #expect(received.count == 20)
        try await trio.waitUntil { $0.circuits == 0 }
        gate.continuation.finish()
        await trio.stop()
    }

    @Test func aRelayTellsTheAddressesItWasGiven() async throws {
        let given = try ["/ip4/8.8.8.8/tcp/443", "/dns4/relay.example/udp/443/quic-v1"].map { try Multiaddr($0) }
        let relay = try await NodePair.node {
            $0.relay = RelayConfiguration()
            $0.announceAddresses = given
        }
        let client = try await NodePair.node { $0.relays = [relay.listenAddresses[0]] }
        let circuits = try await {
            while true {
                let found = try await client.announcedAddresses().filter(\.isCircuit)
                if !found.isEmpty { return found }
                try await Task.sleep(for: .milliseconds(5))
            }
        }()
        for address in given {
            #expect(circuits.contains { "\($0)".hasPrefix("\(address)/p2p/\(relay.peerID)/p2p-circuit") })
        }
        #expect(try await relay.announcedAddresses().first == given[0].encapsulating(peer: relay.peerID))
        await client.stop()
        await relay.stop()
        for bad in ["/ip4/8.8.8.8/tcp/0", "/ip4/8.8.8.8", "/ip4/8.8.8.8/tcp/1/p2p/\(client.peerID)"] {
            let error = await #expect(throws: MartletError.self) {
                _ = try await NodePair.node { $0.announceAddresses = [try! Multiaddr(bad)] }
            }
            #expect(error?.code == .invalidArgument)
        }
    }

    @Test func aResetGoesThrough() async throws {
        let trio = try await RelayTrio()
        trio.serve { talk in
            var talk = talk
            _ = try await talk.read()
            talk.stream.reset()
        }
        _ = try await trio.reserve()
        var talk = try await trio.circuit()
        try await talk.send([1])
        let error = await #expect(throws: MartletError.self) { _ = try await talk.read() }
        #expect(error?.code == .streamReset)
        try await trio.waitUntil { $0.circuits == 0 }
        await trio.stop()
    }

    @Test func aPeerThatLeavesTakesItsCircuitsAlong() async throws {
        let trio = try await RelayTrio()
        trio.serveEcho()
        _ = try await trio.reserve()
        var talk = try await trio.circuit()
        try await talk.send([1])
        #expect(try await talk.read()?.array == [1])
        await trio.target.stop()
        let error = await #expect(throws: MartletError.self) { _ = try await talk.read() }
        #expect(error?.code == .streamReset)
        try await trio.waitUntil { $0.circuits == 0 && $0.reservations == 0 }
        await trio.stop()
    }

    @Test func aRateHoldsCircuitsBackWithoutLosingAnything() async throws {
        let trio = try await RelayTrio {
            $0.circuitRate = 4_000_000
            $0.totalRate = 6_000_000
        }
        trio.serveEcho()
        _ = try await trio.reserve()
        var talk = try await trio.circuit()
        let sent = pattern(2_000_000)
        let writer = Task { [stream = talk.stream] in
            try await stream.write(Bytes(sent))
            try await stream.finish()
        }
        #expect(try await talk.readAll() == sent)
        try await writer.value
        await trio.stop()
    }

    @Test func bytesRightBehindTheMessagesBelongToTheCircuit() async throws {
        let trio = try await RelayTrio()
        trio.target.handle(Circuit.stopProtocolID) { stream in
            var talk = MessageStream(stream)
            _ = try await talk.message()
            try await talk.send(StopMessage.status(.ok).encoded + [4, 5, 6])
            try await talk.stream.write(Bytes(try await talk.readAll()))
        }
        _ = try await trio.reserve()
        var talk = MessageStream(
            try await trio.source.openStream(to: trio.relay.peerID, protocol: Circuit.hopProtocolID))
        try await talk.send(HopMessage.connect(to: trio.target.peerID).encoded + [1, 2, 3])
        try await talk.stream.finish()
        guard case .status(.ok, _, _) = try HopMessage(try await talk.message()) else {
            Issue.record("not connected")
            return
        }
        #expect(try await talk.readAll() == [4, 5, 6, 1, 2, 3])
        try await trio.waitUntil { $0.circuits == 0 }
        await trio.stop()
    }

    @Test func circuitsBeyondTheLimitAreRefusedAndOthersGoOn() async throws {
        let trio = try await RelayTrio { $0.maximumCircuitsPerPeer = 2 }
        trio.serveEcho()
        _ = try await trio.reserve()
        var first = try await trio.circuit()
        let second = try await trio.circuit()
        let connect = HopMessage.connect(to: trio.target.peerID).encoded
        #expect(try await trio.refusal(trio.source, connect) == .resourceLimitExceeded)
        try await first.send([7])
        #expect(try await first.read()?.array == [7])
        second.stream.reset()
        try await trio.waitUntil { $0.circuits == 1 }
        _ = try await trio.circuit()
        await trio.stop()
    }

    @Test func peersConnectAndCallThroughAMartletRelay() async throws {
        let relay = try await NodePair.node { $0.relay = RelayConfiguration() }
        let target = try await NodePair.node { configuration in
            // No address of its own: there is no other way.
            configuration.listenAddresses = []
            configuration.relays = relay.listenAddresses
        }
        let source = try await NodePair.node { $0.listenAddresses = [] }
        while try await relay.relayStatus()?.reservations != 1 { try await Task.sleep(for: .milliseconds(5)) }
        let address = try relay.listenAddresses[0].encapsulating(.p2pCircuit).encapsulating(peer: target.peerID)
        target.handle("/echo/1") { stream in
            while let bytes = try await stream.read() { try await stream.write(bytes) }
        }
        #expect(try await source.connect(to: address) == target.peerID)
        #expect(try await source.status(of: target.peerID)?.path == .relayed)
        let stream = try await source.openStream(to: target.peerID, protocol: "/echo/1")
        let sent = pattern(3_000_000)
        let writer = Task {
            try await stream.write(Bytes(sent))
            try await stream.finish()
        }
        #expect(try await stream.read(exactly: sent.count) == sent)
        try await writer.value
        #expect(try #require(try await relay.relayStatus()).relayedByteCount > 2 * sent.count)
        await source.stop()
        await target.stop()
        await relay.stop()
    }
}
