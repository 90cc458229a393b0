import MartletConnection
import MartletCore
import MartletIdentity
import MartletQUIC
import MartletSwarm
import Synchronization

/// What the QUIC endpoints of a node share.
final class QUICSettings: Sendable {
    let configuration: QUICConfiguration
    let connection: ConnectionConfiguration
    let budget: WindowBudget
    /// What the kernel grants to the sockets.
    let buffers: DatagramBufferWatch
    /// Blocks for received data.
    let pool = BufferPool(blockSize: 256 * 1024, idleLimit: 16)
    private let key: KeyPair
    private let made = Mutex<QUICIdentity?>(nil)

    init(
        _ key: KeyPair, _ configuration: QUICConfiguration, _ connection: ConnectionConfiguration,
        _ budget: WindowBudget, buffers: DatagramBufferWatch = DatagramBufferWatch(logger: nil)
    ) {
        self.buffers = buffers
        self.key = key
        self.configuration = configuration
        self.connection = connection
        self.budget = budget
    }

    /// The node's certificate, made for the first endpoint: a node that uses TCP alone does without.
    var identity: QUICIdentity {
        made.withLock { made in
            if let made { return made }
            var random = RandomSource.system
            let identity = QUICIdentity(identity: key, wallTime: .systemNow(), random: &random)
            made = identity
            return identity
        }
    }

    var hasIdentity: Bool { made.withLock { $0 != nil } }
}
