import ArgumentParser

/// A number of bytes on the command line: `4096`, `128KiB`, `1.5GB`.
struct ByteCount: ExpressibleByArgument, Hashable, Sendable {
    let count: Int

    private static let units: [(name: String, factor: Double)] = [
        ("kib", 1024), ("mib", 1024 * 1024), ("gib", 1024 * 1024 * 1024), ("tib", 1024 * 1024 * 1024 * 1024),
        ("kb", 1e3), ("mb", 1e6), ("gb", 1e9), ("tb", 1e12), ("b", 1), ("", 1),
    ]

    init(_ count: Int) { self.count = count }

    init?(argument: String) {
        let text = argument.lowercased()
        let number = text.prefix { $0.isNumber || $0 == "." }
        let unit = text.dropFirst(number.count).drop { $0 == " " }
        guard let value = Double(number), let factor = Self.units.first(where: { $0.name == unit })?.factor else {
            return nil
        }
        let bytes = value * factor
        guard bytes >= 0, bytes <= 1e18 else { return nil }
        count = Int(bytes)
    }

    var defaultValueDescription: String { "\(count)" }
}
