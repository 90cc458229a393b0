public import MartletCore

/// The routes of a Linux machine, as `/proc/net/route` lists them.
public enum RoutingTable {
    /// Bytes of the file that are looked at.
    public static let sizeLimit = 1 << 20

    /// The gateway of the default route with the smallest metric; nil when there is none.
    public static func defaultGateway(in table: [UInt8]) -> IPv4Address? {
        var best: (gateway: IPv4Address, metric: UInt32)?
        for line in table.prefix(sizeLimit).split(separator: UInt8(ascii: "\n")).dropFirst() {
            let fields = line.split { $0 == UInt8(ascii: "\t") || $0 == UInt8(ascii: " ") }
            guard fields.count >= 8, let destination = number(fields[1], radix: 16),
                let gateway = number(fields[2], radix: 16), let flags = number(fields[3], radix: 16),
                let metric = number(fields[6], radix: 10), let mask = number(fields[7], radix: 16)
            else { continue }
            // Up, and by a gateway; addresses are in the machine's byte order.
            guard destination == 0, mask == 0, flags & 3 == 3, gateway != 0, metric < best?.metric ?? .max else {
                continue
            }
            best = (IPv4Address(rawValue: UInt32(bigEndian: gateway)), metric)
        }
        return best?.gateway
    }

    static func number(_ digits: ArraySlice<UInt8>, radix: Int) -> UInt32? {
        digits.count <= 10 ? UInt32(String(decoding: digits, as: UTF8.self), radix: radix) : nil
    }
}
