import MartletCore
import TestVectors
import Testing

@testable import MartletIdentity

private let seed: [UInt8] = Array(0..<32)

@Test func privateKeysOfTheSpecificationGiveTheirPublicKeys() throws {
    for row in try vectors("keys.tsv") {
        let (kind, privateKey, publicKey) = (row[0], try hex(row[1]), try hex(row[2]))
        if kind == "ed25519" {
            let pair = try KeyPair.decode(privateKeyProtobuf: privateKey)
            #expect(pair.publicKey.protobuf == publicKey)
            #expect(pair.privateKeyProtobuf.withUnsafeBytes { Array($0) } == privateKey)
        } else {
            #expect(throws: KeyError.unsupported(reason: "a private key that is not Ed25519")) {
                try KeyPair.decode(privateKeyProtobuf: privateKey)
            }
        }
    }
}

@Test func signaturesAreDeterministicAndVerify() {
    let pair = KeyPair(seed: seed)
    let message = Array("what is signed".utf8)
    let signature = pair.sign(message)
    #expect(signature == KeyPair(seed: seed).sign(Bytes(message)))
    #expect(pair.publicKey.isValidSignature(signature, for: message))
    #expect(pair.publicKey.isValidSignature(Bytes(signature), for: Bytes(message)))
    #expect(!pair.publicKey.isValidSignature(signature, for: message + [0]))
    #expect(!KeyPair.generate().publicKey.isValidSignature(signature, for: message))
    #expect(pair.publicKey.isValidSignature(pair.sign([UInt8]()), for: []))
}

@Test func everyChangedBitMakesASignatureInvalid() {
    let pair = KeyPair(seed: seed)
    let signature = pair.sign([1, 2, 3])
    for bit in 0..<(8 * signature.count) {
        var changed = signature
        changed[bit / 8] ^= 1 << UInt8(bit % 8)
        #expect(!pair.publicKey.isValidSignature(changed, for: [1, 2, 3]))
    }
    for count in [0, 1, 63, 65, 128] {
        let resized = Array((signature + signature).prefix(count))
        #expect(!pair.publicKey.isValidSignature(resized, for: [1, 2, 3]))
    }
}

@Test func seededRandomnessGivesTheSameIdentities() {
    var first = RandomSource(seed: 42)
    var second = RandomSource(seed: 42)
    let ids = (0..<8).map { _ in KeyPair(random: &first).peerID }
    #expect(ids == (0..<8).map { _ in KeyPair(random: &second).peerID })
    #expect(Set(ids).count == ids.count)
    #expect(KeyPair.generate().peerID != KeyPair.generate().peerID)
}

@Test func descriptionsShowNoSecrets() {
    let pair = KeyPair(seed: seed)
    var dumped = ""
    dump(pair, to: &dumped)
    for text in ["\(pair)", String(reflecting: pair), dumped] {
        #expect(text.contains(pair.peerID.description))
        #expect(!text.contains("secret") && !text.contains("30, 31"))
    }
    let secret = SecretBytes(utf8: "correct horse")
    dumped = ""
    dump(secret, to: &dumped)
    for text in ["\(secret)", String(reflecting: secret), dumped] { #expect(!text.contains("horse")) }
}

@Test func olderPrivateKeyFormIsReadAndItsCopiesCompared() throws {
    let pair = KeyPair(seed: seed)
    let publicKey = pair.publicKey.rawBytes
    let legacy = [0x08, 0x01, 0x12, 0x60] + seed + publicKey + publicKey
    #expect(try KeyPair.decode(privateKeyProtobuf: legacy).peerID == pair.peerID)
    for position in [36, 67, 68, 99] {
        var changed = legacy
        changed[position] ^= 1
        #expect(throws: KeyError.halvesDiffer) { try KeyPair.decode(privateKeyProtobuf: changed) }
    }
}

@Test func privateKeyWithAnotherPublicHalfIsRefused() {
    let mixed = [0x08, 0x01, 0x12, 0x40] + seed + KeyPair.generate().publicKey.rawBytes
    #expect(throws: KeyError.halvesDiffer) { try KeyPair.decode(privateKeyProtobuf: mixed) }
}

@Test func damagedPrivateKeysAreRefused() {
    let whole = KeyPair(seed: seed).privateKeyProtobuf.withUnsafeBytes { Array($0) }
    for count in 0..<whole.count {
        #expect(throws: KeyError.self) { try KeyPair.decode(privateKeyProtobuf: Array(whole.prefix(count))) }
    }
    #expect(throws: KeyError.self) { try KeyPair.decode(privateKeyProtobuf: whole + [0]) }
}

@Test func secretBytesAreThereInBothKindsOfMemory() {
    for protection in [SecretBytes.Protection.guarded, .zeroed] {
        let secret = SecretBytes([1, 2, 3], protection: protection)
        #expect(secret.count == 3)
        #expect(secret.withUnsafeBytes { Array($0) } == [1, 2, 3])
        #expect(SecretBytes([], protection: protection).withUnsafeBytes { $0.count } == 0)
    }
}

@Test func secretBytesGoWhenTheirFillingFails() {
    for protection in [SecretBytes.Protection.guarded, .zeroed] {
        #expect(throws: CancellationError.self) {
            try SecretBytes(count: 64, protection: protection) { _ throws(CancellationError) in
                throw CancellationError()
            }
        }
    }
}
