import MartletCore
import TestVectors
import Testing

@testable import MartletIdentity

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A folder of its own for each test, gone afterwards.
private final class Folder {
    let path: String

    init() throws {
        var template = Array("/tmp/martlet-key-XXXXXX".utf8CString)
        path = String(cString: try #require(mkdtemp(&template)))
    }

    deinit {
        for name in names { unlink("\(path)/\(name)") }
        rmdir(path)
    }

    var names: [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    func write(_ bytes: [UInt8], to name: String, mode: mode_t = 0o600) {
        let descriptor = open("\(path)/\(name)", O_WRONLY | O_CREAT | O_TRUNC, mode)
        _ = bytes.withUnsafeBytes { writeBytes(descriptor, $0.baseAddress, $0.count) }
        fchmod(descriptor, mode)
        close(descriptor)
    }
}

private func mode(of path: String) -> mode_t {
    var status = stat()
    return stat(path, &status) == 0 ? status.st_mode & 0o7777 : 0
}

private let quick = PassphraseStrength(checkedOperations: 1, memoryKibibytes: 8)!
private let passphrase = SecretBytes(utf8: "correct horse battery staple")

private func loadError(_ path: String, _ passphrase: SecretBytes? = nil) -> KeyFileError? {
    failure { () throws(KeyFileError) in try KeyFile.load(from: path, passphrase: passphrase) }
}

@Test func keyFileIsPrivateAndReadsBack() throws {
    let folder = try Folder()
    let path = folder.path + "/identity.key"
    let pair = KeyPair.generate()
    try KeyFile.create(pair, at: path)
    #expect(mode(of: path) == 0o600)
    #expect(folder.names == ["identity.key"])
    #expect(try KeyFile.load(from: path).peerID == pair.peerID)
    // The form that other libp2p software reads.
    #expect(contents(of: path) == pair.privateKeyProtobuf.withUnsafeBytes { Array($0) })
    // A passphrase is not looked at when the file has none.
    #expect(try KeyFile.load(from: path, passphrase: passphrase).peerID == pair.peerID)
}

@Test func keyFileIsNeverReplaced() throws {
    let folder = try Folder()
    let path = folder.path + "/identity.key"
    let first = KeyPair.generate()
    try KeyFile.create(first, at: path)
    #expect(throws: KeyFileError.alreadyExists(path: path)) { try KeyFile.create(.generate(), at: path) }
    #expect(throws: KeyFileError.alreadyExists(path: path)) {
        try KeyFile.create(.generate(), at: path, passphrase: passphrase, strength: quick)
    }
    #expect(try KeyFile.load(from: path).peerID == first.peerID)
    // Nor through a link that leads nowhere.
    symlink(folder.path + "/elsewhere", folder.path + "/link")
    #expect(throws: KeyFileError.alreadyExists(path: folder.path + "/link")) {
        try KeyFile.create(.generate(), at: folder.path + "/link")
    }
    #expect(folder.names == ["identity.key", "link"])
}

@Test func keyFileOpenToOthersIsRefused() throws {
    let folder = try Folder()
    let path = folder.path + "/identity.key"
    let pair = KeyPair.generate()
    try KeyFile.create(pair, at: path)
    for open: mode_t in [0o640, 0o604, 0o620, 0o602, 0o644, 0o660, 0o777] {
        chmod(path, open)
        #expect(loadError(path) == .accessibleByOthers(path: path, mode: open))
        #expect(try KeyFile.load(from: path, sharedWithOthers: true).peerID == pair.peerID)
    }
    chmod(path, 0o400)
    #expect(try KeyFile.load(from: path).peerID == pair.peerID)
}

@Test func loadOrCreateMakesOneIdentityAndKeepsIt() throws {
    let folder = try Folder()
    let path = folder.path + "/identity.key"
    let first = try KeyFile.loadOrCreate(at: path, passphrase: passphrase, strength: quick)
    #expect(try KeyFile.loadOrCreate(at: path, passphrase: passphrase, strength: quick).peerID == first.peerID)
    #expect(throws: KeyFileError.wrongPassphrase) {
        try KeyFile.loadOrCreate(at: path, passphrase: SecretBytes(utf8: "other"), strength: quick)
    }
}

@Test func passphraseProtectsTheKey() throws {
    let folder = try Folder()
    let path = folder.path + "/identity.key"
    let pair = KeyPair(seed: [UInt8](repeating: 0xAB, count: 32))
    try KeyFile.create(pair, at: path, passphrase: passphrase, strength: quick)
    #expect(mode(of: path) == 0o600)
    let file = try #require(contents(of: path))
    #expect(file.starts(with: Array("martlet key 1\n".utf8)))
    #expect(!file.indices.contains { file[$0...].starts(with: [0xAB, 0xAB, 0xAB, 0xAB]) })
    #expect(try KeyFile.load(from: path, passphrase: passphrase).peerID == pair.peerID)
    #expect(loadError(path) == .passphraseNeeded)
    #expect(loadError(path, SecretBytes(utf8: "correct horse battery stapl")) == .wrongPassphrase)
    #expect(loadError(path, SecretBytes(utf8: "")) == .emptyPassphrase)
    #expect(throws: KeyFileError.emptyPassphrase) {
        try KeyFile.create(pair, at: folder.path + "/other", passphrase: SecretBytes(utf8: ""), strength: quick)
    }
    #expect(folder.names == ["identity.key"])
}

@Test func sameKeyAndPassphraseNeverGiveTheSameFile() throws {
    let folder = try Folder()
    let pair = KeyPair.generate()
    for name in ["a", "b"] {
        try KeyFile.create(pair, at: "\(folder.path)/\(name)", passphrase: passphrase, strength: quick)
    }
    let first = try #require(contents(of: folder.path + "/a"))
    let second = try #require(contents(of: folder.path + "/b"))
    #expect(first[22..<62] != second[22..<62])
    #expect(first[62...] != second[62...])
}

@Test func damagedFilesAreToldFromWrongPassphrases() throws {
    let folder = try Folder()
    let path = folder.path + "/identity.key"
    try KeyFile.create(.generate(), at: path, passphrase: passphrase, strength: quick)
    let file = try #require(contents(of: path))
    #expect(file.count == 162)
    for position in stride(from: 14, to: file.count, by: 3) {
        var changed = file
        changed[position] ^= 0x40
        folder.write(changed, to: "changed")
        #expect(loadError(folder.path + "/changed", passphrase) == .damaged)
    }
    for count in 14..<file.count {
        folder.write(Array(file.prefix(count)), to: "changed")
        #expect(loadError(folder.path + "/changed", passphrase) == .damaged)
    }
    folder.write(file + [0], to: "changed")
    #expect(loadError(folder.path + "/changed", passphrase) == .damaged)
}

/// A file by someone who knows its form: the checksum is right.
private func hostileFile(operations: UInt32, memoryKibibytes: UInt32) -> [UInt8] {
    var file = Array("martlet key 1\n".utf8)
    for number in [operations, memoryKibibytes] { withUnsafeBytes(of: number.bigEndian) { file += $0 } }
    file += [UInt8](repeating: 5, count: 16 + 24 + 84)
    return file + file.withUnsafeBytes { EncryptedKey.checksum($0) }
}

@Test func fileCannotDemandEndlessWorkOrMemory() throws {
    let folder = try Folder()
    let path = folder.path + "/hostile"
    let demands: [(UInt32, UInt32)] = [
        (.max, .max), (1, .max), (.max, 8), (1, 1_048_577), (11, 8), (0, 8), (1, 7), (1, 0), (0, 0),
    ]
    for (operations, memory) in demands {
        folder.write(hostileFile(operations: operations, memoryKibibytes: memory), to: "hostile")
        #expect(
            loadError(path, passphrase) == .strengthOutOfBounds(operations: operations, memoryKibibytes: memory))
    }
    folder.write(hostileFile(operations: 1, memoryKibibytes: 8), to: "hostile")
    #expect(loadError(path, passphrase) == .wrongPassphrase)
    #expect(PassphraseStrength(checkedOperations: 10, memoryKibibytes: 1_048_576) != nil)
    #expect(PassphraseStrength(checkedOperations: 11, memoryKibibytes: 8) == nil)
    for strength in [PassphraseStrength.interactive, .moderate, .sensitive] {
        #expect(
            PassphraseStrength(checkedOperations: strength.operations, memoryKibibytes: strength.memoryKibibytes)
                == strength)
    }
}

@Test func whatIsNoKeyFileIsRefused() throws {
    let folder = try Folder()
    #expect(loadError(folder.path + "/nothing") == .notFound(path: folder.path + "/nothing"))
    #expect(loadError(folder.path) == .notARegularFile(path: folder.path))
    // A pipe must not block the reader.
    mkfifo(folder.path + "/pipe", 0o600)
    #expect(loadError(folder.path + "/pipe") == .notARegularFile(path: folder.path + "/pipe"))
    folder.write([], to: "empty")
    #expect(loadError(folder.path + "/empty") == .key(.malformed(reason: "not an Ed25519 PrivateKey message")))
    folder.write([UInt8](repeating: 8, count: 4097), to: "large")
    #expect(loadError(folder.path + "/large") == .tooLong(byteCount: 4097, limit: 4096))
    folder.write([0x08, 0x00, 0x12, 0x00], to: "rsa")
    #expect(loadError(folder.path + "/rsa") == .key(.unsupported(reason: "a private key that is not Ed25519")))
    let missing = folder.path + "/no/such/folder/key"
    guard
        case .system("create", _, ENOENT)? = failure(of: { () throws(KeyFileError) in
            try KeyFile.create(.generate(), at: missing)
        })
    else {
        Issue.record("a key in a folder that does not exist")
        return
    }
}

@Test func fileThroughALinkIsRead() throws {
    // Orchestrators mount secrets as symbolic links.
    let folder = try Folder()
    let pair = KeyPair.generate()
    try KeyFile.create(pair, at: folder.path + "/real")
    symlink("real", folder.path + "/link")
    #expect(try KeyFile.load(from: folder.path + "/link").peerID == pair.peerID)
}

private func writeBytes(_ descriptor: Int32, _ base: UnsafeRawPointer?, _ count: Int) -> Int {
    write(descriptor, base, count)
}
