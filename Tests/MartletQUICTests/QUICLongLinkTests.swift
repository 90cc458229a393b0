import MartletConnection
import MartletCore
import MartletTestSupport
import Testing

@testable import MartletQUIC

/// One stream over long links, in virtual time.
@Suite struct QUICLongLinkTests {
    /// How much of the link's rate a stream gets, from its first byte to its last.
    private func share(of link: QUICLink, rate: Int64, byteCount: Int) throws -> Double {
        var configuration = QUICConfiguration()
        // What fills a link in the simulation must do so without jumbo frames.
        configuration.maximumDatagramSize = 1452
        let connection = ConnectionConfiguration()
        let pair = try QUICHarness(
            clientConnection: connection, serverConnection: connection, clientConfiguration: configuration)
        pair.link = link
        pair.run(for: .seconds(10)) { pair.dialer.remote != nil && !pair.accepted.isEmpty }
        let id = try pair.dialer.connection.openStream(now: pair.now)
        pair.dialer.connection.send(Bytes([UInt8](repeating: 7, count: byteCount)), on: id)
        pair.dialer.connection.finish(id)
        let begin = pair.now
        pair.listener.keepsBytes = false
        pair.run(for: .seconds(600)) { pair.listener[id].isFinished }
        #expect(pair.listener[id].receivedCount == byteCount)
        return Double(byteCount) / Double(rate) / ((pair.now - begin) / .seconds(1))
    }

    /// Datagrams that probe the path are too long for Ethernet, and the kernel refuses them and what it is given with them.
    @Test func whatFollowsTheHandshakeDoesNotWaitForATimeout() throws {
        let pair = try QUICHarness()
        pair.delay = .milliseconds(20)
        pair.longestDatagram = 1472
        pair.run(for: .seconds(10)) { !pair.accepted.isEmpty && pair.listener.remote != nil }
        let id = try pair.listener.connection.openStream(now: pair.now)
        var sentCount = 0
        // All probes of the first size, which come a timeout apart.
        for _ in 0..<30 {
            let begin = pair.now
            pair.listener.connection.send(Bytes([UInt8](repeating: 7, count: 600)), on: id)
            sentCount += 600
            pair.run(for: .seconds(10)) { pair.dialer[id].receivedCount == sentCount }
            // The way takes 20 ms, pacing behind a probe some more; a timeout would be 100 ms at the least.
            #expect(pair.now - begin < .milliseconds(80))
        }
        #expect(pair.dialer[id].receivedCount == sentCount)
    }

    /// What Ethernet carries is found out before anything longer is tried.
    @Test func datagramsFillEthernetAfterTwoRoundTrips() throws {
        let pair = try QUICHarness()
        pair.delay = .milliseconds(20)
        pair.longestDatagram = 1472
        pair.run(for: .seconds(10)) { !pair.accepted.isEmpty && pair.listener.remote != nil }
        pair.run(for: .milliseconds(80)) { false }
        var longest = 0
        pair.isLost = { datagram in
            longest = max(longest, datagram.bytes.count)
            return false
        }
        let id = try pair.listener.connection.openStream(now: pair.now)
        pair.listener.connection.send(Bytes([UInt8](repeating: 7, count: 10_000)), on: id)
        pair.run(for: .seconds(10)) { pair.dialer[id].receivedCount == 10_000 }
        #expect(longest == 1452)
    }

    /// A short path is not paced, a long one is; what went over the one must not be waited for on the other.
    @Test func aShortPathThatBecomesLongDoesNotStall() throws {
        let pair = try QUICHarness.established()
        pair.listener.keepsBytes = false
        pair.link = QUICLink(
            bytesPerSecond: 100_000_000, delay: .microseconds(50), longestQueue: .milliseconds(50), lossPerMille: 0)
        let connection = pair.dialer.connection
        let id = try connection.openStream(now: pair.now)
        var sentCount = 30_000_000
        connection.send(Bytes([UInt8](repeating: 7, count: sentCount)), on: id)
        pair.run(for: .seconds(60)) { pair.listener[id].receivedCount == sentCount }
        pair.link = QUICLink(
            bytesPerSecond: 100_000_000, delay: .milliseconds(20), longestQueue: .milliseconds(50), lossPerMille: 0)
        for _ in 0..<20 {
            let begin = pair.now
            connection.send([1], on: id)
            sentCount += 1
            pair.run(for: .seconds(10)) { pair.listener[id].receivedCount == sentCount }
            #expect(pair.now - begin < .milliseconds(100))
        }
    }

    /// 100 Mbit/s and 50 ms each way, on which CUBIC gets 6 % with the first loss: loss of one in so many thousand, and a queue of so many milliseconds.
    @Test(arguments: [(0, 50), (1, 50), (1, 200)])
    func aLongLinkThatLosesPacketsIsFilled(lossPerMille: Int, queue: Int64) throws {
        let rate: Int64 = 12_500_000
        let link = QUICLink(
            bytesPerSecond: rate, delay: .milliseconds(50), longestQueue: .milliseconds(queue),
            lossPerMille: lossPerMille)
        #expect(try share(of: link, rate: rate, byteCount: 40_000_000) > 0.5)
    }
}
