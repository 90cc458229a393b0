public import MartletCore

extension RoutingTable {
    /// An IPv6 address of this machine.
    public struct InterfaceAddress: Hashable, Sendable {
        public let address: IPv6Address
        public let interface: String
        /// One of those that change from day to day (RFC 8981).
        public let isTemporary: Bool
    }

    /// The gateway of the default route by `interface` with the smallest metric, as `/proc/net/ipv6_route` lists them; nil when
    /// there is none. It is mostly a link-local address.
    public static func defaultGateway(in table: [UInt8], by interface: String) -> IPv6Address? {
        var best: (gateway: IPv6Address, metric: UInt32)?
        for fields in lines(of: table) {
            guard fields.count >= 10, let destination = address(fields[0]), let prefix = number(fields[1], radix: 16),
                let gateway = address(fields[4]), let metric = number(fields[5], radix: 16),
                let flags = number(fields[8], radix: 16), fields[9].elementsEqual(interface.utf8)
            else { continue }
            // Up, and by a gateway.
            guard destination == .any, prefix == 0, flags & 3 == 3, gateway != .any, metric < best?.metric ?? .max
            else {
                continue
            }
            best = (gateway, metric)
        }
        return best?.gateway
    }

    /// The global addresses that others may send to, as `/proc/net/if_inet6` lists them; those that stay come first.
    public static func globalAddresses(in table: [UInt8]) -> [InterfaceAddress] {
        let found = lines(of: table).compactMap { fields -> InterfaceAddress? in
            guard fields.count >= 6, let ip = address(fields[0]), let flags = number(fields[4], radix: 16),
                IPAddress.v6(ip).scope == .global
            else { return nil }
            // Not a double, about to be given up, or not yet known to be no double (IFA_F_… of linux/if_addr.h).
            guard flags & (0x08 | 0x20 | 0x40) == 0 else { return nil }
            return InterfaceAddress(
                address: ip, interface: String(decoding: fields[5], as: UTF8.self), isTemporary: flags & 0x01 != 0)
        }
        return found.filter { !$0.isTemporary } + found.filter(\.isTemporary)
    }

    private static func lines(of table: [UInt8]) -> some Sequence<[ArraySlice<UInt8>]> {
        table.prefix(sizeLimit).split(separator: UInt8(ascii: "\n")).lazy.map { line in
            line.split { $0 == UInt8(ascii: "\t") || $0 == UInt8(ascii: " ") }
        }
    }

    private static func address(_ digits: ArraySlice<UInt8>) -> IPv6Address? {
        guard digits.count == 32, let high = UInt64(String(decoding: digits.prefix(16), as: UTF8.self), radix: 16),
            let low = UInt64(String(decoding: digits.suffix(16), as: UTF8.self), radix: 16)
        else { return nil }
        return IPv6Address(high: high, low: low)
    }
}
