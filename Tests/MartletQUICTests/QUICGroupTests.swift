import MartletConnection
import MartletCore
import MartletIdentity
import MartletTestSupport
import Testing

@testable import MartletQUIC

/// Endpoints that share one address.
@Suite struct QUICGroupTests {
    @Test func anIDBeginsWithThePlaceOfItsEndpoint() {
        for count in 1...QUICEndpointGroup.maximumCount {
            for index in [0, count / 2, count - 1] {
                let member = QUICMember(index, of: count)
                var seen: Set<UInt8> = []
                for byte in 0...255 as ClosedRange<UInt8> {
                    var id = [byte] + [UInt8](repeating: 7, count: 15)
                    member.claim(&id[0])
                    #expect(Int(id[0]) % count == index)
                    #expect(abs(Int(id[0]) - Int(byte)) < count)
                    #expect(
                        id.withUnsafeBufferPointer { QUICConnectionID($0.baseAddress, 16).map(member.owner) } == index)
                    seen.insert(id[0])
                }
                // As many first bytes as there can be.
                #expect(seen.count == (0...255).filter { $0 % count == index }.count)
            }
        }
    }

    @Test func connectionsLiveWhereTheirFirstIDSays() throws {
        let net = QUICGroupHarness(count: 3)
        let dialed = try (1...12).map { try net.dial($0) }
        net.settle()
        #expect(dialed.allSatisfy { $0.remote != nil })
        #expect(net.accepted.map(\.count).reduce(0, +) == 12)
        // Their first ids are random.
        #expect(net.accepted.filter { !$0.isEmpty }.count > 1)
        #expect(net.forwardCount == 0)
        for (index, connections) in net.accepted.enumerated() {
            for connection in connections {
                // The client's own, that of the handshake, and more that the client was given since.
                #expect(connection.ids.count > 3)
                #expect(connection.ids.allSatisfy { QUICMember(index, of: 3).owner(of: $0) == index })
            }
        }
    }

    @Test func connectionsThatAMemberDialsStayWithIt() throws {
        let net = QUICGroupHarness(count: 4)
        let peer = QUICSide(50, port: 2050, now: net.now)
        let dialed = try (0..<4).map { try net.dial(from: $0, to: peer) }
        net.settle()
        #expect(net.forwardCount == 0)
        for (index, connection) in dialed.enumerated() {
            #expect(connection.remote != nil)
            #expect(connection.ids.allSatisfy { QUICMember(index, of: 4).owner(of: $0) == index })
            #expect(net.members[index].endpoint.connectionCount == 1)
        }
    }

    /// As where the kernel spreads datagrams in its own way.
    @Test func whatComesToTheWrongMemberIsHandedOver() throws {
        let net = QUICGroupHarness(count: 3)
        var turn = 0
        net.route = { _, count in
            turn += 1
            return turn % count
        }
        let dialed = try (1...6).map { try net.dial($0) }
        net.settle()
        #expect(dialed.allSatisfy { $0.remote != nil })
        #expect(net.forwardCount > 0)
        for (index, connections) in net.accepted.enumerated() {
            #expect(connections.allSatisfy { $0.ids.allSatisfy { QUICMember(index, of: 3).owner(of: $0) == index } })
        }
        let id = try dialed[0].openStream(now: net.now)
        dialed[0].send(Bytes([UInt8](repeating: 3, count: 20_000)), on: id)
        net.settle()
        let received = net.accepted.joined().flatMap { connection in
            var pieces: [Int] = []
            while let event = connection.nextEvent() {
                if case .data(_, let bytes) = event { pieces.append(bytes.count) }
            }
            return pieces
        }
        #expect(received.reduce(0, +) == 20_000)
    }

    @Test func whatWaitsToBeHandedOverIsLimited() {
        var configuration = QUICConfiguration()
        configuration.maximumForwards = 8
        let now = Instant(nanoseconds: 1_000_000_000)
        var random = RandomSource(seed: 1)
        let group = QUICEndpointGroup(count: 2, random: &random)
        let side = QUICSide(2, port: 1002, now: now, configuration: configuration, group: group, index: 0)
        for _ in 0..<20 {
            [UInt8](repeating: 0x41, count: 60).withUnsafeBytes {
                side.endpoint.receive($0, datagramSize: 60, from: QUICAddress(.v4(.loopback), port: 9), now: now)
            }
        }
        var count = 0
        while let datagram = side.endpoint.nextForward() {
            #expect(datagram.member == 1)
            #expect(datagram.bytes.count == 60)
            count += 1
        }
        #expect(count == 8)
        #expect(side.endpoint.droppedCount == 12)
    }

    // MARK: Stateless resets

    private func answerCount(_ side: QUICSide) -> Int {
        var count = 0
        while side.endpoint.nextAnswer() != nil { count += 1 }
        return count
    }

    /// A peer that restarts knows nothing of its connections, and what it says bears a random id.
    @Test func aResetFindsItsConnectionAtWhicheverMemberItArrives() throws {
        let net = QUICGroupHarness(count: 3)
        let peer = QUICSide(50, port: 2050, now: net.now)
        let dialed = try net.dial(from: 1, to: peer)
        net.settle()
        #expect(dialed.remote != nil)
        let id = try dialed.openStream(now: net.now)
        dialed.send([1, 2, 3], on: id)
        let reborn = QUICSide(51, port: 2050, now: net.now, key: peer.key)
        for bytes in net.pending(dialed) {
            bytes.withUnsafeBytes {
                reborn.endpoint.receive($0, datagramSize: $0.count, from: net.members[1].address, now: net.now)
            }
        }
        let (reset, _) = try #require(reborn.endpoint.nextAnswer())
        var bytes = reset.array
        // For the third, as the kernel sees it.
        bytes[1] = 2
        net.give(bytes, from: 2050, to: 2)
        #expect(dialed.isClosed)
        net.settle()
        #expect(net.answers.isEmpty)
    }

    @Test func allWithTheAddressAreAskedBeforeOneAnswers() throws {
        let net = QUICGroupHarness(count: 4)
        let peer = QUICSide(50, port: 2050, now: net.now)
        let dialed = try [1, 2, 3].map { try net.dial(from: $0, to: peer) }
        net.settle()
        #expect(net.forwardCount == 0)
        // An id of nobody: from the first to the three others, the last of which answers.
        net.give([0x40, 0] + [UInt8](repeating: 9, count: 50), from: 2050, to: 0)
        #expect(net.forwardCount == 3)
        // From an address of nobody: no one is asked.
        net.give([0x40, 0] + [UInt8](repeating: 9, count: 50), from: 9, to: 0)
        #expect(net.forwardCount == 3)
        #expect(net.members.map(answerCount) == [1, 0, 0, 1])
        #expect(dialed.allSatisfy { !$0.isClosed })
    }

    @Test func questionsAndResetsAreRationedForAll() throws {
        var configuration = QUICConfiguration()
        configuration.resetsPerSecond = 5
        let net = QUICGroupHarness(count: 4, configuration: configuration)
        let peer = QUICSide(50, port: 2050, now: net.now)
        let dialed = try net.dial(from: 3, to: peer)
        net.settle()
        for round in 0..<40 as Range<UInt8> {
            let index = Int(round % 3)
            net.give([0x40, UInt8(index)] + [UInt8](repeating: round, count: 50), from: 2050, to: index)
        }
        #expect(net.forwardCount == 5)
        #expect(net.members.map(answerCount).reduce(0, +) == 5)
        for round in 0..<40 as Range<UInt8> {
            let index = Int(round % 3)
            let later = net.now + .seconds(2)
            net.give([0x40, UInt8(index)] + [UInt8](repeating: round, count: 50), from: 2050, to: index, now: later)
        }
        #expect(net.forwardCount == 10)
        #expect(!dialed.isClosed)
    }

    @Test func aMemberIsNotAskedForAConnectionThatEnded() throws {
        let net = QUICGroupHarness(count: 2)
        let peer = QUICSide(50, port: 2050, now: net.now)
        let dialed = try net.dial(from: 1, to: peer)
        net.settle()
        dialed.close(now: net.now)
        net.settle()
        #expect(dialed.isClosed)
        net.give([0x40, 0] + [UInt8](repeating: 9, count: 50), from: 2050, to: 0)
        #expect(net.forwardCount == 0)
    }

    // MARK: Limits

    @Test func aRetryIsGoodAtEveryMember() throws {
        var configuration = QUICConfiguration()
        configuration.retryThreshold = 0
        let net = QUICGroupHarness(count: 2, configuration: configuration)
        let client = try net.dial(1)
        let first = try #require(net.pending(client).first)
        net.give(first, from: 2001, to: QUICGroupHarness.kernel(first, 2))
        let retrying = try #require(
            net.members.firstIndex { $0.endpoint.member.index == QUICGroupHarness.kernel(first, 2) })
        let (retry, _) = try #require(net.members[retrying].endpoint.nextAnswer())
        // The id to use from now on is one of the same member.
        let length = Int(retry.array[5])
        #expect(Int(retry.array[7 + length]) % 2 == retrying)
        retry.withUnsafeBytes {
            net.clients[0].endpoint.receive($0, datagramSize: $0.count, from: net.members[0].address, now: net.now)
        }
        while net.clients[0].endpoint.nextTouched() != nil {}
        // The answer of the client is taken by the other, as if handed to it.
        let second = try #require(net.pending(client).first)
        let other = 1 - retrying
        let forwarded = second.withUnsafeBytes {
            ForwardedDatagram($0, from: net.clients[0].address, to: other)
        }
        net.members[other].endpoint.receive(forwarded, now: net.now)
        #expect(net.members[other].endpoint.handshakeCount == 1)
        #expect(net.members[other].endpoint.nextAnswer() == nil)
    }

    @Test func underLoadClientsShowTheirAddressAndAreTaken() throws {
        var configuration = QUICConfiguration()
        configuration.retryThreshold = 0
        let net = QUICGroupHarness(count: 3, configuration: configuration)
        let dialed = try (1...6).map { try net.dial($0) }
        net.settle()
        #expect(net.answers.count == 6)
        #expect(net.forwardCount == 0)
        #expect(dialed.allSatisfy { $0.remote != nil })
    }

    @Test func handshakesAreLimitedForAll() throws {
        var configuration = QUICConfiguration()
        configuration.maximumHandshakes = 4
        let net = QUICGroupHarness(count: 3, configuration: configuration)
        for number in 1...10 as ClosedRange<UInt64> {
            let connection = try net.dial(number)
            let first = try #require(net.pending(connection).first)
            net.give(first, from: 2000 + UInt16(number), to: QUICGroupHarness.kernel(first, 3))
        }
        #expect(net.group.handshakeCount == 4)
        #expect(net.members.map(\.endpoint.handshakeCount).reduce(0, +) == 4)
        #expect(net.members.map(\.endpoint.droppedCount).reduce(0, +) == 6)
    }

    @Test func connectionsAreLimitedForAllAndCountedOut() throws {
        var configuration = QUICConfiguration()
        configuration.maximumConnections = 2
        let net = QUICGroupHarness(count: 2, configuration: configuration)
        let peer = QUICSide(50, port: 2050, now: net.now)
        let dialed = try (0..<2).map { try net.dial(from: $0, to: peer) }
        #expect(throws: QUICDialError.tooManyConnections(limit: 2)) { try net.dial(from: 0, to: peer) }
        net.settle()
        dialed[0].close(now: net.now)
        net.settle()
        _ = try net.dial(from: 1, to: peer)
    }
}
