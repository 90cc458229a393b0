import MartletCore
import MartletIdentity
import Testing

@testable import MartletQUIC

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

@Suite struct QUICCertificateTests {
    struct Vector: Sendable, CustomStringConvertible {
        let name: String
        let der: [UInt8]
        let peer: String?
        var description: String { name }
    }

    static let vectors: [Vector] = readVectors().map { fields in
        let digits = Array(fields[1])
        let der = stride(from: 0, to: digits.count, by: 2).compactMap { UInt8(String(digits[$0..<$0 + 2]), radix: 16) }
        return Vector(name: fields[0], der: der, peer: fields[2] == "-" ? nil : fields[2])
    }

    private static func readVectors(file: String = #filePath) -> [[String]] {
        let folder = file.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
        guard let handle = fopen("\(folder)/Vectors/tls-certificates.tsv", "r") else { return [] }
        defer { fclose(handle) }
        var bytes = [UInt8](repeating: 0, count: 16_384)
        let count = fread(&bytes, 1, bytes.count, handle)
        return String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n").map {
            $0.split(separator: "\t").map(String.init)
        }
    }

    @Test func thereAreFourVectors() { #expect(Self.vectors.count == 4) }

    @Test(arguments: vectors) func vectorProvesItsPeerOrIsRefused(_ vector: Vector) throws {
        if let peer = vector.peer {
            let certificate = try PeerCertificate(der: vector.der, now: QUICSide.wallTime)
            #expect("\(certificate.peerID)" == peer)
        } else {
            #expect(throws: CertificateError.badPeerSignature) {
                try PeerCertificate(der: vector.der, now: QUICSide.wallTime)
            }
        }
    }

    private func own(_ wallTime: WallTime = QUICSide.wallTime, isCritical: Bool = false) -> (KeyPair, [UInt8]) {
        var random = RandomSource(seed: 5)
        let key = KeyPair(random: &random)
        let identity = QUICIdentity(identity: key, wallTime: wallTime, random: &random, isCritical: isCritical)
        return (key, identity.certificate)
    }

    @Test(arguments: [false, true]) func ownCertificateProvesItsPeer(isCritical: Bool) throws {
        let (key, der) = own(isCritical: isCritical)
        #expect(try PeerCertificate(der: der, now: QUICSide.wallTime).peerID == key.peerID)
    }

    @Test func certificateOutsideOfItsTimeIsRefused() {
        let (_, der) = own()
        let year: Int64 = 365 * 86_400 * 1_000_000_000
        for years in [-1, 11] as [Int64] {
            let now = WallTime(nanosecondsSince1970: QUICSide.wallTime.nanosecondsSince1970 + years * year)
            #expect(throws: CertificateError.notValidNow) { try PeerCertificate(der: der, now: now) }
        }
    }

    @Test func everyByteCounts() throws {
        let (key, der) = own()
        for index in der.indices {
            var changed = der
            changed[index] ^= 0x01
            // Whatever is still accepted must prove the same peer: in DER, a flag may say the same in several ways.
            if let certificate = try? PeerCertificate(der: changed, now: QUICSide.wallTime) {
                #expect(certificate.peerID == key.peerID, "byte \(index)")
                Issue.record("byte \(index) may be changed")
            }
        }
    }

    @Test func cutOrLongerCertificateIsRefused() {
        let (_, der) = own()
        for count in 0..<der.count {
            #expect(throws: CertificateError.self) {
                try PeerCertificate(der: Array(der.prefix(count)), now: QUICSide.wallTime)
            }
        }
        #expect(throws: CertificateError.malformed) { try PeerCertificate(der: der + [0], now: QUICSide.wallTime) }
        let limit = PeerCertificate.maximumByteCount
        #expect(throws: CertificateError.tooLong(byteCount: limit + 1, limit: limit)) {
            try PeerCertificate(der: [UInt8](repeating: 0x30, count: limit + 1), now: QUICSide.wallTime)
        }
    }
}
