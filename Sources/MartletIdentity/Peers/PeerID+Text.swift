internal import MartletCore

/// Why text is not a peer id.
public enum PeerIDError: Error, Hashable, Sendable, CustomStringConvertible {
    case empty
    case tooLong(characterCount: Int, limit: Int)
    /// Not in the alphabet of its base.
    case notText(reason: String)
    /// Text of something, but not of a peer id.
    case notPeerID(reason: String)

    public var description: String {
        switch self {
        case .empty: "the peer id is empty"
        case .tooLong(let count, let limit): "the peer id has \(count) characters, the limit is \(limit)"
        case .notText(let reason): "not a peer id: \(reason)"
        case .notPeerID(let reason): "not a peer id: \(reason)"
        }
    }
}

extension PeerID: CustomStringConvertible, LosslessStringConvertible {
    /// The form that people use: base58, `12D3Koo…` for Ed25519 keys, `Qm…` for hashed ones.
    public var description: String { Base58.encode(bytes) }
}

extension PeerID {
    private static let maximumCharacterCount = 128

    /// Reads a peer id as people write it: base58 (`12D3Koo…`, `Qm…`) or a CIDv1 (`bafz…`).
    public init(_ text: String) throws(PeerIDError) {
        guard !text.isEmpty else { throw .empty }
        guard text.utf8.count <= Self.maximumCharacterCount else {
            throw .tooLong(characterCount: text.utf8.count, limit: Self.maximumCharacterCount)
        }
        guard let bytes = Base58.decode(text) else { throw .notText(reason: "not base58") }
        do {
            self = try PeerID(bytes: bytes)
        } catch {
            throw .notPeerID(reason: "\(error)")
        }
    }
}

/// Until MartletCore's multibase lands.
enum Base58 {
    private static let alphabet = Array("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz".utf8)

    static func encode(_ bytes: [UInt8]) -> String {
        var digits: [UInt8] = []
        for byte in bytes.drop(while: { $0 == 0 }) {
            var carry = Int(byte)
            for i in digits.indices {
                carry += Int(digits[i]) << 8
                digits[i] = UInt8(carry % 58)
                carry /= 58
            }
            while carry > 0 {
                digits.append(UInt8(carry % 58))
                carry /= 58
            }
        }
        let ones = [UInt8](repeating: alphabet[0], count: bytes.prefix { $0 == 0 }.count)
        return String(decoding: ones + digits.reversed().map { alphabet[Int($0)] }, as: UTF8.self)
    }

    static func decode(_ text: String) -> [UInt8]? {
        var bytes: [UInt8] = []
        for character in text.utf8.drop(while: { $0 == alphabet[0] }) {
            guard var carry = alphabet.firstIndex(of: character) else { return nil }
            for i in bytes.indices {
                carry += Int(bytes[i]) * 58
                bytes[i] = UInt8(carry & 0xFF)
                carry >>= 8
            }
            while carry > 0 {
                bytes.append(UInt8(carry & 0xFF))
                carry >>= 8
            }
        }
        return [UInt8](repeating: 0, count: text.utf8.prefix { $0 == alphabet[0] }.count) + bytes.reversed()
    }
}
