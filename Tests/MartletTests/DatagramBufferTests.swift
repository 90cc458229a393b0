import Logging
import MartletRuntime
import Synchronization
import Testing

@testable import Martlet

/// Keeps what is logged.
private struct RecordingHandler: LogHandler {
    final class Records: Sendable {
        private let events = Mutex<[(Logger.Level, Logger.Metadata)]>([])
        var all: [(level: Logger.Level, metadata: Logger.Metadata)] { events.withLock(\.self) }
        func add(_ level: Logger.Level, _ metadata: Logger.Metadata) {
            events.withLock { $0.append((level, metadata)) }
        }
    }

    let records: Records
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { records.add(event.level, event.metadata ?? [:]) }
}

@Suite struct DatagramBufferTests {
    private let wanted = DatagramBuffers.wanted

    @Test func whatIsGrantedIsJudgedByWhatIsWanted() {
        #expect(wanted.remedy == nil && !wanted.areSmall)
        // What systems are given that run QUIC of other makes.
        #expect(!DatagramBuffers(receiveByteCount: 7_500_000, sendByteCount: 7_500_000).areSmall)
        let halves = DatagramBuffers(receiveByteCount: 4 << 20, sendByteCount: 2 << 20)
        #expect(!halves.areSmall)
        // What systems grant that were given nothing.
        #expect(DatagramBuffers(receiveByteCount: 212_992, sendByteCount: 212_992).areSmall)
    }

    #if os(Linux)
        @Test func theRemedyNamesTheSettingsThatAreTooSmall() {
            var buffers = DatagramBuffers(receiveByteCount: 212_992, sendByteCount: 212_992)
            #expect(buffers.remedy == "sysctl -w net.core.rmem_max=8388608 net.core.wmem_max=4194304")
            buffers.sendByteCount = wanted.sendByteCount
            #expect(buffers.remedy == "sysctl -w net.core.rmem_max=8388608")
            buffers.receiveByteCount = wanted.receiveByteCount
            buffers.sendByteCount = 212_992
            #expect(buffers.remedy == "sysctl -w net.core.wmem_max=4194304")
        }
    #endif

    @Test func smallBuffersAreToldOnceWithWhatHelps() throws {
        let records = RecordingHandler.Records()
        let watch = DatagramBufferWatch(logger: Logger(label: "test") { _ in RecordingHandler(records: records) })
        #expect(watch.smallest == nil)
        watch.opened(with: KernelBuffers(send: wanted.sendByteCount, receive: wanted.receiveByteCount))
        #expect(records.all.isEmpty)
        #expect(watch.smallest == wanted)
        watch.opened(with: KernelBuffers(send: wanted.sendByteCount, receive: 212_992))
        watch.opened(with: KernelBuffers(send: 100_000, receive: 300_000))
        #expect(watch.smallest == DatagramBuffers(receiveByteCount: 212_992, sendByteCount: 100_000))
        #expect(records.all.count == 1)
        let record = try #require(records.all.first)
        #expect(record.level == .notice)
        #expect(record.metadata["receive_bytes"] == "212992")
        #expect(record.metadata["wanted_receive_bytes"] == "8388608")
        let small = DatagramBuffers(receiveByteCount: 212_992, sendByteCount: wanted.sendByteCount)
        #expect(record.metadata["remedy"].map { "\($0)" } == small.remedy)
    }

    @Test func aNodeReportsWhatItsSocketsWereGranted() async throws {
        let node = try await NodePair.node { $0.listenAddresses = [try! .init("/ip4/127.0.0.1/tcp/0")] }
        #expect(try await node.reachabilityReport().datagramBuffers == nil)
        await node.stop()
        let other = try await NodePair.node { $0.listenAddresses = [try! .init("/ip4/127.0.0.1/udp/0/quic-v1")] }
        let granted = try #require(try await other.reachabilityReport().datagramBuffers)
        #expect(granted.receiveByteCount > 0 && granted.sendByteCount > 0)
        await other.stop()
    }
}
