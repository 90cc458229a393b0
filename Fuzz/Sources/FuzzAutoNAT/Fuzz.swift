import MartletCore
import MartletReachability

/// What a peer may say on a dial request's stream, either way: length-prefixed messages.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    let input = Array(UnsafeBufferPointer(start: data, count: size))
    let whole = messages([input])
    let half = size / 2
    guard whole == messages([Array(input[..<half]), Array(input[half...])]) else {
        fatalError("pieces make a difference")
    }
    for bytes in whole {
        guard bytes.count <= AutoNAT.messageLimit else { fatalError("a message beyond the limit") }
        guard let message = try? AutoNATMessage(bytes) else { continue }
        if case .dialRequest(let addresses, _) = message, addresses.count > AutoNAT.addressLimit {
            fatalError("more addresses than the limit allows")
        }
        // Written anew, a message that just fitted may be too long.
        let encoded = message.encoded
        guard encoded.count <= AutoNAT.messageLimit else { continue }
        guard let again = messages([encoded]).first, (try? AutoNATMessage(again)) == message else {
            fatalError("not read as it was written")
        }
    }
    return 0
}

private func messages(_ pieces: [[UInt8]]) -> [[UInt8]] {
    var reader = PrefixedMessageReader(limit: AutoNAT.messageLimit)
    var found: [[UInt8]] = []
    do {
        for piece in pieces {
            var bytes = Bytes(piece)
            while let message = try reader.next(from: &bytes) { found.append(message) }
        }
    } catch {}
    return found
}
