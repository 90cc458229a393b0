import MartletCore
import Synchronization

@testable import MartletRuntime

/// Answers DNS questions on the loopback from a table: addresses and texts by name.
final class FakeNameServer: DatagramSocketDelegate, @unchecked Sendable {
    enum Record {
        case ip4([UInt8])
        case ip6([UInt8])
        case text([String])
    }

    private let zone: [String: [Record]]
    private var socket: DatagramSocket?
    let questions = Mutex<[String]>([])
    /// Never answers.
    let isSilent: Bool

    private init(_ zone: [String: [Record]], isSilent: Bool) {
        self.zone = zone
        self.isSilent = isSilent
    }

    static func start(
        on loop: EventLoop, _ zone: [String: [Record]], isSilent: Bool = false
    ) async throws -> (FakeNameServer, SocketAddress) {
        let server = FakeNameServer(zone, isSilent: isSilent)
        let address = try await loop.perform {
            let socket = try DatagramSocket.bind(loop: loop, address: .loopback(port: 0))
            socket.delegate = server
            server.socket = socket
            return socket.localAddress
        }
        return (server, address)
    }

    func datagramReceived(_ region: ReceivedRegion, from address: SocketAddress) {
        let question = region.slice(0..<region.count).array
        guard question.count > 12 else { return }
        var labels: [String] = []
        var index = 12
        while index < question.count, question[index] != 0 {
            let length = Int(question[index])
            labels.append(String(decoding: question[(index + 1)..<(index + 1 + length)], as: UTF8.self))
            index += length + 1
        }
        let end = index + 5
        let name = labels.joined(separator: ".").lowercased()
        let type = Int(question[index + 1]) << 8 | Int(question[index + 2])
        questions.withLock { $0.append("\(name) \(type)") }
        guard !isSilent else { return }
        let records = (zone[name] ?? []).compactMap { record -> (Int, [UInt8])? in
            switch record {
            case .ip4(let bytes): type == 1 ? (1, bytes) : nil
            case .ip6(let bytes): type == 28 ? (28, bytes) : nil
            case .text(let pieces):
                type == 16 ? (16, pieces.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) }) : nil
            }
        }
        // An answer, recursion available; 3 is "no such name".
        var answer = Array(question[..<2]) + [0x81, zone[name] == nil ? 0x83 : 0x80]
        answer += [0, 1, UInt8(records.count >> 8), UInt8(records.count & 255), 0, 0, 0, 0]
        answer += question[12..<end]
        for (type, data) in records {
            answer += [0xC0, 12, 0, UInt8(type), 0, 1, 0, 0, 0, 60, UInt8(data.count >> 8), UInt8(data.count & 255)]
            answer += data
        }
        try? socket?.send(Bytes(answer), to: address)
    }
}
