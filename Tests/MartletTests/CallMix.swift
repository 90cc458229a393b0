import Martlet
import MartletCore
import MartletIdentity
import MartletRPC

/// Calls of every kind, each of which checks its own answer.
enum CallMix {
    enum Kind: Int, CaseIterable { case unary, large, failing, oneWay, items, collect, converse }

    static func register(_ node: Node, runs: Tally) {
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
    static func call(_ kind: Kind, _ index: Int, from node: Node, to peer: PeerID) async throws -> String? {
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

    /// Makes calls at `index` of a thousand until somebody counts on `endings`. Returns what went wrong.
    static func keepCalling(
        _ index: Int, from node: Node, to peer: PeerID, done: Tally, until endings: Tally
    ) async -> [String] {
        var faults: [String] = []
        var round = 0
        repeat {
            let kind = Kind.allCases[(index + round) % Kind.allCases.count]
            do {
                if let fault = try await call(kind, index, from: node, to: peer) { faults.append(fault) }
            } catch {
                faults.append("\(kind): \(error)")
            }
            done.add()
            round += 1
        } while endings.count == 0
        return faults
    }
}
