import MartletCore
import Testing

@testable import MartletReachability

private func addresses(_ text: [String]) -> [IPAddress] { text.compactMap { IPAddress($0) } }

@Test(
    arguments: [
        ([], [], [], nil), (["192.168.1.2"], ["11.7.1.1"], ["192.168.1.1", "11.7.1.254"], nil),
        (["192.168.1.2"], ["100.64.0.7"], [], .carrier),
        (["192.168.1.2"], [], ["192.168.1.1", "100.64.0.1"], .carrier),
        (["100.70.0.2"], [], [], .carrier), (["192.168.1.2"], ["10.0.0.7"], [], .router),
        (["192.168.1.2"], [], ["192.168.1.1", "192.168.0.1", "100.64.0.1"], .carrier),
        (["192.168.1.2"], [], ["192.168.1.1", "192.168.0.1", "11.7.1.254"], .router),
        // Inside the provider's network, beyond its NAT.
        (["192.168.1.2"], [], ["192.168.1.1", "11.7.1.254", "10.1.2.3"], nil),
    ] as [([String], [String], [String], OuterNAT?)])
func aNATInFrontOfTheRouterIsRecognised(_ local: [String], _ gateway: [String], _ routers: [String], _ found: OuterNAT?)
{
    #expect(
        OuterNAT(local: addresses(local), gateway: addresses(gateway), routers: addresses(routers)) == found)
}
