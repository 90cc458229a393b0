import MartletCore

/// An address read from bytes or from text survives both of its forms, is within its limits, and can be asked anything.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    let bytes = UnsafeRawBufferPointer(start: data, count: size)
    do throws(DecodingError) {
        let address = try Multiaddr(bytes: bytes)
        guard bytes.elementsEqual(address.bytes) else {
            fatalError("\(address) keeps other bytes than it was read from")
        }
        check(address)
    } catch {
        guard !error.description.isEmpty else { fatalError("an error that says nothing") }
    }
    do throws(MultiaddrError) {
        check(try Multiaddr(String(decoding: bytes, as: UTF8.self)))
    } catch {
        guard error.description.utf8.count < 8192 else { fatalError("an endless error") }
    }
    return 0
}

func check(_ address: Multiaddr) {
    guard address.bytes.count <= Multiaddr.maximumByteCount,
        address.protocolCodes.count <= Multiaddr.maximumComponentCount, !address.protocolCodes.isEmpty
    else { fatalError("\(address) is beyond the limits") }
    guard (try? Multiaddr(bytes: address.bytes)) == address else { fatalError("\(address) is not read from its bytes") }
    guard (try? Multiaddr(address.description)) == address else { fatalError("\(address) is not read from its text") }
    let components = Array(address.components)
    guard components.map(\.code) == address.protocolCodes, (try? Multiaddr(components)) == address else {
        fatalError("\(address) is not the sum of its components")
    }
    _ = (address.scope, address.transportKind, address.ipAddress, address.port, address.domainName, address.isCircuit)
    if let shorter = address.droppingLast(), let last = address.last {
        guard (try? shorter.encapsulating(last)) == address else { fatalError("\(address) comes apart") }
    }
    guard address.replacingPort(1).protocolCodes == address.protocolCodes else { fatalError("a port changed more") }
}
