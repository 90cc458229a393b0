import TestVectors
import Testing

@testable import MartletCore

private let peer = "12D3KooWCryG7Mon9orvQxcS1rYZjotPgpwoJNHHKcLLfE4Hf5mV"

@Test func multiaddrsOfOtherImplementationsAreReadAndWritten() throws {
    for row in try vectors("multiaddr-valid.tsv") {
        let (text, binary, written) = (row[1], row[2], row[3])
        let address = try Multiaddr(text)
        if binary != "-" {
            #expect(hex(address.bytes) == binary)
            #expect(try Multiaddr(bytes: hex(binary)) == address)
        }
        if written != "-" { #expect(address.description == written) }
        #expect(try Multiaddr(address.description) == address)
        #expect(try Multiaddr(bytes: address.bytes) == address)
        #expect(try Multiaddr(Array(address.components)) == address)
        #expect(Array(address.components).map(\.code) == address.protocolCodes)
    }
}

@Test func textsThatOtherImplementationsRefuseAreRefused() throws {
    for row in try vectors("multiaddr-invalid.txt") {
        #expect(throws: MultiaddrError.self, "\(row[0])") { try Multiaddr(row[0]) }
    }
}

@Test func protocolsNotKnownHereAreNamed() throws {
    for row in try vectors("multiaddr-unknown.txt") {
        let error = failure { () throws(MultiaddrError) in try Multiaddr(row[0]) }
        #expect(error?.code == .unknownProtocol)
        #expect(error?.message.contains("is not a protocol known here") == true)
    }
}

@Test(arguments: [
    ("/ip4/1.2.3.400/tcp/1", "invalid multiaddr \"/ip4/1.2.3.400/tcp/1\": ip4 \"1.2.3.400\" is not an IPv4 address"),
    ("/ip4/1.2.3.4/tcp/70000", "tcp \"70000\" is not a port number (0 to 65535)"),
    ("/ip4/1.2.3.4/tcp/080", "tcp \"080\" is not a port number (0 to 65535)"),
    ("/ip6/1.2.3.4", "ip6 \"1.2.3.4\" is not an IPv6 address"),
    ("/ip4/1.2.3.4/tcp", "tcp needs a port number (0 to 65535) after it"),
    ("/ip4/1.2.3.4//tcp/1", "an empty part"),
    ("/ip4/1.2.3.4/tpc/1", "\"tpc\" is not a protocol known here"),
    ("127.0.0.1:4001", "does not begin with \"/\""),
    ("/ip4/1.2.3.4/p2p/12D3Koo0", "p2p \"12D3Koo0\" is not a peer id"),
    ("/dns4/ho st/tcp/1", "dns4 \"ho st\" is not a domain name"),
    ("", "it is empty"), ("/", "it has no parts"),
    ("/unix/", "unix needs a path"), ("/certhash/uAA", "certhash"),
    ("/dns/a\u{1B}[31m", "dns \"a\\u{1b}[31m\""),
    ("/memory/18446744073709551616", "memory \"18446744073709551616\" is not a number of 64 bits"),
    ("/ip4/1.2.3.4/ipcidr/129", "ipcidr \"129\" is not a prefix length"),
    ("/http-path/a%2", "http-path \"a%2\" is not a percent-encoded path"),
])
func errorsNameThePartThatIsWrong(text: String, message: String) throws {
    let error = try #require(failure { () throws(MultiaddrError) in try Multiaddr(text) })
    #expect(error.description.contains(message), "\(error)")
}

@Test func errorsStayShortAndPrintable() throws {
    let error = try #require(
        failure { () throws(MultiaddrError) in try Multiaddr("/dns/" + String(repeating: "x\n", count: 2000)) })
    #expect(error.description.utf8.count < 1200)
    #expect(!error.description.contains("\n"))
    #expect(error.code == .tooLong || error.code == .invalidValue)
}

@Test(arguments: [
    ("", "multiaddr: empty"),
    ("0401", "ends too early: 4 bytes needed, 1 left"),
    ("84010001", "multiaddr: protocol 132 is not known here"),
    ("ffffffffffffffff7f", "multiaddr: protocol 9223372036854775807 is not known here"),
    ("3500", "multiaddr dns: empty or not UTF-8"),
    ("3502c328", "multiaddr dns: empty or not UTF-8"),
    ("3503612f62", "multiaddr dns: a name has no slashes, spaces or control characters"),
    ("35fe01", "multiaddr dns is 254 bytes long, the limit is 253"),
    ("2b81", "multiaddr ipcidr: a prefix has at most 128 bits, not 129"),
    ("8600", "a varint is not in its shortest form"),
    ("9003022f610604d2", "multiaddr unix: a path must be the last part"),
    ("90030161", "multiaddr unix: the path is not absolute"),
    ("a5030a1a080102030405060708", "multiaddr p2p: a multihash that no peer has"),
    ("a5032d002b" + String(repeating: "07", count: 43), "multiaddr p2p: a multihash that no peer has"),
    ("90032f", "ends too early: 47 bytes needed, 0 left"),
])
func binaryErrorsNameThePart(binary: String, message: String) throws {
    let bytes = try hex(binary)
    let error = failure { () throws(DecodingError) in try Multiaddr(bytes: bytes) }
    #expect(error?.description == message)
}

// go-multiaddr, TestInvalidP2PAddrBytes: a sha2-256 of 33 bytes.
@Test func aPeerIDThatIsNoMultihashIsRefused() throws {
    let bytes = try hex("a503221221c05877cbae039d70a5e600ea02c6f9f2942439285c9e344e26f8d280c850fad6")
    #expect(throws: DecodingError.self) { try Multiaddr(bytes: bytes) }
    #expect(throws: MultiaddrError.self) { try Multiaddr([.p2p([1, 2, 3])]) }
}

@Test func everyLimitIsReached() throws {
    let parts = [Multiaddr.Component](repeating: .noise, count: Multiaddr.maximumComponentCount)
    let most = try Multiaddr(parts)
    #expect(try Multiaddr(most.description) == most)
    #expect(try Multiaddr(bytes: most.bytes) == most)
    #expect(failure { () throws(MultiaddrError) in try Multiaddr(parts + [.tls]) }?.code == .tooLong)
    #expect(failure { () throws(MultiaddrError) in try Multiaddr(most.description + "/tls") }?.code == .tooLong)
    #expect(failure { () throws(MultiaddrError) in try most.encapsulating(.tls) }?.code == .tooLong)
    #expect(throws: DecodingError.tooLong(field: "multiaddr components", length: 33, limit: 32)) {
        try Multiaddr(bytes: most.bytes + [0xC0, 0x03])
    }

    let name = String(repeating: "a", count: 253)
    let long = try Multiaddr([.dns(name), .dns(name), .dns(name), .dns(name)])
    #expect(long.bytes.count == Multiaddr.maximumByteCount)
    #expect(try Multiaddr(bytes: long.bytes) == long)
    #expect(try Multiaddr(long.description) == long)
    #expect(failure { () throws(MultiaddrError) in try long.encapsulating(.sni(name)) }?.code == .tooLong)
    #expect(failure { () throws(MultiaddrError) in try Multiaddr(long.description + "/sni/\(name)") }?.code == .tooLong)
    #expect(throws: DecodingError.tooLong(field: "multiaddr", length: 1025, limit: 1024)) {
        try Multiaddr(bytes: [UInt8](repeating: 6, count: 1025))
    }
    #expect(failure { () throws(MultiaddrError) in try Multiaddr("/dns/\(name)a") }?.code == .invalidValue)
    #expect(
        failure { () throws(MultiaddrError) in try Multiaddr("/" + String(repeating: "a", count: 5000)) }?.code
            == .tooLong)
    #expect(throws: MultiaddrError.self) { try Multiaddr("/unix/" + String(repeating: "a", count: 107)) }
    #expect(throws: Never.self) { try Multiaddr("/unix/" + String(repeating: "a", count: 106)) }
}

@Test func componentsComeOneByOne() throws {
    let address = try Multiaddr("/dns4/relay.example.org/tcp/443/wss/p2p/\(peer)/p2p-circuit/p2p/\(peer)")
    let id = try Base58.decode(peer)
    #expect(
        Array(address.components) == [
            .dns4("relay.example.org"), .tcp(443), .wss, .p2p(id), .p2pCircuit, .p2p(id),
        ])
    #expect(address.first(.tcp) == .tcp(443))
    #expect(address.first(.udp) == nil)
    #expect(address.last == .p2p(id))
    #expect(address.lastPeerIDBytes == id)
    #expect(address.domainName == "relay.example.org")
    #expect(address.ipAddress == nil)
    #expect(address.port == 443)
    #expect(address.isCircuit)
}

@Test func addressesGrowAndShrink() throws {
    let base = try Multiaddr("/ip4/192.0.2.1/tcp/4001")
    let id = try Base58.decode(peer)
    let whole = try base.encapsulating(.p2p(id))
    #expect(whole.description == "/ip4/192.0.2.1/tcp/4001/p2p/\(peer)")
    #expect(whole.droppingLast() == base)
    #expect(whole.droppingLast(0) == whole)
    #expect(whole.droppingLast(3) == nil)
    #expect(whole.droppingLast(99) == nil)
    let circuit = try whole.encapsulating(.p2pCircuit).encapsulating(Multiaddr("/p2p/\(peer)"))
    #expect(circuit.prefix(before: .p2pCircuit) == whole)
    #expect(try circuit.suffix(after: .p2pCircuit) == Multiaddr("/p2p/\(peer)"))
    #expect(circuit.prefix(before: .ip4) == nil)
    #expect(circuit.prefix(before: .quic) == circuit)
    #expect(circuit.suffix(after: .quic) == nil)
    #expect(try whole.encapsulating(.p2pCircuit).suffix(after: .p2pCircuit) == nil)
    #expect(base.replacingPort(80).description == "/ip4/192.0.2.1/tcp/80")
    #expect(
        failure { () throws(MultiaddrError) in try Multiaddr("/unix/a").encapsulating(.p2p(id)) }?.code == .misplaced)
    #expect(failure { () throws(MultiaddrError) in try Multiaddr([]) }?.code == .empty)
}

@Test(arguments: [
    ("/ip4/1.2.3.4/tcp/1", Multiaddr.TransportKind.tcp), ("/dns/example.com/tcp/1/noise", .tcp),
    ("/ip4/1.2.3.4/udp/1/quic-v1", .quicV1), ("/ip4/1.2.3.4/udp/1/quic", .quicDraft29),
    ("/ip4/1.2.3.4/tcp/1/ws", .webSocket),
    ("/ip4/1.2.3.4/tcp/1/wss", .secureWebSocket), ("/ip4/1.2.3.4/tcp/1/tls/sni/a.b/ws", .secureWebSocket),
    ("/ip4/1.2.3.4/udp/1/quic-v1/webtransport", .webTransport), ("/ip4/1.2.3.4/udp/1/webrtc-direct", .webRTCDirect),
    ("/ip4/1.2.3.4/tcp/1/p2p/\(peer)/p2p-circuit", .circuit), ("/unix/run/martlet.sock", .unix), ("/memory/1", .memory),
    ("/ip4/1.2.3.4/udp/1", .udp), ("/ip4/1.2.3.4/tcp/1/http", .http), ("/ip4/1.2.3.4/tcp/1/p2p/\(peer)", .tcp),
])
func transportsAreRecognised(text: String, kind: Multiaddr.TransportKind) throws {
    #expect(try Multiaddr(text).transportKind == kind)
}

// The first rows from go-multiaddr 7fae00a, net/private_test.go.
@Test(arguments: [
    ("/ip4/192.168.1.1/tcp/80", AddressScope?.some(.privateNetwork)), ("/ip4/1.1.1.1/tcp/80", .global),
    ("/tcp/80/ip4/1.1.1.1", nil), ("/dns/node.libp2p.io/udp/1/quic-v1", .global),
    ("/dns/node.libp2p.local/udp/1/quic-v1", .linkLocal), ("/dns/localhost/udp/1/quic-v1", .loopback),
    ("/dns/a.localhost/tcp/1", .loopback), ("/ip6/2400::1/tcp/10", .global), ("/ip6/2001:db8::42/tcp/10", .reserved),
    ("/ip6/64:ff9b::1.1.1.1/tcp/10", .global), ("/dns4/box.home.arpa/tcp/1", .privateNetwork),
    ("/ip6zone/eth0/ip6/fe80::1/tcp/1", .linkLocal), ("/dnsaddr/EXAMPLE/tcp/1", .reserved), ("/memory/1", .loopback),
    ("/ip4/192.168.0.1/ip6/::1", .privateNetwork), ("/p2p/\(peer)/p2p-circuit/ip4/1.1.1.1", nil),
    ("/ip4/100.64.0.1/udp/1", .carrierNAT), ("/dns/localhost./tcp/1", .loopback),
])
func addressesAreJudgedByTheirFirstPart(text: String, scope: AddressScope?) throws {
    let address = try Multiaddr(text)
    #expect(address.scope == scope)
    #expect(address.isPublic == (scope == .global))
    #expect(address.isLoopback == (scope == .loopback))
    #expect(address.isLinkLocal == (scope == .linkLocal))
    #expect(address.isPrivate == (scope == .privateNetwork || scope == .carrierNAT))
}

@Test func bothTextsOfAPeerIDAreRead() throws {
    let key = try CID("bafzaajaiaejcalj543iwv2d7pkjt7ykvefrkfu7qjfi6sduakhso4lay6abn2d5u")
    let address = try Multiaddr("/p2p/\(key.text(in: .base32))")
    #expect(address.description == "/p2p/\(Base58.encode(key.multihash.bytes))")
    #expect(try Multiaddr("/p2p/\(key.text(in: .base36))") == address)
    #expect(try Multiaddr("/ipfs/\(Base58.encode(key.multihash.bytes))") == address)
    // The CID of content is no peer.
    #expect(throws: MultiaddrError.self) { try Multiaddr("/p2p/\(CID(codec: .raw, multihash: key.multihash))") }
}

@Test func truncatedAddressesNeverTrap() throws {
    for row in try vectors("multiaddr-valid.tsv") where row[2] != "-" {
        let bytes = try hex(row[2])
        for count in 0..<bytes.count {
            let part = Array(bytes[..<count])
            if let address = try? Multiaddr(bytes: part) { #expect(address.bytes == part) }
        }
    }
}

@Test func randomBytesAreRefusedOrRoundTrip() throws {
    var random = RandomSource(seed: 21)
    let codes = Multiaddr.ProtocolCode.allCases
    for _ in 0..<5000 {
        var bytes: [UInt8] = []
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            Varint.append(UInt64(codes.randomElement(using: &random)?.rawValue ?? 4), to: &bytes)
            bytes += random.bytes(Int.random(in: 0...6, using: &random))
        }
        guard let address = try? Multiaddr(bytes: bytes) else { continue }
        #expect(try Multiaddr(address.description) == address, "\(bytes)")
        #expect(try Multiaddr(Array(address.components)) == address)
    }
}

@Test func addressesSortByTheirBytes() throws {
    let texts = ["/ip6/::1/tcp/1", "/ip4/1.2.3.4/tcp/2", "/ip4/1.2.3.4/tcp/1", "/dns/a/tcp/1"]
    let sorted = try texts.map { try Multiaddr($0) }.sorted().map(\.description)
    #expect(sorted == ["/ip4/1.2.3.4/tcp/1", "/ip4/1.2.3.4/tcp/2", "/ip6/::1/tcp/1", "/dns/a/tcp/1"])
}
