import MartletCore
import MartletIdentity
import MartletRPC
import TemporaryFiles
import Testing

@testable import Martlet

/// What goes on between two nodes goes on when the connection under it is lost or replaced by a better one.
@Suite struct PathMoveTests {
    /// Calls of every kind, each of which checks its own answer.
    private enum Kind: Int, CaseIterable { case unary, large, failing, oneWay, items, collect, converse }

    private static func register(_ node: Node, runs: Tally) {
        node.rpc.register("Test") { service in
            service.unary("unary") { request, _ in
                runs.add()
                try await Task.sleep(for: .milliseconds(request.byteCount % 20))
                return request
            }
            service.unary("failing") { _, _ in
                runs.add()
                throw RPCError(.notFound, "not there")
            }
            service.oneWay("oneWay") { _, _ in runs.add() }
            service.serverStreaming("items") { request, writer, _ in
                runs.add()
                for index in 0..<20 { try await writer.write(RPCMessage(utf8: "\(index)")) }
            }
            service.clientStreaming("collect") { messages, _ in
                runs.add()
                var texts: [String] = []
                for try await message in messages { texts.append(message.text) }
                return RPCMessage(utf8: texts.joined(separator: ","))
            }
            service.bidirectional("converse") { messages, writer, _ in
                runs.add()
                for try await message in messages { try await writer.write(message) }
            }
        }
    }

    /// Nil when all is as it should be.
    private static func call(_ kind: Kind, _ index: Int, from node: Node, to peer: PeerID) async throws -> String? {
        let options = RPCCallOptions(priority: RPCPriority.allCases[index % 3])
        let text = "call \(index)" + String(repeating: ".", count: index % 20)
        switch kind {
        case .unary:
            let answer = try await node.call(peer, "Test.unary", RPCMessage(utf8: text), options: options).text
            return answer == text ? nil : "\(text) was answered by \(answer)"
        case .large:
            let large = Bytes([UInt8](repeating: UInt8(truncatingIfNeeded: index), count: 300_000))
            let answer = try await node.call(peer, "Test.unary", RPCMessage(large), options: options)
            return answer.contiguous() == large ? nil : "a large answer differs"
        case .failing:
            do {
                _ = try await node.call(peer, "Test.failing", RPCMessage(utf8: text), options: options)
            } catch let error as RPCError where error.code == .notFound && error.outcome == .executed {
                return nil
            }
            return "a failure did not come through"
        case .oneWay:
            try await node.send(peer, "Test.oneWay", RPCMessage(utf8: text))
            return nil
        case .items:
            let stream = try await node.openCall(peer, "Test.items", RPCMessage(utf8: text), options: options)
            stream.finish()
            var next = 0
            for try await item in stream {
                guard item.text == "\(next)" else { return "item \(next) is \(item.text)" }
                next += 1
            }
            return next == 20 ? nil : "\(next) items"
        case .collect:
            let stream = try await node.openCall(peer, "Test.collect", options: options)
            for index in 0..<20 { try await stream.send(RPCMessage(utf8: "\(index)")) }
            stream.finish()
            let answer = try await stream.next()?.text
            return answer == (0..<20).map { "\($0)" }.joined(separator: ",") ? nil : "collected \(answer ?? "nothing")"
        case .converse:
            let stream = try await node.openCall(peer, "Test.converse", options: options)
            for index in 0..<20 {
                try await stream.send(RPCMessage(utf8: "\(index)"))
                guard try await stream.next()?.text == "\(index)" else { return "echo \(index) differs" }
            }
            stream.finish()
            return try await stream.next() == nil ? nil : "more echoes than words"
        }
    }

    @Test(arguments: [true, false]) func aThousandCallsGoOnOverEveryChangeOfConnection(callerIsSmaller: Bool)
        async throws
    {
        let pair = try await MovingPair(callerIsSmaller: callerIsSmaller)
        let runs = Tally()
        let done = Tally()
        Self.register(pair.server, runs: runs)
        let endings = Tally()
        try await withThrowingTaskGroup(of: [String].self) { group in
            for index in 0..<1000 {
                group.addTask {
                    var faults: [String] = []
                    var round = 0
                    repeat {
                        let kind = Kind.allCases[(index + round) % Kind.allCases.count]
                        do {
                            if let fault = try await Self.call(
                                kind, index, from: pair.caller, to: pair.server.peerID)
                            {
                                faults.append(fault)
                            }
                        } catch {
                            faults.append("\(kind): \(error)")
                        }
                        done.add()
                        round += 1
                    } while endings.count == 0
                    return faults
                }
            }
            for transport in 0..<8 {
                await done.wait(for: 100)
                try await pair.replaceConnection(transport: transport)
                await done.wait(for: 100)
                if transport % 4 == 3 { try await pair.loseAll() }
            }
            endings.add()
            for try await faults in group { #expect(faults == []) }
        }
        // Each ran once; one-way calls may still be on their way.
        while runs.count < done.count { try await Task.sleep(for: .milliseconds(5)) }
        #expect(runs.count == done.count)
        await pair.stop()
    }

    @Test func theConnectionThatCallsHaveLeftIsClosed() async throws {
        let pair = try await MovingPair(callerIsSmaller: true)
        Self.register(pair.server, runs: Tally())
        for transport in 0..<4 {
            #expect(try await Self.call(.unary, 1, from: pair.caller, to: pair.server.peerID) == nil)
            try await pair.replaceConnection(transport: transport)
        }
        while try await pair.caller.peers().count > 1 { try await Task.sleep(for: .milliseconds(5)) }
        #expect(try await Self.call(.unary, 1, from: pair.caller, to: pair.server.peerID) == nil)
        await pair.stop()
    }

    @Test(arguments: [true, false]) func aFetchGoesOnOverEveryChangeOfConnection(callerIsSmaller: Bool) async throws {
        let directory = TemporaryDirectory()
        let pair = try await MovingPair(callerIsSmaller: callerIsSmaller)
        var random = RandomSource(seed: 3)
        let block = random.bytes(1 << 20)
        var original: [UInt8] = []
        // Every megabyte differs from the others.
        for index in 0..<64 { original += block.dropFirst(index * 1000) + block.prefix(index * 1000) }
        directory.write(original, to: "model")
        let root = try await pair.server.share(directory.file("model")).root
        let steps = Tally()
        let fetch = Task {
            defer { for _ in 0..<1000 { steps.add() } }
            return try await pair.caller.fetch(
                root, to: directory.file("copy"), from: [pair.server.listenAddresses[0]]
            ) { _ in steps.add() }
        }
        let changes = Tally()
        let changer = Task {
            var transport = 0
            while !Task.isCancelled {
                await steps.wait(for: 1)
                try await pair.replaceConnection(transport: transport)
                transport += 1
                if transport % 4 == 3 { try await pair.loseAll() }
                changes.add()
            }
        }
        let summary = try await fetch.value
        changer.cancel()
        #expect(summary.size == original.count)
        #expect(summary.sources.map(\.bytes) == [original.count])
        #expect(directory.read("copy") == original)
        #expect(changes.count > 0)
        _ = await changer.result
        await pair.stop()
    }
}
