import MartletCore

/// An address written in a test.
func multiaddr(_ text: String) -> Multiaddr {
    guard let address = try? Multiaddr(text) else { preconditionFailure("\(text) is no multiaddr") }
    return address
}
