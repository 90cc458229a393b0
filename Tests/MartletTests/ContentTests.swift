import Martlet
import TemporaryFiles
import Testing

#if canImport(Glibc)
    import Glibc
#endif

private func write(_ bytes: [UInt8], to path: String) throws {
    let file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    try #require(file >= 0)
    defer { close(file) }
    var offset = 0
    while offset < bytes.count {
        let n = bytes[offset...].withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
        try #require(n > 0)
        offset += n
    }
}

private func read(_ path: String) throws -> [UInt8] {
    let file = open(path, O_RDONLY)
    try #require(file >= 0)
    defer { close(file) }
    var result: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    while true {
        let n = Glibc.read(file, &buffer, buffer.count)
        try #require(n >= 0)
        if n == 0 { return result }
        result += buffer[0..<n]
    }
}

private func content(_ count: Int) -> [UInt8] {
    var random = RandomSource(seed: UInt64(count))
    return random.bytes(count)
}

@Test func aFileComesFromTwoNodesAtOnce() async throws {
    let directory = TemporaryDirectory()
    let original = content(20 << 20)
    try write(original, to: directory.path + "/model")
    let first = try await NodePair.node()
    let second = try await NodePair.node { $0.dataDirectory = directory.path + "/second" }
    let shared = try await first.share(directory.path + "/model")
    #expect(try await second.share(directory.path + "/model").root == shared.root)
    #expect(shared.size == original.count)
    let reader = try await NodePair.node()
    let summary = try await reader.fetch(
        shared.root, to: directory.path + "/copy", from: [first.listenAddresses[0], second.listenAddresses[0]])
    #expect(summary.size == original.count)
    #expect(summary.sources.map(\.peer) == [first.peerID, second.peerID])
    #expect(summary.sources.map(\.bytes).reduce(0, +) == original.count)
    #expect(try read(directory.path + "/copy") == original)
    for node in [first, second, reader] { await node.stop() }
}

@Test func aFileThatChangedIsNotServedAsIfItHadNot() async throws {
    let directory = TemporaryDirectory()
    try write(content(3 << 20), to: directory.path + "/model")
    let server = try await NodePair.node()
    let shared = try await server.share(directory.path + "/model")
    try write(content(3 << 20 | 1), to: directory.path + "/model")
    let reader = try await NodePair.node()
    await #expect(throws: MartletError.self) {
        try await reader.fetch(shared.root, to: directory.path + "/copy", from: [server.listenAddresses[0]])
    }
    #expect(access(directory.path + "/copy", F_OK) != 0)
    #expect(try await server.shares().map(\.isCurrent) == [false])
    await reader.stop()
    await server.stop()
}

@Test func whatWasSharedIsServedAfterARestart() async throws {
    let directory = TemporaryDirectory()
    let original = content(2_000_000)
    try write(original, to: directory.path + "/model")
    let first = try await NodePair.node { $0.dataDirectory = directory.path + "/data" }
    let root = try await first.share(directory.path + "/model").root
    await first.stop()
    let second = try await NodePair.node { $0.dataDirectory = directory.path + "/data" }
    let reader = try await NodePair.node()
    try await reader.fetch(root, to: directory.path + "/copy", from: [second.listenAddresses[0]])
    #expect(try read(directory.path + "/copy") == original)
    await reader.stop()
    await second.stop()
}

@Test func aReadOnlyDestinationStopsTheFetchWithItsName() async throws {
    let directory = TemporaryDirectory()
    try write(content(100_000), to: directory.path + "/model")
    let server = try await NodePair.node()
    let shared = try await server.share(directory.path + "/model")
    let reader = try await NodePair.node()
    let error = await #expect(throws: MartletError.self) {
        try await reader.fetch(shared.root, to: "/nowhere/at/all/copy", from: [server.listenAddresses[0]])
    }
    #expect(error?.message.contains("/nowhere/at/all") == true)
    await reader.stop()
    await server.stop()
}
