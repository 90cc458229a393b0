import MartletRPC

/// The methods that a session's peer has called, by their numbers in its lanes: found without hashing a name for every call.
struct RPCMethodCache {
    private var version = -1
    private var lanes: [[RPCMethod?]] = [[], [], []]

    /// The method that is called, as it is registered now.
    mutating func method(of call: RPCCall, in services: RPCServiceRegistry) -> RPCMethod? {
        guard let number = call.methodNumber else { return services.method(call.method) }
        let current = services.version
        if current != version {
            version = current
            lanes = [[], [], []]
        }
        let lane = Int(call.lane.rawValue)
        if number < lanes[lane].count, let known = lanes[lane][number] { return known }
        guard let found = services.method(call.method) else { return nil }
        while lanes[lane].count <= number { lanes[lane].append(nil) }
        lanes[lane][number] = found
        return found
    }
}
