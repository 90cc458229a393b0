internal import MartletCore

/// The checks of an RSA key, made on its bytes, before libcrypto does any arithmetic with numbers of a peer's choice.
enum RSA {
    /// Smaller is weak; larger burns our time (CVE-2023-39533).
    static let modulusBitCounts = 2048...8192

    /// AlgorithmIdentifier: rsaEncryption with NULL parameters.
    private static let algorithm: [UInt8] = [
        0x30, 0x0D, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01, 0x05, 0x00,
    ]

    private enum Tag {
        static let integer: UInt8 = 0x02
        static let bitString: UInt8 = 0x03
        static let sequence: UInt8 = 0x30
    }

    static func check(subjectPublicKeyInfo: [UInt8]) throws(KeyError) {
        let modulus: [UInt8]
        let exponent: [UInt8]
        do {
            let info = try element(Tag.sequence, fillingAll: subjectPublicKeyInfo)
            guard info.starts(with: algorithm) else {
                throw KeyError.unsupported(reason: "an RSA key of another algorithm than rsaEncryption")
            }
            let bits = try element(Tag.bitString, fillingAll: Array(info.dropFirst(algorithm.count)))
            guard bits.first == 0 else { throw KeyError.malformed(reason: "an RSA key with loose bits") }
            let numbers = try element(Tag.sequence, fillingAll: Array(bits.dropFirst()))
            var reader = ByteReader(numbers.span.bytes)
            modulus = try readElement(Tag.integer, from: &reader)
            exponent = try readElement(Tag.integer, from: &reader)
            guard reader.isAtEnd else { throw DecodingError.trailingBytes(reader.remaining) }
        } catch let error as KeyError {
            throw error
        } catch {
            throw .malformed(reason: "an RSA key that is not in DER: \(error)")
        }
        let modulusBits = try bitCount(of: modulus)
        guard modulusBitCounts.contains(modulusBits) else { throw .rsaModulusSize(bitCount: modulusBits) }
        guard modulus.last.map({ $0 & 1 }) == 1 else { throw .unsafe(reason: "an even RSA modulus") }
        // 3 at least. The upper bound is the one of go-libp2p; the time of a check grows with the exponent.
        let exponentBits = try bitCount(of: exponent)
        guard (2...31).contains(exponentBits), exponent.last.map({ $0 & 1 }) == 1 else {
            throw .unsafe(reason: "an RSA exponent that is even, 1 or above 31 bits")
        }
    }

    /// The content of a DER element that is all of `bytes`.
    private static func element(_ tag: UInt8, fillingAll bytes: [UInt8]) throws(DecodingError) -> [UInt8] {
        var reader = ByteReader(bytes.span.bytes)
        let content = try readElement(tag, from: &reader)
        guard reader.isAtEnd else { throw .trailingBytes(reader.remaining) }
        return content
    }

    /// The content of a DER element of at most 65,535 bytes, whose length is in the shortest form.
    private static func readElement(_ tag: UInt8, from reader: inout ByteReader) throws(DecodingError) -> [UInt8] {
        guard try reader.readByte() == tag else { throw .invalid(field: "DER", reason: "an unexpected element") }
        let first = try reader.readByte()
        switch first {
        case 0..<0x80:
            return try reader.readBytes(Int(first))
        case 0x81:
            let length = try reader.readByte()
            guard length >= 0x80 else { throw .invalid(field: "DER", reason: "a length that is not the shortest") }
            return try reader.readBytes(Int(length))
        case 0x82:
            let length = try reader.readBigEndian(UInt16.self)
            guard length >= 0x100 else { throw .invalid(field: "DER", reason: "a length that is not the shortest") }
            return try reader.readBytes(Int(length))
        default:
            throw .invalid(field: "DER", reason: "a length that is too long or indefinite")
        }
    }

    /// The size of a positive DER integer in its shortest form.
    private static func bitCount(of integer: [UInt8]) throws(KeyError) -> Int {
        guard let first = integer.first, first < 0x80 else {
            throw .malformed(reason: "an RSA key with a number that is not positive")
        }
        guard first == 0 else { return 8 * integer.count - first.leadingZeroBitCount }
        guard integer.count > 1, integer[1] >= 0x80 else {
            throw .malformed(reason: "an RSA key with a number that is not in its shortest form")
        }
        return 8 * (integer.count - 1)
    }
}
