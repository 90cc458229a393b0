import ArgumentParser
import MartletIdentity

struct InitCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init",
        abstract: "Make an identity: the key that a node proves who it is with.",
        discussion: """
            The key file is readable by its owner alone. With a passphrase it is encrypted, and every command that opens \
            it needs the passphrase. An identity that is there is never overwritten.
            """)

    @OptionGroup var data: DataDirectoryOptions
    @OptionGroup var passphrase: PassphraseOptions
    @OptionGroup var output: OutputOptions

    private struct Report: Encodable {
        let peer: String
        let dataDirectory: String
        let keyFile: String
        let encrypted: Bool
    }

    func run() async throws {
        let directory = try data.resolve()
        let passphrase = try passphrase.read()
        try directory.create()
        let key = KeyPair.generate()
        try KeyFile.create(key, at: directory.keyFile, passphrase: passphrase)
        if output.json {
            Output.json(
                Report(
                    peer: "\(key.peerID)", dataDirectory: directory.path, keyFile: directory.keyFile,
                    encrypted: passphrase != nil))
        } else {
            Output.line("\(key.peerID)")
        }
    }
}
