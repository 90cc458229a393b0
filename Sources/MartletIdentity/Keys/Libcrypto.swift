internal import CLibcrypto

/// The signatures that libsodium does not know: RSA and ECDSA on the curves of NIST and on secp256k1.
enum Libcrypto {
    /// Whether `signature` over the SHA-256 of `message` was made with the private half of the key.
    ///
    /// The caller has checked the key's algorithm, curve and size.
    static func isValidSignature(
        _ signature: UnsafeRawBufferPointer, for message: UnsafeRawBufferPointer, subjectPublicKeyInfo: [UInt8]
    ) -> Bool {
        // What goes wrong in libcrypto stays in a list of the thread, to be found by the next caller.
        defer { ERR_clear_error() }
        let key = subjectPublicKeyInfo.withUnsafeBufferPointer { bytes in
            var cursor = bytes.baseAddress
            return d2i_PUBKEY(nil, &cursor, bytes.count)
        }
        guard let key else { return false }
        defer { EVP_PKEY_free(key) }
        guard let context = EVP_MD_CTX_new() else { return false }
        defer { EVP_MD_CTX_free(context) }
        guard EVP_DigestVerifyInit(context, nil, EVP_sha256(), nil, key) == 1 else { return false }
        return EVP_DigestVerify(
            context, signature.assumingMemoryBound(to: UInt8.self).baseAddress, signature.count,
            message.assumingMemoryBound(to: UInt8.self).baseAddress, message.count) == 1
    }
}
