import Glibc
import MartletCore
import MartletIdentity
import MartletRPC
import MartletRuntime
import MartletSwarm
import Synchronization
import Testing

@testable import Martlet

private final class Gate: Sendable {
    private let isOpen = Atomic(false)

    func open() { isOpen.store(true, ordering: .releasing) }

    /// Keeps the thread.
    func wait() { while !isOpen.load(ordering: .acquiring) { usleep(1000) } }
}

/// The first call to a peer of which nothing is known yet.
@Suite struct RPCFirstCallTests {
    /// Two nodes, of which the second serves calls and says nothing of itself, connected.
    private func pair() async throws -> NodePair {
        // A peer that stands still is not given up, however long it takes on a busy machine.
        let pair = try await NodePair { $0.connection.deadAfter = nil }
        pair.b.handle(Identify.protocolID) { stream in while try await stream.read() != nil {} }
        pair.b.rpc.register("Test") { service in
            service.unary("echo") { request, context in request }
        }
        try await pair.connect()
        return pair
    }

    @Test func theHelloDoesNotWaitForThePeerToAgreeOnTheProtocol() async throws {
        let pair = try await pair()
        // The peer stands still: whatever the caller does until it goes on, it does without an answer.
        let gate = Gate()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for loop in pair.b.driver.loops.loops {
                group.addTask {
                    try await loop.perform { gate.wait() }
                }
            }
            let call = Task { try await pair.a.call(pair.b.peerID, "Test.echo", RPCMessage(utf8: "first")).text }
            var isOpen = false
            for _ in 0..<4000 where !isOpen {
                let caller = try pair.a.rpc.caller(for: pair.b.peerID)
                if let link = caller.withLock({ caller.links.compactMap(\.self).first }) {
                    isOpen = try await link.loop.perform { link.isOpen }
                }
                try await Task.sleep(for: .milliseconds(5))
            }
            gate.open()
            #expect(isOpen)
            #expect(try await call.value == "first")
        }
        await pair.stop()
    }

    @Test func aPeerThatDoesNotSpeakTheProtocolIsFoundOutAndNothingWasSent() async throws {
        let pair = try await pair()
        pair.b.driver.engine.local.protocols.unregister(NodeRPC.protocolID)
        let error = await #expect(throws: RPCError.self) {
            try await pair.a.call(pair.b.peerID, "Test.echo", RPCMessage(utf8: "first"))
        }
        #expect(error?.code == .unimplemented)
        #expect(error?.outcome == .notSent)
        await pair.stop()
    }
}
