import MartletCore
import MartletIdentity
import MartletReachability
import MartletSwarm

/// What a relay, its client or a stranger may send: the first byte chooses whether the rest is a stream of hop messages, one of stop
/// messages, an address, or a voucher.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    guard size > 0 else { return 0 }
    let rest = Array(UnsafeBufferPointer(start: data + 1, count: size - 1))
    switch data[0] % 4 {
    case 0:
        read(rest) { message in
            guard let hop = try? HopMessage(message) else { return nil }
            if case .status(_, let reservation?, _) = hop, reservation.addresses.count > Circuit.addressLimit {
                fatalError("more addresses than the limit allows")
            }
            return (hop.encoded, { (try? HopMessage($0)) == hop })
        }
    case 1:
        read(rest) { message in
            guard let stop = try? StopMessage(message) else { return nil }
            return (stop.encoded, { (try? StopMessage($0)) == stop })
        }
    case 2: checkAddress(rest)
    default:
        // Nothing but a signature makes one valid, and nobody guesses that.
        if (try? ReservationVoucher.open(rest)) != nil, rest.count > Circuit.messageLimit { fatalError("too long") }
    }
    return 0
}

/// Whole and in two pieces the stream is the same messages; each that is understood is written and read again as it was.
private func read(_ stream: [UInt8], _ decode: ([UInt8]) -> (encoded: [UInt8], isSame: ([UInt8]) -> Bool)?) {
    let whole = messages([stream])
    let half = stream.count / 2
    guard whole == messages([Array(stream[..<half]), Array(stream[half...])]) else {
        fatalError("pieces make a difference")
    }
    for message in whole {
        guard message.count <= Circuit.messageLimit else { fatalError("a message beyond the limit") }
        // Written anew, fields that were left out are there: a message that just fitted may be too long then.
        guard let (encoded, isSame) = decode(message), encoded.count <= Circuit.messageLimit else { continue }
        guard let again = messages([encoded]).first, isSame(again) else { fatalError("not read as it was written") }
    }
}

private func messages(_ pieces: [[UInt8]]) -> [[UInt8]] {
    var reader = PrefixedMessageReader.circuit()
    var messages: [[UInt8]] = []
    for piece in pieces {
        var bytes = Bytes(piece)
        do {
            while let message = try reader.next(from: &bytes) { messages.append(message) }
        } catch {
            return messages
        }
    }
    return messages
}

private func checkAddress(_ bytes: [UInt8]) {
    guard let address = try? Multiaddr(bytes: bytes), let circuit = try? CircuitAddress(address) else { return }
    guard address.protocolCodes.filter({ $0 == .p2pCircuit }).count == 1 else { fatalError("a chain of relays") }
    var parts = circuit.relayAddress.map { Array($0.components) } ?? []
    parts += [.p2p(circuit.relay.bytes), .p2pCircuit]
    if let target = circuit.target { parts.append(.p2p(target.bytes)) }
    guard (try? Multiaddr(parts)) == address else { fatalError("\(address) is not the sum of its parts") }
}
