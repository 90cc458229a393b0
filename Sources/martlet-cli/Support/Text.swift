/// Numbers as people read them.
enum Text {
    /// `value` with `digits` digits after the point: `fixed(2.5, 2)` is "2.50".
    static func fixed(_ value: Double, _ digits: Int) -> String {
        guard value.isFinite, abs(value) < 1e15 else { return "\(value)" }
        var scale: Int64 = 1
        for _ in 0..<digits { scale *= 10 }
        let scaled = Int64((abs(value) * Double(scale)).rounded())
        let sign = value < 0 && scaled != 0 ? "-" : ""
        guard digits > 0 else { return "\(sign)\(scaled)" }
        let fraction = String(scaled % scale)
        return "\(sign)\(scaled / scale)." + String(repeating: "0", count: digits - fraction.count) + fraction
    }

    /// 90868376 is "90.9 MB".
    static func bytes(_ count: Int) -> String {
        let units = ["kB", "MB", "GB", "TB", "PB"]
        guard count >= 1000 else { return "\(count) B" }
        var value = Double(count) / 1000
        var unit = 0
        while value >= 999.95, unit < units.count - 1 {
            value /= 1000
            unit += 1
        }
        return "\(fixed(value, value < 100 ? 1 : 0)) \(units[unit])"
    }

    /// Bytes per second: "1.32 GB/s".
    static func speed(_ bytesPerSecond: Double) -> String { bytes(Int(max(0, min(bytesPerSecond, 1e15)))) + "/s" }

    /// "0.042 ms", "1.3 s".
    static func roundTrip(microseconds: Double) -> String {
        microseconds < 1_000_000 ? fixed(microseconds / 1000, 3) + " ms" : fixed(microseconds / 1e6, 2) + " s"
    }

    /// "7 s", "3 min 05 s", "2 h 07 min".
    static func duration(seconds: Double) -> String {
        let total = Int(max(0, min(seconds, 1e9)).rounded(.up))
        func two(_ n: Int) -> String { n < 10 ? "0\(n)" : "\(n)" }
        if total < 60 { return "\(total) s" }
        if total < 3600 { return "\(total / 60) min \(two(total % 60)) s" }
        return "\(total / 3600) h \(two(total / 60 % 60)) min"
    }

    /// Rounds for JSON, where twelve digits of a measurement say nothing.
    static func rounded(_ value: Double, _ digits: Int = 3) -> Double {
        var scale = 1.0
        for _ in 0..<digits { scale *= 10 }
        return (value * scale).rounded() / scale
    }

    static func pad(_ text: String, to width: Int) -> String {
        text.count >= width ? text : text + String(repeating: " ", count: width - text.count)
    }
}
