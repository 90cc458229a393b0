import MartletCore
import MartletIdentity
import Synchronization

@testable import MartletContent

/// A server of one file that does one thing wrong.
final class ScriptedServer: Sendable {
    enum Script: Hashable, Sendable, CustomStringConvertible {
        case corrupt(leaf: Int)
        case corruptNode
        case shortLeaf
        case longLeaf
        case hugeLeaf
        case unaskedLeaf
        case leafTwice
        case endless
        case garbage
        case closeAtOnce
        case neverAnswer
        case stallAfter(bytes: Int)
        case disconnectAfter(bytes: Int)
        case truncatedStructure
        case endlessStructure
        case hugeNode
        case manyNotFound
        case oneByteAtATime

        static let all: [Script] = [
            .corrupt(leaf: 2), .corruptNode, .shortLeaf, .longLeaf, .hugeLeaf, .unaskedLeaf, .leafTwice, .endless,
            .garbage, .closeAtOnce, .neverAnswer, .stallAfter(bytes: 12_000), .disconnectAfter(bytes: 12_000),
            .truncatedStructure, .endlessStructure, .hugeNode, .manyNotFound, .oneByteAtATime,
        ]

        /// Without another peer the fetch cannot end well.
        var isHopeless: Bool {
            switch self {
            case .disconnectAfter, .oneByteAtATime, .neverAnswer, .stallAfter: false
            default: true
            }
        }

        var description: String {
            switch self {
            case .corrupt(let leaf): "corrupt(\(leaf))"
            case .stallAfter(let bytes): "stallAfter(\(bytes))"
            case .disconnectAfter(let bytes): "disconnectAfter(\(bytes))"
            case .corruptNode: "corruptNode"
            case .shortLeaf: "shortLeaf"
            case .longLeaf: "longLeaf"
            case .hugeLeaf: "hugeLeaf"
            case .unaskedLeaf: "unaskedLeaf"
            case .leafTwice: "leafTwice"
            case .endless: "endless"
            case .garbage: "garbage"
            case .closeAtOnce: "closeAtOnce"
            case .neverAnswer: "neverAnswer"
            case .truncatedStructure: "truncatedStructure"
            case .endlessStructure: "endlessStructure"
            case .hugeNode: "hugeNode"
            case .manyNotFound: "manyNotFound"
            case .oneByteAtATime: "oneByteAtATime"
            }
        }
    }

    private let file: TestFile
    private let script: Script
    private let connections = Counter()

    init(_ file: TestFile, _ script: Script) {
        self.file = file
        self.script = script
    }

    var connectionCount: Int { connections.value }

    func source(_ name: String) -> FetchSource {
        FetchSource(name: name) {
            let (client, server) = MemoryStream.pair(capacity: 10_000, piece: self.script == .oneByteAtATime ? 1 : 1500)
            _ = self.connections.next()
            Task {
                do {
                    try await self.serve(server)
                } catch {
                    server.reset()
                }
            }
            return client
        }
    }

    private struct Enough: Error {}

    private func serve(_ stream: MemoryStream) async throws {
        var sent = 0
        func send(_ bytes: [UInt8]) async throws {
            switch script {
            case .disconnectAfter(let limit) where sent + bytes.count > limit:
                try await stream.write(Bytes(Array(bytes.prefix(limit - sent))))
                // Time for what was sent to arrive.
                for _ in 0..<50 { await Task.yield() }
                throw Enough()
            case .stallAfter(let limit) where sent + bytes.count > limit:
                if limit > sent { try await stream.write(Bytes(Array(bytes.prefix(limit - sent)))) }
                while try await stream.read() != nil {}
                throw Enough()
            default: break
            }
            sent += bytes.count
            try await stream.write(Bytes(bytes))
        }
        func item(_ id: UInt32, _ position: UInt64, _ status: BlockStream.Status, _ count: Int) -> [UInt8] {
            var bytes: [UInt8] = []
            BlockStream.ItemHeader(requestID: id, position: position, status: status, count: UInt64(count))
                .append(to: &bytes)
            return bytes
        }
        switch script {
        case .closeAtOnce: return try await stream.finish()
        case .garbage: return try await stream.write(Bytes([UInt8](repeating: 0xC5, count: 5000)))
        default: break
        }
        var session = BlockServerSession()
        while let bytes = try await stream.read() {
            try session.received(bytes)
            if script == .neverAnswer { continue }
            while let step = session.next(maximum: 1) {
                switch step {
                case .cancelled(let id, let position, let count):
                    try await send(item(id, position, .cancelled, Int(count)))
                case .structure(let id, _):
                    session.finishStructure()
                    var position: UInt64 = 0
                    for node in file.structure {
                        var block = node.block.array
                        switch script {
                        case .corruptNode where position == 1: block[block.count - 1] ^= 1
                        case .hugeNode: try await send(item(id, 0, .found, 1 << 40))
                        case .truncatedStructure where position == 2: break
                        default: break
                        }
                        if script == .truncatedStructure, position == 2 { break }
                        try await send(item(id, position, .found, block.count) + block)
                        position += 1
                    }
                    if script == .endlessStructure {
                        while true {
                            try await send(item(id, position, .found, 1000) + [UInt8](repeating: 1, count: 1000))
                            position += 1
                        }
                    }
                    try await send(item(id, position, .end, 0))
                case .leaves(let id, let position, _, let indices):
                    let index = Int(indices.lowerBound)
                    var leaf = file.leaf(index)
                    switch script {
                    case .corrupt(let bad) where bad == index: leaf[leaf.count / 2] ^= 0x10
                    case .shortLeaf:
                        leaf.removeLast()
                    case .longLeaf:
                        leaf.append(0)
                    case .hugeLeaf:
                        try await send(item(id, position, .found, 1 << 50))
                        continue
                    case .unaskedLeaf:
                        try await send(item(id &+ 1000, position, .found, leaf.count) + leaf)
                        continue
                    case .leafTwice:
                        try await send(item(id, position, .found, leaf.count) + leaf)
                    case .endless:
                        try await send(item(id, position, .found, leaf.count) + leaf)
                        while true { try await send([UInt8](repeating: 0x80, count: 1000)) }
                    case .manyNotFound:
                        try await send(item(id, position, .notFound, 1 << 40))
                        continue
                    default: break
                    }
                    try await send(item(id, position, .found, leaf.count) + leaf)
                case .block(let id, let position, _): try await send(item(id, position, .notFound, 1))
                }
            }
        }
        try await stream.finish()
    }
}
