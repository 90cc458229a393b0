import Foundation
import Synchronization
import Testing

@testable import martlet_cli

@Suite struct ControlServerTests {
    private func withServer(
        _ handler: @escaping ControlServer.Handler, _ body: @escaping @Sendable (DataDirectory) throws -> Void
    ) async throws {
        try await withTemporaryFolder { folder in
            let directory = try DataDirectory(option: folder)
            let server = try ControlServer(path: directory.controlSocket, handler: handler)
            defer { server.stop() }
            try body(directory)
        }
    }

    @Test func reportsComeBeforeTheAnswer() async throws {
        let round = RoundTripReport(peer: "p", sequence: 1, rttUs: 5, path: "direct", transport: "tcp")
        try await withServer { _, report in
            for _ in 0..<100 { report(.roundTrip(round)) }
            return .nothing
        } _: { directory in
            let client = try #require(try ControlClient(directory))
            var count = 0
            guard case .nothing = try client.ask(.peers, report: { _ in count += 1 }) else {
                Issue.record("another answer came")
                return
            }
            #expect(count == 100)
        }
    }

    @Test func aFailureKeepsItsCodeAndItsExitStatus() async throws {
        try await withServer { _, _ in
            throw Failure("nobody there", code: "dialFailed", exitStatus: .unreachable)
        } _: { directory in
            let client = try #require(try ControlClient(directory))
            do {
                _ = try client.ask(.peers)
                Issue.record("the request did not fail")
            } catch let failure as Failure {
                #expect(failure.message == "nobody there")
                #expect(failure.code == "dialFailed")
                #expect(failure.exitStatus == .unreachable)
            }
        }
    }

    @Test func aClientThatGoesAwayCancelsItsRequest() async throws {
        let began = DispatchSemaphore(value: 0)
        let cancelled = DispatchSemaphore(value: 0)
        try await withServer { _, _ in
            began.signal()
            do {
                try await Task.sleep(for: .seconds(3600))
            } catch {
                cancelled.signal()
                throw error
            }
            return .nothing
        } _: { directory in
            let descriptor = try #require(try ControlSocket.connect(to: directory.controlSocket))
            let request = try JSON.encode(ControlRequest.peers) + [0x0A]
            #expect(write(descriptor, request, request.count) == request.count)
            began.wait()
            close(descriptor)
            cancelled.wait()
        }
    }

    @Test func aRequestBeyondTheLimitIsRefused() async throws {
        try await withServer { _, _ in
            .nothing
        } _: { directory in
            let client = try #require(try ControlClient(directory))
            let path = String(repeating: "x", count: ControlRequest.byteLimit)
            #expect(throws: Failure.self) { try client.ask(.share(path: path)) }
            let other = try #require(try ControlClient(directory))
            guard case .nothing = try other.ask(.peers) else {
                Issue.record("the server is not there any more")
                return
            }
        }
    }

    @Test func whatIsNoRequestIsRefused() async throws {
        try await withServer { _, _ in
            .nothing
        } _: { directory in
            let descriptor = try #require(try ControlSocket.connect(to: directory.controlSocket))
            defer { close(descriptor) }
            let nonsense = Array("{\"launch\":{}}\n".utf8)
            #expect(write(descriptor, nonsense, nonsense.count) == nonsense.count)
            var answer = [UInt8](repeating: 0, count: 4096)
            let n = read(descriptor, &answer, answer.count)
            #expect(String(decoding: answer.prefix(max(0, n)), as: UTF8.self).contains("does not understand"))
            #expect(read(descriptor, &answer, answer.count) == 0)
        }
    }

    @Test func clientsBeyondTheLimitAreTold() async throws {
        try await withServer { _, _ in
            .nothing
        } _: { directory in
            var descriptors: [CInt] = []
            defer { for descriptor in descriptors { close(descriptor) } }
            for _ in 0..<ControlServer.clientLimit {
                descriptors.append(try #require(try ControlSocket.connect(to: directory.controlSocket)))
            }
            let client = try #require(try ControlClient(directory))
            do {
                _ = try client.ask(.peers)
                Issue.record("one client too many was served")
            } catch let failure as Failure {
                #expect(failure.code == "limitReached")
            }
        }
    }

    @Test func aPathTooLongForASocketAddressWorks() async throws {
        try await withTemporaryFolder { folder in
            let long = folder + "/" + String(repeating: "long/", count: 30)
            try FileManager.default.createDirectory(atPath: long, withIntermediateDirectories: true)
            let directory = try DataDirectory(option: long)
            let server = try ControlServer(path: directory.controlSocket) { _, _ in .nothing }
            defer { server.stop() }
            let client = try #require(try ControlClient(directory))
            guard case .nothing = try client.ask(.peers) else {
                Issue.record("another answer came")
                return
            }
        }
    }

    @Test func progressIsReplacedWhenTheClientDoesNotRead() async throws {
        let finished = DispatchSemaphore(value: 0)
        try await withServer { _, report in
            for bytes in 0..<20_000 { report(.progress(TransferProgress(bytes: bytes, total: 20_000))) }
            finished.signal()
            return .nothing
        } _: { directory in
            let descriptor = try #require(try ControlSocket.connect(to: directory.controlSocket))
            defer { close(descriptor) }
            let request = try JSON.encode(ControlRequest.peers) + [0x0A]
            #expect(write(descriptor, request, request.count) == request.count)
            finished.wait()
            var received = 0
            var last: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 64 << 10)
            while case let n = read(descriptor, &buffer, buffer.count), n > 0 {
                received += n
                last = Array((last + buffer[..<n]).suffix(200))
            }
            // What a pipe holds, and not what was reported.
            #expect(received < 1 << 20)
            #expect(String(decoding: last, as: UTF8.self).contains("done"))
        }
    }
}
