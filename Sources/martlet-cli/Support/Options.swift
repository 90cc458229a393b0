import ArgumentParser
import Logging
import Martlet
import MartletConnection
import MartletCore
import MartletIdentity

/// Which node is meant.
struct DataDirectoryOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Where the node keeps what it has. (default: $MARTLET_HOME, else $XDG_DATA_HOME/martlet, else ~/.local/share/martlet)",
            valueName: "directory"))
    var dataDir: String?

    func resolve() throws -> DataDirectory { try DataDirectory(option: dataDir) }
}

struct OutputOptions: ParsableArguments {
    @Flag(help: "Print JSON on standard output, one object a line.")
    var json = false
}

/// Settings of every command that runs a node, if only for a moment.
struct NodeOptions: ParsableArguments {
    @Option(help: "The name of the mesh. Peers that name another are sent away. (default: everybody is welcome)")
    var network: String?

    @Option(help: ArgumentHelp("What to log on standard error, this and graver.", valueName: "level"))
    var logLevel: LogLevel = .warning

    @Option(
        help: ArgumentHelp(
            "Who encrypts large records: automatic takes the fastest, libsodium does all of it. The bytes are the same.",
            valueName: "cipher"))
    var cipher: CipherChoice = .automatic

    func apply(to configuration: inout NodeConfiguration) {
        configuration.network = network
        configuration.connection.cipher = cipher.recordCipher
        var logger = Logger(label: "martlet") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = logLevel.level
        configuration.logger = logger
    }
}

/// How a temporary node can be found by the peer that it wants to reach, for a direct connection instead of a relayed one.
struct ReachOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Where a temporary node accepts connections; may be given several times. (default: free TCP and UDP ports when the peer is behind a relay, else nowhere)",
            valueName: "multiaddr"),
        transform: parseMultiaddr)
    var listen: [Multiaddr] = []

    @Option(
        help: ArgumentHelp(
            "A relay that the temporary node is to be reached through; may be given several times.",
            valueName: "multiaddr"),
        transform: parseMultiaddr)
    var relay: [Multiaddr] = []

    /// - Parameter targets: peer ids or addresses that the node is to reach.
    func apply(to configuration: inout NodeConfiguration, targets: [String]) throws {
        configuration.relays = relay
        configuration.listenAddresses = listen
        let isRelayed = targets.contains { (try? Multiaddr($0).isCircuit) == true } || !relay.isEmpty
        guard listen.isEmpty, isRelayed else { return }
        // A hole is punched from a port that listens.
        configuration.listenAddresses = try DefaultListenAddresses.at(port: 0)
    }
}

enum CipherChoice: String, ExpressibleByArgument, CaseIterable {
    case automatic, libsodium

    var recordCipher: RecordCipherChoice {
        switch self {
        case .automatic: .automatic
        case .libsodium: .libsodium
        }
    }
}

enum LogLevel: String, ExpressibleByArgument, CaseIterable {
    case trace, debug, info, notice, warning, error, critical

    var level: Logger.Level { Logger.Level(rawValue: rawValue) ?? .warning }
}

/// A peer on the command line: its id, or an address to find it at.
enum PeerTarget: Sendable, CustomStringConvertible {
    case peer(PeerID)
    case address(Multiaddr)

    var description: String {
        switch self {
        case .peer(let peer): "\(peer)"
        case .address(let address): "\(address)"
        }
    }

    init(_ text: String) throws {
        if text.hasPrefix("/") { self = .address(try Multiaddr(text)) } else { self = .peer(try PeerID(text)) }
    }
}

/// Makes a multiaddr of an argument, so that the error names the part that is wrong.
@Sendable
func parseMultiaddr(_ text: String) throws -> Multiaddr { try Multiaddr(text) }

@Sendable
func parsePeerTarget(_ text: String) throws -> PeerTarget { try PeerTarget(text) }

@Sendable
func parsePeerID(_ text: String) throws -> PeerID { try PeerID(text) }

@Sendable
func parseCID(_ text: String) throws -> CID { try CID(text) }
