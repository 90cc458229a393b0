// What C functions that take `unsigned char *` are given. For buffers with something in them only, such as keys and
// nonces of a fixed size: an empty one may have no address.

extension UnsafeRawBufferPointer {
    var octets: UnsafePointer<UInt8> {
        guard let baseAddress else { preconditionFailure("an empty buffer has no address") }
        return baseAddress.assumingMemoryBound(to: UInt8.self)
    }
}

extension UnsafeMutableRawBufferPointer {
    var octets: UnsafeMutablePointer<UInt8> {
        guard let baseAddress else { preconditionFailure("an empty buffer has no address") }
        return baseAddress.assumingMemoryBound(to: UInt8.self)
    }
}
