import MartletCore
import Testing

@testable import MartletReachability

@Suite struct ExternalAddressMonitorTests {
    private let start = Instant(nanoseconds: 0)
    private let old = IPAddress.v4(IPv4Address(11, 9, 0, 1))
    private let new = IPAddress.v4(IPv4Address(11, 9, 0, 2))
    private let udp: Multiaddr
    private let tcp: Multiaddr

    init() throws {
        udp = try Multiaddr("/ip4/0.0.0.0/udp/4001/quic-v1")
        tcp = try Multiaddr("/ip4/0.0.0.0/tcp/4001")
    }

    private func host(_ last: UInt8) -> IPAddress { .v4(IPv4Address(11, 7, last, 1)) }

    @Test func anotherAddressSeenByTheSameHostIsAChange() {
        var monitor = ExternalAddressMonitor()
        var found = monitor.noted(old, by: host(1), at: udp, now: start)
        #expect(found == nil)
        found = monitor.noted(old, by: host(1), at: udp, now: start + .seconds(1))
        #expect(found == nil)
        found = monitor.noted(new, by: host(1), at: udp, now: start + .seconds(2))
        #expect(found == old)
        found = monitor.noted(new, by: host(1), at: udp, now: start + .seconds(3))
        #expect(found == nil)
    }

    @Test func addressesThatDifferByHostOrSocketAreNone() {
        var monitor = ExternalAddressMonitor()
        for _ in 0..<3 {
            for (address, host, listener) in [(old, host(1), udp), (new, host(2), udp), (new, host(1), tcp)] {
                let found = monitor.noted(address, by: host, at: listener, now: start)
                #expect(found == nil)
            }
        }
    }

    @Test func oneHostAgainstMoreIsNotBelieved() {
        var monitor = ExternalAddressMonitor()
        for number in 1...3 { _ = monitor.noted(old, by: host(UInt8(number)), at: udp, now: start) }
        var found = monitor.noted(new, by: host(1), at: udp, now: start)
        #expect(found == nil)
        found = monitor.noted(new, by: host(2), at: udp, now: start)
        #expect(found == old)
        // The third comes late, and says nothing new.
        found = monitor.noted(new, by: host(3), at: udp, now: start + .seconds(60))
        #expect(found == nil)
    }

    @Test func aNATThatShowsEachConnectionAnotherAddressIsNoticedNowAndThen() {
        var monitor = ExternalAddressMonitor()
        var count = 0
        for second in 0..<100 {
            let seen = IPAddress.v4(IPv4Address(11, 9, 1, UInt8(second)))
            if monitor.noted(seen, by: host(1), at: udp, now: start + .seconds(Int64(second))) != nil { count += 1 }
        }
        #expect(count == 4)
    }

    @Test func hostsBeyondTheLimitPushOthersOut() {
        var monitor = ExternalAddressMonitor()
        for number in 0...ExternalAddressMonitor.wordLimit {
            let other = IPAddress.v4(IPv4Address(rawValue: 0x0B07_0000 + UInt32(number)))
            _ = monitor.noted(old, by: other, at: udp, now: start)
        }
        // The first is forgotten, and so has nothing to compare with.
        let first = IPAddress.v4(IPv4Address(rawValue: 0x0B07_0000))
        let found = monitor.noted(new, by: first, at: udp, now: start)
        #expect(found == nil)
    }
}
