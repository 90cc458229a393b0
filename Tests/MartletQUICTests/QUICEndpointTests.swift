import MartletConnection
import MartletCore
import MartletIdentity
import MartletTestSupport
import Testing

@testable import MartletQUIC

@Suite struct QUICEndpointTests {
    private func answers(_ endpoint: QUICEndpoint) -> [[UInt8]] {
        var all: [[UInt8]] = []
        while let (bytes, _) = endpoint.nextAnswer() { all.append(bytes.array) }
        return all
    }

    private func give(_ bytes: [UInt8], to side: QUICSide, from port: UInt16 = 9, now: Instant) {
        bytes.withUnsafeBytes {
            side.endpoint.receive(
                $0, datagramSize: max(1, $0.count), from: QUICAddress(.v4(.loopback), port: port), now: now)
        }
    }

    @Test func underLoadClientsProveTheirAddressFirst() throws {
        var configuration = QUICConfiguration()
        configuration.retryThreshold = 0
        let pair = try QUICHarness(serverConfiguration: configuration)
        #expect(pair.step())
        while pair.server.endpoint.handshakeCount == 0, pair.step() {
            #expect(pair.sentCount < 6)
        }
        // The client's first packet, the Retry and the second first packet came before.
        #expect(pair.sentCount >= 3)
        pair.settle()
        #expect(pair.dialer.remote != nil)
        #expect(pair.listener.remote != nil)
    }

    @Test func handshakesAreLimited() throws {
        var configuration = QUICConfiguration()
        configuration.maximumHandshakes = 4
        let now = Instant(nanoseconds: 1_000_000_000)
        let server = QUICSide(2, port: 1002, now: now, configuration: configuration)
        let room = UnsafeMutableRawBufferPointer.allocate(byteCount: DatagramBatch.room, alignment: 16)
        defer { room.deallocate() }
        for number in 0..<10 {
            let client = QUICSide(10 + UInt64(number), port: 2000 + UInt16(number), now: now)
            let connection = try client.endpoint.connect(to: server.address, expecting: nil, now: now)
            let batch = try #require(connection.transmit(into: room, now: now))
            give(Array(room[0..<batch.byteCount]), to: server, from: 2000 + UInt16(number), now: now)
        }
        #expect(server.endpoint.handshakeCount == 4)
        #expect(server.endpoint.connectionCount == 4)
        #expect(server.endpoint.droppedCount == 6)
    }

    @Test func unknownVersionIsAnsweredWithOurs() {
        let now = Instant(nanoseconds: 1_000_000_000)
        let server = QUICSide(2, port: 1002, now: now)
        var packet: [UInt8] = [0xC0, 0x1A, 0x2A, 0x3A, 0x4A, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0]
        packet += [UInt8](repeating: 0, count: 1200 - packet.count)
        give(packet, to: server, now: now)
        let found = answers(server.endpoint)
        #expect(found.count == 1)
        #expect(found.first?.dropFirst(1).prefix(4) == [0, 0, 0, 0])
        #expect(found.first?.suffix(4) == [0, 0, 0, 1])
        // What is too short could be answered with more than it cost.
        give(Array(packet.prefix(600)), to: server, now: now)
        #expect(answers(server.endpoint).isEmpty)
    }

    @Test func packetsOfForgottenConnectionsAreAnsweredWithResets() throws {
        let pair = try QUICHarness.established()
        // The server restarts with the same key.
        let reborn = QUICSide(7, port: 1002, now: pair.now, key: pair.server.key)
        let id = try pair.dialer.connection.openStream(now: pair.now)
        pair.dialer.connection.send([1, 2, 3], on: id)
        let client = try #require(pair.dialer.connection as? QUICConnection)
        let room = UnsafeMutableRawBufferPointer.allocate(byteCount: DatagramBatch.room, alignment: 16)
        defer { room.deallocate() }
        let batch = try #require(client.transmit(into: room, now: pair.now))
        give(Array(room[0..<batch.byteCount]), to: reborn, from: pair.client.address.port, now: pair.now)
        let reset = answers(reborn.endpoint)
        #expect(reset.count == 1)
        for bytes in reset {
            bytes.withUnsafeBytes {
                pair.client.endpoint.receive($0, datagramSize: $0.count, from: pair.server.address, now: pair.now)
            }
        }
        pair.dialer.drain(now: pair.now)
        #expect(
            pair.dialer.closeReasons == [.transportFailed("the peer does not know the connection any more")])
    }

    @Test func whatComesInManyPiecesIsHandedUpTogether() throws {
        let pair = try QUICHarness.established()
        let client = try #require(pair.dialer.connection as? QUICConnection)
        let listener = try #require(pair.listener.connection as? QUICConnection)
        let id = try client.openStream(now: pair.now)
        client.send(Bytes([UInt8](repeating: 7, count: 9_000)), on: id)
        let room = UnsafeMutableRawBufferPointer.allocate(byteCount: DatagramBatch.room, alignment: 16)
        defer { room.deallocate() }
        var datagramCount = 0
        while client.hasPendingTransmit, let batch = client.transmit(into: room, now: pair.now) {
            for start in stride(from: 0, to: batch.byteCount, by: batch.datagramSize) {
                let bytes = Array(room[start..<min(start + batch.datagramSize, batch.byteCount)])
                give(bytes, to: pair.server, from: pair.client.address.port, now: pair.now)
                datagramCount += 1
            }
        }
        #expect(datagramCount > 1)
        #expect(pair.server.endpoint.nextTouched() === listener)
        var pieces: [Int] = []
        while let event = listener.nextEvent() {
            if case .data(id, let bytes) = event { pieces.append(bytes.count) }
        }
        #expect(pieces == [9_000])
    }

    @Test func resetsAreRationed() {
        var configuration = QUICConfiguration()
        configuration.resetsPerSecond = 5
        let now = Instant(nanoseconds: 1_000_000_000)
        let server = QUICSide(2, port: 1002, now: now, configuration: configuration)
        let packet = [UInt8](repeating: 0x41, count: 60)
        for _ in 0..<20 { give(packet, to: server, now: now) }
        #expect(answers(server.endpoint).count == 5)
        for _ in 0..<20 { give(packet, to: server, now: now + .seconds(2)) }
        #expect(answers(server.endpoint).count == 5)
    }

    @Test func answersThatNobodyTakesAreLimited() {
        var configuration = QUICConfiguration()
        configuration.maximumQueuedAnswers = 8
        let now = Instant(nanoseconds: 1_000_000_000)
        let server = QUICSide(2, port: 1002, now: now, configuration: configuration)
        for _ in 0..<100 { give([UInt8](repeating: 0x41, count: 60), to: server, now: now) }
        #expect(answers(server.endpoint).count == 8)
    }

    @Test func arbitraryDatagramsAreSurvived() throws {
        let pair = try QUICHarness.established()
        var random = RandomSource(seed: 21)
        for round in 0..<20_000 {
            var bytes = random.bytes(Int.random(in: 0...1300, using: &random))
            if !bytes.isEmpty, round % 3 == 0 { bytes[0] |= 0xC0 }
            if bytes.count > 5, round % 3 == 0 { bytes.replaceSubrange(1..<5, with: [0, 0, 0, 1]) }
            give(bytes, to: pair.server, from: round % 2 == 0 ? pair.client.address.port : 9, now: pair.now)
            while pair.server.endpoint.nextAccepted() != nil {}
            while pair.server.endpoint.nextAnswer() != nil {}
        }
        #expect(pair.server.endpoint.connectionCount <= 1 + QUICConfiguration().maximumHandshakes)
        let id = try pair.dialer.connection.openStream(now: pair.now)
        pair.dialer.connection.send([1, 2, 3], on: id)
        pair.settle()
        #expect(pair.listener[id].received == [1, 2, 3])
    }

    @Test func changedDatagramsOfARealConnectionAreSurvived() throws {
        for seed in 0..<20 as Range<UInt64> {
            let pair = try QUICHarness()
            var random = RandomSource(seed: seed)
            pair.change = { datagram in
                guard Int.random(in: 0..<4, using: &random) == 0, !datagram.bytes.isEmpty else { return }
                let index = Int.random(in: 0..<datagram.bytes.count, using: &random)
                datagram.bytes[index] ^= UInt8.random(in: 1...255, using: &random)
            }
            pair.advance(by: .seconds(3))
            pair.settle()
            if let id = try? pair.dialer.connection.openStream(now: pair.now) {
                pair.dialer.connection.send(Bytes(MuxerCompliance.pattern(20_000, seed: seed)), on: id)
                pair.advance(by: .seconds(3))
                #expect(pair.dialer.misplaced.isEmpty)
            }
        }
    }
}
