import MartletCore
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Shows how far a transfer is, with its speed and the time left: a bar that moves on a terminal, a line now and then
/// elsewhere, JSON objects on standard output for machines. Any thread may call it.
final class ProgressDisplay: Sendable {
    private enum Style { case bar, lines, json }

    private struct State {
        var speed = SpeedMeter()
        var shownAt: Instant?
        var isBarOpen = false
    }

    private struct Line: Encodable {
        let bytes: Int
        let total: Int
        let mbPerS: Double
        let secondsLeft: Double?
    }

    private struct Report: Encodable {
        let progress: Line
    }

    private let style: Style
    private let state = Mutex(State())

    init(json: Bool) {
        style = json ? .json : isatty(STDERR_FILENO) == 1 ? .bar : .lines
    }

    private var interval: Duration {
        switch style {
        case .bar: .milliseconds(100)
        case .lines: .seconds(2)
        case .json: .milliseconds(250)
        }
    }

    func show(_ progress: TransferProgress, now: Instant = .systemNow()) {
        state.withLock { state in
            state.speed.note(progress.bytes, at: now)
            let isComplete = progress.bytes >= progress.total
            // A line that comes with the first piece says nothing yet.
            let shownAt =
                state.shownAt ?? (style == .lines ? now : Instant(nanoseconds: now.nanoseconds - 1_000_000_000))
            state.shownAt = shownAt
            guard now - shownAt >= interval || (isComplete && style == .bar) else { return }
            state.shownAt = now
            print(progress, &state)
        }
    }

    private func print(_ progress: TransferProgress, _ state: inout State) {
        let speed = state.speed.bytesPerSecond
        let left = speed > 0 ? Double(max(0, progress.total - progress.bytes)) / speed : nil
        switch style {
        case .json:
            Output.json(
                Report(
                    progress: Line(
                        bytes: progress.bytes, total: progress.total, mbPerS: Text.rounded(speed / 1e6),
                        secondsLeft: left.map { Text.rounded($0, 1) })))
        case .lines:
            Output.progress(Self.figures(progress, speed, left) + "\n")
        case .bar:
            state.isBarOpen = true
            Output.progress("\r" + Self.bar(progress, speed, left, width: Self.terminalWidth) + "\u{1B}[K")
        }
    }

    /// Leaves the line of the bar.
    func end() {
        state.withLock { state in
            if state.isBarOpen { Output.progress("\n") }
            state.isBarOpen = false
        }
    }

    private static var terminalWidth: Int {
        var size = winsize()
        return ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0 ? Int(size.ws_col) : 80
    }

    private static func part(_ progress: TransferProgress) -> Double {
        progress.total > 0 ? min(1, Double(progress.bytes) / Double(progress.total)) : 1
    }

    static func figures(_ progress: TransferProgress, _ speed: Double, _ left: Double?) -> String {
        let percent = Int(part(progress) * 100)
        let remaining = left.map { Text.duration(seconds: $0) + " left" } ?? "waiting"
        return
            "\(percent) %  \(Text.bytes(progress.bytes)) of \(Text.bytes(progress.total))  \(Text.speed(speed))  \(remaining)"
    }

    static func bar(_ progress: TransferProgress, _ speed: Double, _ left: Double?, width: Int) -> String {
        let figures = figures(progress, speed, left)
        let room = min(40, width - figures.count - 4)
        guard room >= 8 else { return String(figures.prefix(max(0, width - 1))) }
        let full = Int(part(progress) * Double(room))
        return "[" + String(repeating: "#", count: full) + String(repeating: ".", count: room - full) + "] " + figures
    }
}

/// The speed of a transfer, averaged over the last few seconds, so that it is steady to look at and still follows.
struct SpeedMeter {
    private static let window = Duration.seconds(3)
    private var samples: [(at: Instant, bytes: Int)] = []

    private(set) var bytesPerSecond = 0.0

    mutating func note(_ bytes: Int, at now: Instant) {
        // Some ten samples a second are plenty.
        if let last = samples.last, now - last.at < .milliseconds(100), samples.count > 1 {
            samples[samples.count - 1].bytes = bytes
        } else {
            samples.append((now, bytes))
        }
        while samples.count > 2, now - samples[1].at >= Self.window { samples.removeFirst() }
        guard let first = samples.first, now > first.at else { return }
        bytesPerSecond = Double(max(0, bytes - first.bytes)) / (now - first.at).secondsAsDouble
    }
}
