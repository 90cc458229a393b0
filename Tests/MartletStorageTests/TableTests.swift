import MartletCore
import TemporaryFiles
import Testing

@testable import MartletStorage

@Suite struct TableTests {
    let directory = TemporaryDirectory()

    @Test func scansFollowTheOrderOfKeys() throws {
        let storage = try StorageEnvironment(directory: directory.path)
        let table = try storage.table("numbers", keys: UInt64.self, values: UInt64.self)
        try storage.write { transaction throws in
            for key in stride(from: 5000, to: 0, by: -1) as StrideTo<Int> {
                try table.put(UInt64(key) * 2, for: UInt64(key), in: transaction)
            }
        }
        try storage.read { transaction throws in
            var seen: [UInt64] = []
            try table.scan(250..<260, in: transaction) { key, value throws in
                #expect(value == key * 2)
                seen.append(key)
                return .next
            }
            #expect(seen == Array(250..<260))
            seen = []
            try table.scan(from: 4998, in: transaction) { key, _ throws in
                seen.append(key)
                return .next
            }
            #expect(seen == [4998, 4999, 5000])
            seen = []
            try table.scan(in: transaction) { key, _ throws in
                seen.append(key)
                return seen.count == 3 ? .stop : .next
            }
            #expect(seen == [1, 2, 3])
            #expect(try table.last(in: transaction)?.key == 5000)
        }
    }

    @Test func prefixesAreFoundAndRemovedAcrossPages() throws {
        let storage = try StorageEnvironment(directory: directory.path)
        let table = try storage.table("paths", keys: String.self, values: [UInt8].self)
        try storage.write { transaction throws in
            for index in 0..<2000 {
                try table.put([UInt8](repeating: 1, count: 50), for: "a/\(index)", in: transaction)
                try table.put([2], for: "b/\(index)", in: transaction)
            }
            try table.put([3], for: "c", in: transaction)
        }
        #expect(try storage.read { try table.keys(prefix: Array("a/19".utf8), in: $0) }.count == 111)
        #expect(try storage.read { try table.keys(prefix: Array("b/".utf8), limit: 7, in: $0) }.count == 7)
        #expect(try storage.write { try table.removeAll(prefix: Array("a/".utf8), in: $0) } == 2000)
        #expect(try storage.write { try table.removeAll(prefix: Array("a/".utf8), in: $0) } == 0)
        #expect(try storage.read { try table.count(in: $0) } == 2001)
        #expect(try storage.write { try table.removeAll(prefix: [], in: $0) } == 2001)
    }

    @Test func keysOfNoBytesOrTooManyAreRefused() throws {
        let storage = try StorageEnvironment(directory: directory.path)
        let table = try storage.table("x", keys: [UInt8].self, values: NoValue.self)
        for count in [0, 512, 100_000] {
            let key = [UInt8](repeating: 1, count: count)
            let put = #expect(throws: StorageError.self) {
                try storage.write { try table.put(NoValue(), for: key, in: $0) }
            }
            #expect(put?.code == .invalidKey(byteCount: count))
            #expect(throws: StorageError.self) { try storage.read { try table.contains(key, in: $0) } }
        }
        let longest = [UInt8](repeating: 1, count: 511)
        try storage.write { try table.put(NoValue(), for: longest, in: $0) }
        #expect(try storage.read { try table.contains(longest, in: $0) })
    }

    @Test func anEntryOfAnotherKindIsAnError() throws {
        let storage = try StorageEnvironment(directory: directory.path)
        let text = try storage.table("x", keys: String.self, values: [UInt8].self)
        let numbers = try storage.table("x", keys: String.self, values: UInt64.self)
        try storage.write { try text.put([1, 2, 3], for: "a", in: $0) }
        let error = #expect(throws: StorageError.self) { try storage.read { try numbers.value(for: "a", in: $0) } }
        #expect(error?.code == .undecodable)
    }

    @Test func tooManyTablesIsAnError() throws {
        var configuration = StorageEnvironment.Configuration()
        configuration.maximumTables = 3
        let storage = try StorageEnvironment(directory: directory.path, configuration: configuration)
        _ = try storage.table("a", keys: String.self, values: String.self)
        _ = try storage.table("b", keys: String.self, values: String.self)
        let error = #expect(throws: StorageError.self) {
            try storage.table("c", keys: String.self, values: String.self)
        }
        #expect(error?.code == .tooManyTables(limit: 3))
    }

    @Test func blocksAreStoredReadAndListed() throws {
        func name(_ byte: UInt8) throws -> Multihash { try Multihash(code: .sha2_256, digest: [byte]) }
        let storage = try StorageEnvironment(directory: directory.path)
        let store = try BlockStore(storage)
        try store.put((0..<10 as Range<UInt8>).map { (multihash: try name($0), block: Bytes([$0, $0])) })
        #expect(try store.block(name(3)) == [3, 3])
        #expect(try store.block(name(30)) == nil)
        let snapshot = try storage.snapshot()
        #expect(try store.mappedBlock(name(4), in: snapshot) == [4, 4])
        #expect(try storage.write { try store.remove(name(0), in: $0) })
        try storage.read { transaction throws in
            #expect(try store.count(in: transaction) == 9)
            #expect(try store.multihashes(limit: 2, in: transaction) == [name(1), name(2)])
            #expect(try store.multihashes(from: name(8), limit: 9, in: transaction).count == 2)
            #expect(try store.byteCount(of: name(5), in: transaction) == 2)
            #expect(try store.contains(name(0), in: transaction) == false)
        }
    }
}
