public import MartletCore

/// A NAT in front of the one that this machine's own router is: what that router is told to forward does not come in from the
/// internet then.
public enum OuterNAT: String, Hashable, Sendable, CaseIterable {
    /// A provider's, which its customers share (RFC 6598).
    case carrier
    /// A second router in the same house or office.
    case router

    /// - Parameters:
    ///   - local: addresses of this machine.
    ///   - gateway: addresses outside that its router says to have.
    ///   - routers: those on the way to the internet, the nearest first.
    /// - Returns: nil when nothing speaks for one.
    public init?(local: [IPAddress], gateway: [IPAddress], routers: [IPAddress]) {
        // A router beyond the first whose address is none of the internet.
        let beyond = routers.dropFirst().prefix { $0.scope == .privateNetwork || $0.scope == .carrierNAT }
        let outer = gateway + beyond
        if (local + outer).contains(where: { $0.scope == .carrierNAT }) {
            self = .carrier
        } else if outer.contains(where: { $0.scope == .privateNetwork }) {
            self = .router
        } else {
            return nil
        }
    }
}
