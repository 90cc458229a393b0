import MartletCore
import MartletIdentity
import MartletSwarm
import Testing

@testable import MartletReachability

private let listener = multiaddr("/ip4/0.0.0.0/udp/4001/quic-v1")
private let address = multiaddr("/ip4/11.7.0.9/udp/4001/quic-v1")
private let candidate = AutoNATClient.Candidate(address: address, listener: listener, origin: .observed)

private func second(_ seconds: Int64) -> Instant { Instant(nanoseconds: seconds * 1_000_000_000) }

private func server(_ number: UInt64, at ip: String, isWarm: Bool = true) -> AutoNATClient.Server {
    var random = RandomSource(seed: number)
    return AutoNATClient.Server(
        peer: KeyPair(random: &random).peerID, connection: ConnectionID(rawValue: number),
        address: multiaddr("/ip4/\(ip)/tcp/4001"), warmListeners: isWarm ? [listener] : [])
}

private final class Scene {
    var client = AutoNATClient(random: RandomSource(seed: 1))
    var cancelled: [UInt64] = []

    /// The questions that are to be asked now.
    func asked() -> [(connection: UInt64, nonce: UInt64)] {
        var questions: [(UInt64, UInt64)] = []
        while let order = client.nextOrder() {
            switch order {
            case .ask(let connection, _, let nonce): questions.append((connection.rawValue, nonce))
            case .cancel(_, let nonce): cancelled.append(nonce)
            }
        }
        return questions
    }

    func reach(_ nonce: UInt64, isWarm: Bool = false, at seconds: Int64) {
        let isExpected = client.nonceArrived(nonce, at: listener, isWarm: isWarm)
        #expect(isExpected)
        client.answered(nonce, .success(.dialed(index: 0, .reached)), now: second(seconds))
    }

    func miss(_ nonce: UInt64, at seconds: Int64) {
        client.answered(nonce, .success(.dialed(index: 0, .notReached)), now: second(seconds))
    }

    var verdict: Reachability? { client.reachability.first?.reachability }
}

@Test func threeServersAreAskedOneAfterTheOtherAndTheMajorityDecides() throws {
    let scene = Scene()
    let servers = (1...4).map { server(UInt64($0), at: "11.\($0).1.1") }
    scene.client.update([candidate], servers: servers, now: second(0))
    let first = try #require(scene.asked().first)
    #expect(scene.verdict == .unknown)
    scene.miss(first.nonce, at: 1)
    #expect(scene.verdict == .private)
    scene.reach(try #require(scene.asked().first).nonce, at: 2)
    scene.reach(try #require(scene.asked().first).nonce, at: 3)
    #expect(scene.verdict == .public)
    #expect(scene.asked().isEmpty)
    #expect(scene.client.reachability.first?.successCount == 2)
    #expect(scene.client.reachability.first?.failureCount == 1)
    // A public address is looked at again after an hour.
    #expect(scene.client.deadline == second(3603))
    scene.client.advance(now: second(3603))
    #expect(scene.asked().count == 1)
    #expect(scene.verdict == .public)
}

@Test func serversOfNetworksNotAskedYetComeFirst() throws {
    let scene = Scene()
    let servers = [server(1, at: "11.1.1.1"), server(2, at: "11.1.1.2"), server(3, at: "11.3.1.1")]
    scene.client.update([candidate], servers: servers, now: second(0))
    let first = try #require(scene.asked().first)
    #expect(first.connection == 1)
    scene.miss(first.nonce, at: 1)
    #expect(scene.asked().map(\.connection) == [3])
}

@Test func aPrivateAddressIsAskedAboutSoonerAgain() throws {
    let scene = Scene()
    scene.client.update([candidate], servers: [server(1, at: "11.1.1.1")], now: second(0))
    scene.miss(try #require(scene.asked().first).nonce, at: 1)
    #expect(scene.verdict == .private)
    #expect(scene.client.deadline == second(301))
    // Meanwhile a server that appears is asked at once.
    scene.client.update(
        [candidate], servers: [server(1, at: "11.1.1.1"), server(2, at: "11.2.1.1")], now: second(10))
    #expect(scene.asked().map(\.connection) == [2])
}

@Test func aNonceThatDoesNotArriveWhereItShouldCountsForNothing() throws {
    let scene = Scene()
    scene.client.update([candidate], servers: [server(1, at: "11.1.1.1")], now: second(0))
    let nonce = try #require(scene.asked().first).nonce
    for (said, place) in [(nonce, multiaddr("/ip4/0.0.0.0/tcp/4001")), (nonce ^ 1, listener), (nonce, nil)] {
        let isExpected = scene.client.nonceArrived(said, at: place, isWarm: false)
        #expect(!isExpected)
    }
    // A server that only says so is not believed.
    scene.client.answered(nonce, .success(.dialed(index: 0, .reached)), now: second(1))
    #expect(scene.verdict == .unknown)
    #expect(scene.client.reachability.first?.successCount == 0)
}

@Test func refusalsAndErrorsSayNothingAndARejectionGivesTheServerRest() throws {
    let scene = Scene()
    let servers = [server(1, at: "11.1.1.1"), server(2, at: "11.2.1.1")]
    scene.client.update([candidate], servers: servers, now: second(0))
    scene.client.answered(try #require(scene.asked().first).nonce, .success(.rejected), now: second(1))
    scene.client.answered(
        try #require(scene.asked().first).nonce, .failure(.protocolNotSupported(["x"])), now: second(2))
    #expect(scene.verdict == .unknown)
    #expect(scene.asked().isEmpty)
    // Another address is not asked about where the last answer was a rejection.
    let other = AutoNATClient.Candidate(
        address: multiaddr("/ip4/11.7.0.9/udp/9/quic-v1"), listener: listener, origin: .mapped)
    scene.client.update([candidate, other], servers: servers, now: second(20))
    #expect(scene.asked().map(\.connection) == [2])
}

@Test func aQuestionWithoutAnswerIsGivenUp() throws {
    let scene = Scene()
    scene.client.update([candidate], servers: [server(1, at: "11.1.1.1")], now: second(0))
    let nonce = try #require(scene.asked().first).nonce
    #expect(scene.client.deadline == second(30))
    scene.client.advance(now: second(30))
    #expect(scene.asked().isEmpty)
    #expect(scene.cancelled == [nonce])
    scene.client.answered(nonce, .success(.dialed(index: 0, .notReached)), now: second(31))
    #expect(scene.verdict == .unknown)
}

@Test func oneServerIsNotAskedAboutEverythingAtOnce() {
    let scene = Scene()
    let candidates = (1...40).map {
        AutoNATClient.Candidate(
            address: multiaddr("/ip4/11.7.0.9/udp/\($0)/quic-v1"), listener: listener, origin: .mapped)
    }
    scene.client.update(candidates, servers: [server(1, at: "11.1.1.1")], now: second(0))
    #expect(scene.client.reachability.count == scene.client.configuration.maximumAddresses)
    #expect(scene.asked().count == 1)
    #expect(scene.client.deadline == second(6))
    scene.client.advance(now: second(6))
    #expect(scene.asked().count == 1)
}

@Test func questionsUnderWayAreLimited() {
    let scene = Scene()
    let candidates = (1...10).map {
        AutoNATClient.Candidate(
            address: multiaddr("/ip4/11.7.0.9/udp/\($0)/quic-v1"), listener: listener, origin: .mapped)
    }
    let servers = (1...10).map { server(UInt64($0), at: "11.\($0).1.1") }
    scene.client.update(candidates, servers: servers, now: second(0))
    #expect(scene.asked().count == scene.client.configuration.maximumProbes)
}

@Test func neighboursAndRelaysAreNotAskedNorPrivateAddressesAskedAbout() {
    let scene = Scene()
    let lan = AutoNATClient.Candidate(
        address: multiaddr("/ip4/192.168.1.2/udp/4001/quic-v1"), listener: listener, origin: .listening)
    scene.client.update([lan, candidate], servers: [server(1, at: "192.168.1.1")], now: second(0))
    #expect(scene.asked().isEmpty)
    #expect(scene.client.reachability.map(\.address) == [address])

    var configuration = AutoNATClient.Configuration()
    configuration.asksAboutPrivateAddresses = true
    scene.client = AutoNATClient(configuration: configuration, random: RandomSource(seed: 1))
    scene.client.update([lan], servers: [server(1, at: "192.168.1.1")], now: second(0))
    #expect(scene.asked().count == 1)
}

@Test func anAddressNoLongerNamedIsForgottenAndItsQuestionGivenUp() throws {
    let scene = Scene()
    scene.client.update([candidate], servers: [server(1, at: "11.1.1.1")], now: second(0))
    let nonce = try #require(scene.asked().first).nonce
    scene.client.update([], servers: [], now: second(1))
    _ = scene.asked()
    #expect(scene.cancelled == [nonce])
    #expect(scene.client.reachability.isEmpty)
    #expect(scene.client.deadline == nil)
}

@Test func whoeverThisNodeTalksToIsNoStranger() throws {
    let scene = Scene()
    let servers = (1...5).map { server(UInt64($0), at: "11.\($0).1.1") }
    scene.client.update([candidate], servers: servers, now: second(0))
    scene.reach(try #require(scene.asked().first).nonce, isWarm: true, at: 1)
    #expect(scene.verdict == .unknown)
    #expect(scene.client.reachability.first?.successCount == 1)
    scene.reach(try #require(scene.asked().first).nonce, isWarm: true, at: 2)
    #expect(scene.verdict == .unknown)
    // From an address that the socket never sent anything to.
    scene.reach(try #require(scene.asked().first).nonce, isWarm: false, at: 3)
    #expect(scene.verdict == .public)
}

@Test func ofTwoDialsOfOneServerTheStrangersCounts() throws {
    for order in [[true, false], [false, true]] {
        let scene = Scene()
        scene.client.update([candidate], servers: [server(1, at: "11.1.1.1")], now: second(0))
        let nonce = try #require(scene.asked().first).nonce
        for isWarm in order {
            let isExpected = scene.client.nonceArrived(nonce, at: listener, isWarm: isWarm)
            #expect(isExpected)
        }
        scene.client.answered(nonce, .success(.dialed(index: 0, .reached)), now: second(1))
        #expect(scene.verdict == .public)
    }
}

/// What it means for an address that only those reach who were sent something, by what else is known of the NAT.
@Test(
    arguments: [
        (.observed, .unknown, .unknown), (.observed, .endpointIndependent, .public), (.observed, .dependent, .private),
        (.observed, .addressDependent, .private), (.listening, .addressAndPortDependent, .private),
        // The NAT's other ports tell nothing of one that is forwarded.
        (.forwarded, .addressDependent, .unknown), (.mapped, .endpointIndependent, .unknown),
    ] as [(AddressOrigin, NATFiltering, Reachability)])
func whatElseIsKnownOfTheNATDecides(_ origin: AddressOrigin, _ filtering: NATFiltering, _ verdict: Reachability) throws
{
    for isKnownBefore in [true, false] {
        let scene = Scene()
        if isKnownBefore { scene.client.noteFiltering([listener: filtering]) }
        let candidate = AutoNATClient.Candidate(address: address, listener: listener, origin: origin)
        scene.client.update([candidate], servers: [server(1, at: "11.1.1.1")], now: second(0))
        scene.reach(try #require(scene.asked().first).nonce, isWarm: true, at: 1)
        scene.client.noteFiltering([listener: filtering])
        #expect(scene.verdict == verdict)
    }
}

@Test func contactsAreForgottenInTimeAndTheirNumberIsLimited() {
    var contacts = ContactedHosts()
    let host = IPAddress.v4(IPv4Address(11, 1, 1, 1))
    contacts.note(host, from: listener, now: second(0))
    #expect(contacts.contains(host, from: listener, now: second(899)))
    #expect(!contacts.contains(host, from: listener, now: second(900)))
    #expect(!contacts.contains(host, from: multiaddr("/ip4/0.0.0.0/tcp/4001"), now: second(1)))
    #expect(!contacts.contains(.v4(IPv4Address(11, 1, 1, 2)), from: listener, now: second(1)))
    let numbers = 0..<UInt32(2 * ContactedHosts.limit)
    for number in numbers {
        contacts.note(.v4(IPv4Address(rawValue: 0x0C00_0000 + number)), from: listener, now: second(1))
        #expect(contacts.count <= ContactedHosts.limit)
    }
    let last = IPAddress.v4(IPv4Address(rawValue: 0x0C00_0000 + numbers.upperBound - 1))
    #expect(contacts.contains(last, from: listener, now: second(1)))
}

/// What dials tell of a NAT: those from where the socket had sent packets (warm), and those from elsewhere (cold).
@Test(
    arguments: [
        ([], NATFiltering.unknown),
        ([(true, false)], .endpointIndependent),
        ([(true, true)], .unknown),
        ([(true, true), (false, false)], .addressDependent),
        ([(false, true)], .addressAndPortDependent),
        ([(false, false)], .dependent),
        ([(false, false), (false, true)], .addressAndPortDependent),
    ] as [([(isReached: Bool, isWarm: Bool)], NATFiltering)])
func dialsTellHowANATFilters(_ dials: [(isReached: Bool, isWarm: Bool)], _ filtering: NATFiltering) throws {
    let scene = Scene()
    let servers = dials.enumerated().map {
        server(UInt64($0.offset + 1), at: "11.\($0.offset + 1).1.1", isWarm: $0.element.isWarm)
    }
    scene.client.update([candidate], servers: servers, now: second(0))
    for index in dials.indices {
        let question = try #require(scene.asked().first)
        let dial = dials[Int(question.connection) - 1]
        if dial.isReached {
            scene.reach(question.nonce, isWarm: dial.isWarm, at: Int64(index))
        } else {
            scene.miss(question.nonce, at: Int64(index))
        }
    }
    #expect(scene.client.filtering(of: listener) == filtering)
}
