/// Calls of every kind, some cancelled and some in a hurry, over connections that keep failing and giving way to better
/// ones, and a check that each ended once, ran at most once, and became of it what its caller was told.
///
///     let result = RPCScenario(seed: 7).run()
///     // result.violations is empty
///
/// Everything follows from the seed: the same scenario runs the same way.
public struct RPCScenario: Sendable {
    public var seed: UInt64
    public var callCount = 200
    /// The calls, and the faults, are spread over this time.
    public var duration = Duration.seconds(30)
    /// How often a connection is closed, a better one comes, or the network is cut for longer, on average.
    public var faultInterval = Duration.seconds(1)
    public var conditions = NetworkConditions()

    public init(seed: UInt64) { self.seed = seed }

    /// What came of it.
    public struct Result: Sendable {
        public var succeeded = 0
        public var notSent = 0
        public var maybeExecuted = 0
        /// Calls whose handler said no.
        public var executed = 0
        public var sessionsLost = 0
        public var faults = 0
        /// Lanes that went over from one connection to another while both were there.
        public var moves = 0
        /// What should never be: empty, in a protocol that keeps its word.
        public var violations: [String] = []
    }

    public func run() -> Result { RPCRun(self).run() }
}
