import Glibc
import MartletCore
import Testing

@testable import MartletRuntime

@Suite struct SocketAddressTests {
    @Test(arguments: [
        "127.0.0.1:4001", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:4001", "[::]:0", "[2001:db8::1]:443",
        "[fe80::1%2]:9", "/run/martlet.sock",
    ])
    func textGoesThereAndBack(_ text: String) throws {
        #expect(try #require(SocketAddress(text)).description == text)
    }

    @Test(arguments: [
        "", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:+1", "127.0.0.1: 1",
        "1.2.3:4",
        "1.2.3.256:1", "01.2.3.4:5", "::1:80", "[::1]", "[]:1", "[::1:1", "::1]:1", "[1.2.3.4]:5", "[::g]:1",
        "localhost:1",
        "[fe80::1%]:9", "[fe80::1%0]:9", "[fe80::1%nosuchinterface]:9", "[1.2.3.4%1]:9", "x",
    ])
    func otherTextIsNoAddress(_ text: String) {
        #expect(SocketAddress(text) == nil)
    }

    @Test(arguments: [
        "127.0.0.1:4001", "[::1]:4001", "[fe80::1%2]:9", "[2001:db8:1:2:3:4:5:6]:443", "/run/martlet.sock",
    ])
    func systemFormGoesThereAndBack(_ text: String) throws {
        let address = try #require(SocketAddress(text))
        let back = address.withSockaddr { SocketAddress($0, length: $1) }
        #expect(back == .some(address))
    }

    @Test func pathsThatDoNotFitHaveNoSystemForm() {
        #expect(SocketAddress.unix(path: "/" + String(repeating: "x", count: 107)).withSockaddr { _, _ in 1 } == nil)
        #expect(SocketAddress.unix(path: "/" + String(repeating: "x", count: 106)).withSockaddr { _, _ in 1 } == 1)
        #expect(SocketAddress.unix(path: "").withSockaddr { _, _ in 1 } == nil)
        #expect(SocketAddress.unix(path: "/a\0b").withSockaddr { _, _ in 1 } == nil)
    }

    @Test(arguments: [
        ("/ip4/1.2.3.4/tcp/80", "1.2.3.4:80"), ("/ip6/::1/tcp/80", "[::1]:80"),
        ("/ip4/1.2.3.4/udp/9/quic-v1", "1.2.3.4:9"),
        ("/ip6zone/2/ip6/fe80::1/tcp/80", "[fe80::1%2]:80"), ("/unix/run/s", "/run/s"),
    ])
    func theSocketUnderAMultiaddr(_ text: String, _ expected: String) throws {
        #expect(SocketAddress(try Multiaddr(text))?.description == expected)
    }

    @Test(arguments: [
        "/dns/example.org/tcp/80", "/ip4/1.2.3.4", "/ip6zone/nosuchinterface/ip6/fe80::1/tcp/1", "/memory/4",
    ])
    func aMultiaddrWithoutASocket(_ text: String) throws {
        #expect(SocketAddress(try Multiaddr(text)) == nil)
    }

    @Test func multiaddrsOfSockets() throws {
        func tcp(_ text: String) throws -> String { try #require(SocketAddress(text)).tcpMultiaddr().description }
        #expect(try tcp("1.2.3.4:80") == "/ip4/1.2.3.4/tcp/80")
        #expect(try tcp("[::1]:80") == "/ip6/::1/tcp/80")
        #expect(try tcp("[fe80::1%2]:80") == "/ip6zone/2/ip6/fe80::1/tcp/80")
        #expect(try tcp("/run/s") == "/unix/run/s")
        #expect(try SocketAddress("1.2.3.4:80")?.udpMultiaddr().description == "/ip4/1.2.3.4/udp/80")
    }

    @Test func kinds() throws {
        #expect(try #require(SocketAddress("127.8.9.1:1")).isLoopback)
        #expect(try #require(SocketAddress("[::1]:1")).isLoopback)
        #expect(!(try #require(SocketAddress("10.0.0.1:1")).isLoopback))
        #expect(try #require(SocketAddress("0.0.0.0:1")).isUnspecified)
        #expect(try #require(SocketAddress("[::]:1")).isUnspecified)
        #expect(SocketAddress.loopback(port: 1).with(port: 2) == .loopback(port: 2))
    }

    @Test func errorsSayWhatWhereAndWhy() {
        let error = SocketError(.listen, .loopback(port: 4001), code: EADDRINUSE)
        #expect(error.description == "listen on 127.0.0.1:4001: address already in use")
        #expect(SocketError(.startLoop, nil, code: EMFILE).description == "start an event loop: too many open files")
    }
}
