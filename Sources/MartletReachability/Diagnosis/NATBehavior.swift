public import MartletCore

/// What was found of the NATs and firewalls between this machine and the internet, for UDP.
public struct NATBehavior: Hashable, Sendable {
    public let kind: NATKind
    /// Whether packets from inside to an own address outside come back in; nil without a NAT, or when it was not found out.
    public let hairpinning: Bool?
    /// The address that servers see.
    public let externalAddress: IPAddress?
    /// Whether any server answered: none does where UDP is blocked.
    public let isAnswered: Bool

    public init(kind: NATKind, hairpinning: Bool?, externalAddress: IPAddress?, isAnswered: Bool) {
        self.kind = kind
        self.hairpinning = hairpinning
        self.externalAddress = externalAddress
        self.isAnswered = isAnswered
    }
}
