import ArgumentParser
import MartletIdentity

struct IDCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "id",
        abstract: "Print the peer id.",
        discussion: "A running node is asked, else the key file is read.")

    @OptionGroup var data: DataDirectoryOptions
    @OptionGroup var passphrase: PassphraseOptions
    @OptionGroup var output: OutputOptions

    private struct Report: Encodable {
        let peer: String
        let dataDirectory: String
        let addresses: [String]
        let isRunning: Bool
    }

    func run() async throws {
        let directory = try data.resolve()
        let report = try Self.ask(directory) ?? read(directory)
        if output.json { Output.json(report) } else { Output.line(report.peer) }
    }

    private static func ask(_ directory: DataDirectory) throws -> Report? {
        guard let client = try? ControlClient(directory) else { return nil }
        guard case .status(let node) = try client.ask(.status) else { throw ControlClient.misunderstanding }
        return Report(peer: node.peer, dataDirectory: directory.path, addresses: node.addresses, isRunning: true)
    }

    private func read(_ directory: DataDirectory) throws -> Report {
        let key: KeyPair
        do {
            key = try KeyFile.load(from: directory.keyFile, passphrase: try passphrase.read())
        } catch KeyFileError.notFound(let path) {
            throw Failure("there is no identity at \(path); make one with `martlet init`", code: "noIdentity")
        }
        return Report(peer: "\(key.peerID)", dataDirectory: directory.path, addresses: [], isRunning: false)
    }
}
