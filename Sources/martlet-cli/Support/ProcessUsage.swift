#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// What this process has cost so far.
enum ProcessUsage {
    /// User and system time of all threads, in seconds.
    static var cpuSeconds: Double {
        let usage = current
        func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
        return seconds(usage.ru_utime) + seconds(usage.ru_stime)
    }

    /// The largest resident size so far, in bytes.
    static var peakResidentBytes: Int {
        #if canImport(Glibc)
            return current.ru_maxrss * 1024
        #else
            return current.ru_maxrss
        #endif
    }

    private static var current: rusage {
        var usage = rusage()
        #if canImport(Glibc)
            getrusage(RUSAGE_SELF.rawValue, &usage)
        #else
            getrusage(RUSAGE_SELF, &usage)
        #endif
        return usage
    }
}
