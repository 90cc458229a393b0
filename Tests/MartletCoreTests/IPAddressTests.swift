import MartletCore
import Testing

@Test(arguments: ["0.0.0.0", "1.2.3.4", "127.0.0.1", "255.255.255.255", "10.0.200.99"])
func ipv4TextRoundTrips(text: String) { #expect(IPv4Address(text)?.description == text) }

@Test(arguments: [
    "", "1", "1.2.3", "1.2.3.4.5", "1.2.3.", ".1.2.3", "1..2.3", "256.1.1.1", "1.2.3.400", "01.2.3.4", "1.2.3.00",
    "+1.2.3.4", "-1.2.3.4", " 1.2.3.4", "1.2.3.4 ", "0x1.2.3.4", "١.2.3.4", "1.2.3.4/8", "::1", "1e1.2.3.4",
    "99999999999999999999.1.1.1",
])
func textThatIsNoIPv4AddressIsRefused(text: String) { #expect(IPv4Address(text) == nil) }

// RFC 5952, sections 1 to 5, and RFC 4291, section 2.2.
@Test(arguments: [
    ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"), ("2001:0db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
    ("2001:db8::1:0:0:1", "2001:db8::1:0:0:1"), ("2001:db8::0:1", "2001:db8::1"),
    ("2001:DB8:0:0:1::1", "2001:db8::1:0:0:1"),
    ("2001:db8:aaaa:bbbb:cccc:dddd:0:1", "2001:db8:aaaa:bbbb:cccc:dddd:0:1"),
    ("2001:db8:aaaa:bbbb:cccc:dddd:eeee:AaAa", "2001:db8:aaaa:bbbb:cccc:dddd:eeee:aaaa"),
    ("2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"), ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"),
    ("2001:db8:0:0:0:0:0:0", "2001:db8::"), ("0:0:0:0:0:0:0:0", "::"), ("0:0:0:0:0:0:0:1", "::1"),
    ("0:0:1::", "0:0:1::"), ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"), ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"),
    ("::ffff:192.0.2.128", "::ffff:192.0.2.128"), ("0:0:0:0:0:FFFF:129.144.52.38", "::ffff:129.144.52.38"),
    ("::13.1.68.3", "::d01:4403"), ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"), ("ff01::101", "ff01::101"),
    ("0001:0002:0003:0004:0005:0006:0007:0008", "1:2:3:4:5:6:7:8"),
])
func ipv6TextIsCanonical(text: String, canonical: String) throws {
    let address = try #require(IPv6Address(text))
    #expect(address.description == canonical)
    #expect(IPv6Address(canonical) == address)
}

@Test(arguments: [
    "", ":", ":::", "1", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", ":1:2:3:4:5:6:7", "1:2:3:4:5:6:7:",
    "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8", "12345::", "g::", "fe80::1%eth0", "1.2.3.4", "::1.2.3", "::1.2.3.4:5",
    "1:2:3:4:5:6:7:1.2.3.4", "::ffff:1.2.3.400", "[::1]", " ::1", "::1 ", "::1/64", "1:::2",
    "1:2:3:4:5:6:1.2.3.4:8", "0000:0000:0000:0000:0000:0000:0000:00001",
])
func textThatIsNoIPv6AddressIsRefused(text: String) { #expect(IPv6Address(text) == nil, "\(text)") }

@Test func ipv6TextOfAnyAddressIsReadBack() {
    var random = RandomSource(seed: 11)
    for _ in 0..<2000 {
        // Many groups of zeros, so that runs of all kinds come up.
        let mask = (0..<8).map { _ in Bool.random(using: &random) ? UInt64(0xFFFF) : 0 }
        let high = random.next() & (mask[0] << 48 | mask[1] << 32 | mask[2] << 16 | mask[3])
        let low = random.next() & (mask[4] << 48 | mask[5] << 32 | mask[6] << 16 | mask[7])
        let address = IPv6Address(high: high, low: low)
        #expect(IPv6Address(address.description) == address)
    }
}

// Borders of the ranges of IANA's special-purpose registries.
@Test(arguments: [
    ("0.0.0.0", AddressScope.unspecified), ("0.0.0.1", .reserved), ("127.0.0.1", .loopback),
    ("127.255.255.255", .loopback),
    ("10.0.0.0", .privateNetwork), ("11.0.0.0", .global), ("172.15.255.255", .global), ("172.16.0.0", .privateNetwork),
    ("172.31.255.255", .privateNetwork), ("172.32.0.0", .global), ("192.168.0.1", .privateNetwork),
    ("192.169.0.0", .global),
    ("100.63.255.255", .global), ("100.64.0.0", .carrierNAT), ("100.127.255.255", .carrierNAT),
    ("100.128.0.0", .global),
    ("169.254.1.1", .linkLocal), ("192.0.2.7", .reserved), ("198.51.100.1", .reserved), ("203.0.113.9", .reserved),
    ("198.18.0.1", .reserved), ("198.20.0.1", .global), ("224.0.0.1", .multicast), ("239.255.255.255", .multicast),
    ("240.0.0.1", .reserved), ("255.255.255.255", .reserved), ("8.8.8.8", .global), ("1.1.1.1", .global),
    ("::", .unspecified), ("::1", .loopback), ("::2", .reserved), ("fe80::1", .linkLocal), ("febf::1", .linkLocal),
    ("fec0::1", .privateNetwork), ("fc00::1", .privateNetwork), ("fd12:3456::1", .privateNetwork),
    ("ff02::1", .multicast),
    ("2001:db8::1", .reserved), ("3fff::1", .reserved), ("2400::1", .global), ("2606:4700::1111", .global),
    ("4000::1", .reserved), ("100::1", .reserved), ("::ffff:10.1.2.3", .privateNetwork), ("::ffff:8.8.8.8", .global),
    ("::ffff:127.0.0.1", .loopback), ("64:ff9b::8.8.8.8", .global), ("64:ff9b::192.168.1.1", .privateNetwork),
    ("64:ff9b:1::1", .privateNetwork), ("2002:808:808::1", .global), ("2002:a00:1::1", .privateNetwork),
])
func addressesHaveAScope(text: String, scope: AddressScope) throws {
    #expect(try #require(IPAddress(text)).scope == scope)
}

@Test func networksContainTheirAddresses() throws {
    let network = IPv4Address(192, 168, 0, 0)
    #expect(IPv4Address(192, 168, 255, 1).isIn(network, prefixLength: 16))
    #expect(!IPv4Address(192, 169, 0, 1).isIn(network, prefixLength: 16))
    #expect(IPv4Address(1, 2, 3, 4).isIn(network, prefixLength: 0))
    #expect(network.isIn(network, prefixLength: 32))
    #expect(!IPv4Address(192, 168, 0, 1).isIn(network, prefixLength: 32))
    let six = try #require(IPv6Address("2001:db8::"))
    #expect(try #require(IPv6Address("2001:db8::1")).isIn(six, prefixLength: 64))
    #expect(try #require(IPv6Address("2001:db8::1")).isIn(six, prefixLength: 127))
    #expect(!(try #require(IPv6Address("2001:db8::1")).isIn(six, prefixLength: 128)))
    #expect(!(try #require(IPv6Address("2001:db9::")).isIn(six, prefixLength: 32)))
}

@Test func mappedAddressesAreUnmapped() throws {
    let four = IPv4Address(192, 0, 2, 1)
    #expect(IPAddress.v6(IPv6Address(mapping: four)).unmapped == .v4(four))
    #expect(IPAddress("::1")?.unmapped == .v6(.loopback))
    #expect(IPAddress("nonsense") == nil)
}
