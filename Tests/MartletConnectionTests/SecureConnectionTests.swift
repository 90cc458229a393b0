import MartletConnection
import MartletCore
import MartletIdentity
import MartletTestSupport
import Testing

@Suite struct SecureConnectionTests {
    @Test(arguments: MuxerCompliance.checks)
    func complies(_ check: MuxerCompliance.Check) throws {
        try check.body(makeEstablishedPair())
    }

    @Test(arguments: MuxerCompliance.checks)
    func compliesInSmallPieces(_ check: MuxerCompliance.Check) throws {
        try check.body(makeEstablishedPair(seed: 2, pieceSizes: 1...40_000, bufferSizes: 3_000...70_000))
    }

    @Test func bothSidesLearnWhoTheOtherIs() {
        let pair = makeEstablishedPair()
        #expect(pair.dialer.remote?.peerID == TestIdentities.shared.second.identity.peerID)
        #expect(pair.listener.remote?.peerID == TestIdentities.shared.first.identity.peerID)
        #expect(pair.listener.remote?.publicKey == TestIdentities.shared.first.identity.publicKey)
        #expect(pair.dialer.remote?.earlyMuxer == true)
        #expect(pair.dialer.remote?.muxer == "/yamux/1.0.0")
        #expect(pair.dialer.roundTrips.count == ConnectionConfiguration().initialPings)
    }

    @Test func handshakeSucceedsByteByByte() {
        let pair = makeEstablishedPair(pieceSizes: 1...1)
        #expect(pair.dialer.closeReasons.isEmpty)
    }

    @Test func dialerIsEstablishedAfterOneRoundTrip() {
        let pair = makeSecurePair()
        _ = pair.step()
        // The dialer's bytes arrived and were answered in the same step or the next.
        _ = pair.step()
        #expect(pair.dialer.remote != nil)
        #expect(pair.listener.remote == nil)
        _ = pair.step()
        #expect(pair.listener.remote != nil)
    }

    @Test func wrongPeerIsRefusedByNameBeforeItLearnsWhoDials() {
        let expected = TestIdentities.shared.third.identity.peerID
        let pair = makeSecurePair(dialerExpects: expected)
        pair.settle()
        let actual = TestIdentities.shared.second.identity.peerID
        #expect(pair.dialer.closeReasons == [.handshakeFailed(.wrongPeer(expected: expected, actual: actual))])
        let text = pair.dialer.closeReasons.first.map { "\($0)" } ?? ""
        #expect(text.contains("\(expected)") && text.contains("\(actual)"))
        #expect(pair.dialer.remote == nil)
        #expect(pair.listener.remote == nil)
    }

    @Test func framesMayBeMadeToFitTheStreamOfACarrier() throws {
        let size = 16 * 1024
        let pair = makeEstablishedPair(configure: { $0.frameLimit = size - SecureConnection.recordOverhead })
        let id = try pair.dialer.connection.openStream(now: pair.now)
        let connection = try #require(pair.dialer.connection as? SecureConnection)
        connection.send([1], on: id)
        pair.settle()
        connection.send(Bytes([UInt8](repeating: 1, count: 100_000)), on: id)
        var buffer = TransmitBuffer(storage: BytesStorage(capacity: 4 * size + 1000))
        connection.transmit(into: &buffer, now: pair.now)
        // Four records of just that size, and no fifth that is cut to fit.
        #expect(buffer.count == 4 * size)
        for start in stride(from: 0, to: buffer.count, by: size) {
            #expect(Int(buffer.written[start]) << 8 | Int(buffer.written[start + 1]) == size - 2)
        }
    }

    @Test(arguments: [RecordCipherChoice.automatic, .libsodium])
    func sixtyFourMebibytesPassUnchanged(_ choice: RecordCipherChoice) throws {
        let pair = makeEstablishedPair(
            seed: 3, pieceSizes: 1...262_144, bufferSizes: 64...600_000, configure: { $0.cipher = choice })
        let id = try pair.dialer.connection.openStream(now: pair.now)
        pair.listener.keepsBytes = false
        var sender = RandomSource(seed: 4)
        var sent = SHA256.Hasher()
        var received = SHA256.Hasher()
        pair.listener.onData = { _, bytes in received.update(bytes) }
        let total = 64 << 20
        var left = total
        while left > 0 {
            let piece = Bytes(sender.bytes(min(left, Int.random(in: 1...2_000_000, using: &sender))))
            left -= piece.count
            sent.update(piece)
            pair.dialer.connection.send(piece, on: id)
            if pair.dialer.connection.queuedByteCount(on: id) > 4 << 20 { pair.settle() }
        }
        pair.dialer.connection.finish(id)
        pair.settle()
        #expect(pair.listener[id].receivedCount == total)
        #expect(pair.listener[id].isFinished)
        #expect(sent.finalize() == received.finalize())
        #expect(pair.listener.misplaced.isEmpty)
    }

    @Test(arguments: 0..<20)
    func runsRepeatExactly(_ seed: UInt64) throws {
        func run() throws -> [String] {
            var log: [String] = []
            let pair = makeEstablishedPair(seed: seed, pieceSizes: 1...5_000, bufferSizes: 100...5_000)
            pair.listener.onData = { log.append("\($0) \($1.count) at \(pair.now.nanoseconds)") }
            for _ in 0..<5 {
                let id = try pair.dialer.connection.openStream(now: pair.now)
                pair.dialer.connection.send(Bytes(MuxerCompliance.pattern(40_000, seed: seed)), on: id)
            }
            pair.settle()
            return log
        }
        #expect(try run() == run())
    }
}
