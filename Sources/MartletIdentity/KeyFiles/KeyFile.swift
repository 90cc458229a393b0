/// Where a node keeps its identity: a file of its own, readable by its owner alone, with or without a passphrase.
///
///     let identity = try KeyFile.loadOrCreate(at: "/var/lib/martlet/identity.key")
///
/// Without a passphrase the file is the `PrivateKey` message of the peer-ids specification, which other libp2p software
/// reads and writes. With one it is our own form, see `EncryptedKey`. All of this blocks: on files, and for a
/// passphrase for about a second.
public enum KeyFile {
    /// The largest file that is read.
    static let maximumByteCount = 4096

    /// Writes `keyPair` to a new file at `path` with mode 0600.
    ///
    /// The file appears complete or not at all, and never in place of another: `alreadyExists` if there is one.
    public static func create(
        _ keyPair: KeyPair, at path: String, passphrase: SecretBytes? = nil, strength: PassphraseStrength = .moderate
    ) throws(KeyFileError) {
        let plain = keyPair.privateKeyProtobuf
        guard let passphrase else {
            try PrivateFile.create(plain, at: path)
            return
        }
        try PrivateFile.create(EncryptedKey.seal(plain, passphrase: passphrase, strength: strength), at: path)
    }

    /// Reads the key at `path`. The passphrase is not looked at when the file has none.
    ///
    /// Throws `accessibleByOthers` when other users could read or change the file, unless `sharedWithOthers` says that
    /// this is meant, such as for a secret that an orchestrator mounts.
    public static func load(
        from path: String, passphrase: SecretBytes? = nil, sharedWithOthers: Bool = false
    ) throws(KeyFileError) -> KeyPair {
        let content = try PrivateFile.read(
            path, limit: maximumByteCount, requiresPrivateMode: !sharedWithOthers)
        let plain: SecretBytes
        if content.withUnsafeBytes({ EncryptedKey.isRecognized($0) }) {
            guard let passphrase else { throw .passphraseNeeded }
            plain = try EncryptedKey.open(content, passphrase: passphrase)
        } else {
            plain = content
        }
        do throws(KeyError) {
            return try plain.withUnsafeBytes { bytes throws(KeyError) in try KeyPair(privateKeyProtobuf: bytes) }
        } catch {
            throw .key(error)
        }
    }

    /// Reads the key at `path`, or generates one and writes it there when there is no file.
    public static func loadOrCreate(
        at path: String, passphrase: SecretBytes? = nil, strength: PassphraseStrength = .moderate,
        sharedWithOthers: Bool = false
    ) throws(KeyFileError) -> KeyPair {
        do throws(KeyFileError) {
            return try load(from: path, passphrase: passphrase, sharedWithOthers: sharedWithOthers)
        } catch .notFound {
            let keyPair = KeyPair.generate()
            do throws(KeyFileError) {
                try create(keyPair, at: path, passphrase: passphrase, strength: strength)
                return keyPair
            } catch .alreadyExists {
                // Another process was quicker: its key is the identity of both.
                return try load(from: path, passphrase: passphrase, sharedWithOthers: sharedWithOthers)
            }
        }
    }
}
