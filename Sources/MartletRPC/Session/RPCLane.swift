import DequeModule
import MartletCore

/// One lane of a session: its stream as far as there is one, its frames, and the calls that live on it.
final class RPCLane {
    /// How far the lane has come with its stream.
    enum Link: Hashable {
        case none
        /// The caller has said hello and waits for the welcome.
        case greeting
        case open
    }

    let priority: RPCPriority
    @exclusivity(unchecked) var link = Link.none
    /// Streams that the caller has opened so far.
    @exclusivity(unchecked) var linkCount: Int64 = 0
    /// The hello or welcome that goes before everything else.
    @exclusivity(unchecked) var greeting: Bytes?
    /// The part of a welcome that has come.
    @exclusivity(unchecked) var welcomeBytes: [UInt8] = []
    /// When the stream was lost; nil while there is one, or never was.
    @exclusivity(unchecked) var detachedAt: Instant?

    // Sending.
    @exclusivity(unchecked) var log = RPCSendLog()
    /// Calls that have something to send, each once, in turn.
    @exclusivity(unchecked) var ready = Deque<RPCCall>()
    /// Calls with credit to grant or a cancellation to tell.
    @exclusivity(unchecked) var urgent = Deque<RPCCall>()
    @exclusivity(unchecked) private var methodIndices: [String: Int] = [:]
    @exclusivity(unchecked) private var lastMethod = (name: "", index: 0)

    // Receiving.
    @exclusivity(unchecked) var parser: RPCFrameParser
    @exclusivity(unchecked) var receivedCount: Int64 = 0
    @exclusivity(unchecked) var acknowledgedCount: Int64 = 0
    @exclusivity(unchecked) var unacknowledgedBytes = 0
    @exclusivity(unchecked) var acknowledgeAt: Instant?
    /// Method names by their number.
    @exclusivity(unchecked) var methods: [String] = []

    // Calls by number, from 1.
    @exclusivity(unchecked) private(set) var calls = ContiguousArray<RPCCall?>()
    @exclusivity(unchecked) private var freeIDs = ContiguousArray<Int>()

    init(priority: RPCPriority, limits: RPCLimits) {
        self.priority = priority
        parser = RPCFrameParser(limits: limits)
    }

    /// Whether anything was ever sent or received on it.
    var isUsed: Bool { log.frameCount > 0 || receivedCount > 0 || link != .none || detachedAt != nil }

    // MARK: Calls

    /// A number for a new call of the caller's; nil when `limit` are in use.
    func makeID(limit: Int) -> Int? {
        if let id = freeIDs.popLast() { return id }
        guard calls.count < limit else { return nil }
        calls.append(nil)
        return calls.count
    }

    func call(_ id: Int) -> RPCCall? {
        id > 0 && id <= calls.count ? calls[id - 1] : nil
    }

    /// Takes in a call under its number, which is in use by none.
    func add(_ call: RPCCall) {
        while calls.count < call.id { calls.append(nil) }
        calls[call.id - 1] = call
    }

    /// Gives the number free.
    func remove(_ call: RPCCall) {
        guard call.id > 0, call.id <= calls.count, calls[call.id - 1] === call else { return }
        calls[call.id - 1] = nil
        if call.isCaller { freeIDs.append(call.id) }
    }

    func removeAllCalls() {
        calls = []
        freeIDs = []
        ready = []
        urgent = []
    }

    /// The number of a method, and whether its name has to be sent with it.
    func index(of method: String) -> (index: Int, isNew: Bool) {
        // The same method over and over is found without hashing its name.
        if method == lastMethod.name { return (lastMethod.index, false) }
        if let index = methodIndices[method] {
            lastMethod = (method, index)
            return (index, false)
        }
        let index = methodIndices.count
        // The last number is for all that the table does not hold; it is named each time.
        guard index < RPCWire.methodLimit - 1 else { return (RPCWire.methodLimit - 1, true) }
        methodIndices[method] = index
        return (index, true)
    }

    // MARK: Scheduling

    func makeReady(_ call: RPCCall, first: Bool = false) {
        guard !call.isReady, call.isSendable else { return }
        call.isReady = true
        if first { ready.prepend(call) } else { ready.append(call) }
    }

    func makeUrgent(_ call: RPCCall) {
        guard !call.isUrgent else { return }
        call.isUrgent = true
        urgent.append(call)
    }

    /// Whether the peer has acknowledged enough for more to be sent.
    func maySend(_ limits: RPCLimits) -> Bool {
        log.unacknowledgedCount < Int64(limits.unacknowledgedFrames) && log.byteCount < limits.unacknowledgedBytes
    }
}
