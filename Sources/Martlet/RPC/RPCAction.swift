import MartletRPC

/// What is to be done after a session's lock was let go: code of others runs in each of these.
enum RPCAction {
    case resume(UnsafeContinuation<RPCMessage, any Error>, Result<RPCMessage, RPCError>)
    case wake(UnsafeContinuation<Void, Never>)
    /// A parked worker gets something to do.
    case employ(UnsafeContinuation<RPCJob?, Never>, RPCJob)
    case hire(RPCWorker, RPCJob)
    case cancel(RPCWorker)
    case close(RPCLink)
    case forget(RPCPeer)

    func carryOut() {
        switch self {
        case .resume(let continuation, .success(let message)): continuation.resume(returning: message)
        case .resume(let continuation, .failure(let error)): continuation.resume(throwing: error)
        case .wake(let continuation): continuation.resume()
        case .employ(let continuation, let job): continuation.resume(returning: job)
        case .hire(let worker, let job): worker.begin(job)
        case .cancel(let worker): worker.cancel()
        case .close(let link): link.close()
        case .forget(let peer): peer.rpc.forget(peer)
        }
    }
}
