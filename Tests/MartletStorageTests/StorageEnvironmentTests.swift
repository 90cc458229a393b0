import Glibc
import MartletCore
import Synchronization
import TemporaryFiles
import Testing

@testable import MartletStorage

@Suite struct StorageEnvironmentTests {
    let directory = TemporaryDirectory()

    func small(_ change: (inout StorageEnvironment.Configuration) -> Void = { _ in })
        -> StorageEnvironment.Configuration
    {
        var configuration = StorageEnvironment.Configuration()
        configuration.initialMapByteCount = 1 << 17
        configuration.growthPatience = .milliseconds(100)
        change(&configuration)
        return configuration
    }

    @Test func whatWasWrittenIsThereAfterReopening() throws {
        do {
            let storage = try StorageEnvironment(directory: directory.path)
            let table = try storage.table("numbers", keys: UInt64.self, values: String.self)
            try storage.write { transaction throws in
                try table.put("one", for: 1, in: transaction)
                try table.put("two", for: 2, in: transaction)
                #expect(try table.insert("other", for: 2, in: transaction) == false)
                #expect(try table.removeValue(for: 1, in: transaction))
                #expect(try table.removeValue(for: 1, in: transaction) == false)
            }
            try storage.close()
        }
        let storage = try StorageEnvironment(directory: directory.path)
        let table = try storage.table("numbers", keys: UInt64.self, values: String.self)
        try storage.read { transaction throws in
            #expect(try table.value(for: 1, in: transaction) == nil)
            #expect(try table.value(for: 2, in: transaction) == "two")
            #expect(try table.count(in: transaction) == 1)
        }
    }

    @Test func aThrowingWriteChangesNothing() throws {
        struct Refused: Error {}
        let storage = try StorageEnvironment(directory: directory.path)
        let table = try storage.table("numbers", keys: UInt64.self, values: UInt64.self)
        #expect(throws: Refused.self) {
            try storage.write { transaction throws in
                try table.put(1, for: 1, in: transaction)
                throw Refused()
            }
        }
        #expect(try storage.read { try table.count(in: $0) } == 0)
    }

    @Test func theMapGrowsAndTheWriteRunsAgain() throws {
        let storage = try StorageEnvironment(directory: directory.path, configuration: small())
        let table = try storage.table("blocks", keys: UInt64.self, values: Bytes.self)
        let value = Bytes([UInt8](repeating: 7, count: 100_000))
        var runs = 0
        try storage.write { transaction throws in
            runs += 1
            for key in 0..<100 as Range<UInt64> { try table.put(value, for: key, in: transaction) }
        }
        #expect(runs > 3)
        #expect(storage.usage.mapByteCount >= 10_000_000)
        try storage.read { transaction throws in
            #expect(try table.count(in: transaction) == 100)
            #expect(try table.value(for: 99, in: transaction) == value)
        }
    }

    @Test func aFullMapHiddenByTheBodyIsStillNoticed() throws {
        let storage = try StorageEnvironment(directory: directory.path, configuration: small())
        let table = try storage.table("blocks", keys: UInt64.self, values: Bytes.self)
        let value = Bytes([UInt8](repeating: 7, count: 1_000_000))
        try storage.write { try? table.put(value, for: 1, in: $0) }
        #expect(try storage.read { try table.value(for: 1, in: $0)?.count } == 1_000_000)
    }

    @Test func theSizeLimitIsAnError() throws {
        let storage = try StorageEnvironment(
            directory: directory.path, configuration: small { $0.maximumMapByteCount = 1 << 20 })
        let table = try storage.table("blocks", keys: UInt64.self, values: Bytes.self)
        let value = Bytes([UInt8](repeating: 7, count: 100_000))
        let error = #expect(throws: StorageError.self) {
            try storage.write { transaction throws in
                for key in 0..<100 as Range<UInt64> { try table.put(value, for: key, in: transaction) }
            }
        }
        #expect(error?.code == .sizeLimitReached(byteCount: 1 << 20))
        // The environment is as usable as before.
        try storage.write { try table.put([1], for: 1, in: $0) }
        #expect(try storage.read { try table.count(in: $0) } == 1)
    }

    @Test func aSnapshotBlocksGrowthUntilItGoes() throws {
        let storage = try StorageEnvironment(directory: directory.path, configuration: small())
        let table = try storage.table("blocks", keys: UInt64.self, values: Bytes.self)
        try storage.write { try table.put([1, 2, 3], for: 1, in: $0) }
        let large = Bytes([UInt8](repeating: 7, count: 500_000))
        var held: Bytes? = try storage.snapshot().bytes(for: 1, in: table)
        let error = #expect(throws: StorageError.self) {
            try storage.write { try table.put(large, for: 2, in: $0) }
        }
        #expect(error?.code == .growthBlocked(readers: 1))
        #expect(held == [1, 2, 3])
        held = nil
        try storage.write { try table.put(large, for: 2, in: $0) }
        #expect(try storage.read { try table.value(for: 2, in: $0) } == large)
    }

    @Test func aSnapshotKeepsSeeingWhatItSaw() throws {
        let storage = try StorageEnvironment(directory: directory.path)
        let table = try storage.table("blocks", keys: UInt64.self, values: Bytes.self)
        let content = Bytes([UInt8](repeating: 9, count: 20_000))
        try storage.write { try table.put(content, for: 1, in: $0) }
        let snapshot = try storage.snapshot()
        let before = try #require(try snapshot.bytes(for: 1, in: table))
        for round in 0..<20 as Range<UInt8> {
            try storage.write { try table.put(Bytes([UInt8](repeating: round, count: 20_000)), for: 1, in: $0) }
        }
        try storage.write { _ = try table.removeValue(for: 1, in: $0) }
        #expect(before == content)
        #expect(try snapshot.read { try table.value(for: 1, in: $0) } == content)
        #expect(try storage.read { try table.value(for: 1, in: $0) } == nil)
    }

    @Test func readersAndAGrowingWriterRunTogether() async throws {
        let storage = try StorageEnvironment(
            directory: directory.path, configuration: small { $0.growthPatience = .seconds(20) })
        let left = try storage.table("left", keys: UInt64.self, values: Bytes.self)
        let right = try storage.table("right", keys: UInt64.self, values: Bytes.self)
        let done = Counter()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    while done.value == 0 {
                        try storage.read { transaction throws in
                            #expect(try left.count(in: transaction) == right.count(in: transaction))
                        }
                        await Task.yield()
                    }
                }
            }
            group.addTask {
                defer { done.value = 1 }
                for round in 0..<60 as Range<UInt64> {
                    let value = Bytes([UInt8](repeating: UInt8(round), count: 30_000))
                    try storage.write { transaction throws in
                        try left.put(value, for: round, in: transaction)
                        try right.put(value, for: round, in: transaction)
                    }
                    await Task.yield()
                }
            }
            try await group.waitForAll()
        }
        #expect(try storage.read { try left.count(in: $0) } == 60)
    }

    @Test func aSecondEnvironmentIsRefusedAndToldWhoHasIt() throws {
        let storage = try StorageEnvironment(directory: directory.path)
        let error = #expect(throws: StorageError.self) { try StorageEnvironment(directory: directory.path) }
        #expect(error?.code == .inUse(processID: getpid()))
        #expect(error?.description.contains(directory.path) == true)
        #expect(error?.description.contains("already open in process \(getpid())") == true)
        try storage.close()
        let table = #expect(throws: StorageError.self) {
            try storage.table("x", keys: String.self, values: String.self)
        }
        #expect(table?.code == .closed)
        #expect(throws: StorageError.self) { try storage.read { _ in } }
    }

    @Test func tooManyReadersIsAnError() throws {
        let storage = try StorageEnvironment(
            directory: directory.path, configuration: small { $0.maximumReaders = 4 })
        var snapshots: [StorageSnapshot] = []
        let error = #expect(throws: StorageError.self) {
            while snapshots.count < 1000 { snapshots.append(try storage.snapshot()) }
        }
        guard case .tooManyReaders = error?.code else {
            Issue.record("\(String(describing: error))")
            return
        }
        snapshots = []
        _ = try storage.snapshot()
    }

    @Test func aMissingParentIsNamed() throws {
        let path = directory.path + "/no/such"
        let error = #expect(throws: StorageError.self) { try StorageEnvironment(directory: path) }
        #expect(error?.code == .notFound)
        #expect(error?.path == path)
    }

    @Test func aDamagedFileIsNotOpened() throws {
        let file = open(directory.path + "/data.mdb", O_CREAT | O_WRONLY, 0o600)
        let junk = [UInt8](repeating: 0x5A, count: 65536)
        _ = junk.withUnsafeBytes { write(file, $0.baseAddress, $0.count) }
        close(file)
        let error = #expect(throws: StorageError.self) { try StorageEnvironment(directory: directory.path) }
        #expect(error?.code == .corrupted)
    }

    @Test func formatsAreComparedAndMigrated() throws {
        do { _ = try StorageEnvironment(directory: directory.path, configuration: small { $0.formatVersion = 2 }) }
        let newer = #expect(throws: StorageError.self) { try StorageEnvironment(directory: directory.path) }
        #expect(newer?.code == .newerFormat(found: 2, supported: 1))
        let older = #expect(throws: StorageError.self) {
            try StorageEnvironment(directory: directory.path, configuration: small { $0.formatVersion = 3 })
        }
        #expect(older?.code == .olderFormat(found: 2, supported: 3))
        let found = Counter()
        let migrating = small {
            $0.formatVersion = 3
        }
        var configuration = migrating
        configuration.migrate = { _, version, _ in found.value = Int(version) }
        do { _ = try StorageEnvironment(directory: directory.path, configuration: configuration) }
        #expect(found.value == 2)
        _ = try StorageEnvironment(directory: directory.path, configuration: migrating)
    }

    @Test(.enabled(if: SmallFileSystem.isPossible)) func aFullDiskIsAnErrorAndWhatWasStoredStays() throws {
        let disk = SmallFileSystem(byteCount: 1 << 20)
        let storage = try StorageEnvironment(directory: disk.path)
        let table = try storage.table("blocks", keys: UInt64.self, values: Bytes.self)
        let value = Bytes([UInt8](repeating: 7, count: 100_000))
        var stored: UInt64 = 0
        let error = #expect(throws: StorageError.self) {
            while stored < 100 {
                try storage.write { try table.put(value, for: stored, in: $0) }
                stored += 1
            }
        }
        #expect(error?.code == .diskFull)
        #expect(error?.path == disk.path)
        #expect(stored > 3)
        #expect(try storage.read { try table.count(in: $0) } == Int(stored))
        #expect(try storage.read { try table.value(for: stored - 1, in: $0) } == value)
    }

    @Test(.enabled(if: SmallFileSystem.isPossible)) func openingOnAFullDiskIsAnErrorNotACrash() throws {
        let disk = SmallFileSystem(byteCount: 1 << 16)
        let file = open(disk.path + "/filler", O_CREAT | O_WRONLY, 0o600)
        let page = [UInt8](repeating: 1, count: 4096)
        while page.withUnsafeBytes({ write(file, $0.baseAddress, $0.count) }) > 0 {}
        close(file)
        let error = #expect(throws: StorageError.self) { try StorageEnvironment(directory: disk.path) }
        #expect(error?.code == .diskFull)
    }

    @Test(.enabled(if: SmallFileSystem.isPossible)) func aReadOnlyFileSystemIsNamed() throws {
        let disk = SmallFileSystem(byteCount: 1 << 20)
        disk.setReadOnly(true)
        let error = #expect(throws: StorageError.self) { try StorageEnvironment(directory: disk.path) }
        #expect(error?.code == .readOnly)
        #expect(error?.path.hasPrefix(disk.path) == true)
    }
}

final class Counter: Sendable {
    private let stored = Atomic<Int>(0)

    var value: Int {
        get { stored.load(ordering: .relaxed) }
        set { stored.store(newValue, ordering: .relaxed) }
    }
}
