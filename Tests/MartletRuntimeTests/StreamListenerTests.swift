import Glibc
import MartletCore
import TemporaryFiles
import Testing

@testable import MartletRuntime

@Suite struct StreamListenerTests {
    private func listen(
        _ loop: EventLoop, _ address: SocketAddress, options: ListenerOptions = .init(),
        onAccept: @escaping @Sendable (AcceptedDescriptor) -> Void = { $0.close() }
    ) async throws -> Confined<StreamListener> {
        try await loop.perform {
            Confined(try StreamListener.listen(loop: loop, address: address, options: options, onAccept: onAccept))
        }
    }

    @Test func portZeroGetsAPort() async throws {
        try await withGroup { group in
            let listener = try await listen(group.next(), .loopback(port: 0))
            #expect(listener.value.boundAddress.port != 0)
            #expect(listener.value.boundAddress.isLoopback)
        }
    }

    @Test func aPortInUseIsAnErrorThatNamesIt() async throws {
        try await withGroup(loopCount: 2) { group in
            let first = try await listen(group.loops[0], .loopback(port: 0))
            let address = first.value.boundAddress
            let error = await #expect(throws: SocketError.self) { _ = try await listen(group.loops[1], address) }
            #expect(error?.description == "listen on \(address): address already in use")
            // The wildcard address covers it too.
            await #expect(throws: SocketError.self) {
                _ = try await listen(group.loops[1], SocketAddress(host: .ip4(.any), port: address.port))
            }
            try await group.loops[0].perform { first.value.close() }
            let second = try await listen(group.loops[1], address)
            #expect(second.value.boundAddress == address)
        }
    }

    /// The port stays usable for a listener while connections from it live on, and for dialing while it listens.
    @Test func listeningAgainOnAPortThatDialsGoOutFrom() async throws {
        try await withGroup { group in
            let loop = group.next()
            let target = try await listen(loop, .loopback(port: 0)) { accepted in
                loop.execute {
                    if let socket = try? StreamSocket(loop: loop, descriptor: accepted.descriptor) {
                        TestPeer(loop).attach(socket)
                    }
                }
            }
            let first = try await listen(loop, .loopback(port: 0))
            let address = first.value.boundAddress
            let peer = TestPeer(loop)
            try await connect(peer, to: target.value.boundAddress, from: address)
            try await loop.perform { first.value.close() }
            let second = try await listen(loop, address)
            #expect(second.value.boundAddress == address)
            try await loop.perform { #expect(peer.socket != nil) }
        }
    }

    @Test func bothVersionsListenOnOnePort() async throws {
        try await withGroup { group in
            let loop = group.next()
            let four = try await listen(loop, SocketAddress(host: .ip4(.any), port: 0))
            let port = four.value.boundAddress.port
            let six = try await listen(loop, SocketAddress(host: .ip6(.any, scope: 0), port: port))
            #expect(six.value.boundAddress.port == port)
        }
    }

    @Test func acceptedConnectionsGoToAnyLoop() async throws {
        try await withGroup(loopCount: 3) { group in
            let served = Latch()
            let listener = try await listen(group.loops[0], .loopback(port: 0)) { accepted in
                #expect(accepted.remoteAddress.isLoopback)
                let loop = group.loops[2]
                loop.execute {
                    guard let socket = try? StreamSocket(loop: loop, descriptor: accepted.descriptor) else { return }
                    let peer = TestPeer(loop)
                    peer.attach(socket)
                    peer.outgoing = [1]
                    socket.close()
                    served.signal()
                }
            }
            let peers = (0..<50).map { _ in TestPeer(group.loops[1]) }
            for peer in peers { try await connect(peer, to: listener.value.boundAddress) }
            for peer in peers { await peer.wait { $0.closed == .some(nil) && $0.received == [1] } }
            await served.wait(50)
        }
    }

    @Test func closingStopsAcceptingAndFreesThePort() async throws {
        try await withGroup { group in
            let loop = group.next()
            let listener = try await listen(loop, .loopback(port: 0))
            let address = listener.value.boundAddress
            try await loop.perform {
                listener.value.close()
                listener.value.close()
            }
            await #expect(throws: SocketError.self) { try await connect(TestPeer(loop), to: address) }
        }
    }

    @Test func closingFromInsideTheHandler() async throws {
        try await withGroup { group in
            let loop = group.next()
            let listener = Confined<StreamListener?>(nil)
            let accepted = Latch()
            let address = try await loop.perform {
                listener.value = try StreamListener.listen(loop: loop, address: .loopback(port: 0)) { descriptor in
                    descriptor.close()
                    listener.value?.close()
                    accepted.signal()
                }
                return listener.value!.boundAddress
            }
            try? await connect(TestPeer(loop), to: address)
            await accepted.wait()
        }
    }

    /// Out of descriptors: accepting pauses, says why, and goes on by itself.
    @Test func runningOutOfDescriptorsPausesAccepting() async throws {
        try await withGroup { group in
            let loop = group.next()
            let accepted = Latch()
            let listener = try await listen(loop, .loopback(port: 0)) { descriptor in
                descriptor.close()
                accepted.signal()
            }
            let attempts = Confined(0)
            let troubles = Confined<[String]>([])
            try await loop.perform {
                listener.value.accept = { descriptor in
                    attempts.value += 1
                    if let trouble = listener.value.trouble { troubles.value.append(trouble.description) }
                    if attempts.value <= 2 {
                        errno = EMFILE
                        return (-1, nil)
                    }
                    return StreamListener.systemAccept(descriptor)
                }
            }
            try await connect(TestPeer(loop), to: listener.value.boundAddress)
            await accepted.wait()
            try await loop.perform {
                // Two failures, one connection, one "no more": no spinning in between.
                #expect(attempts.value <= 4)
                let expected = "accept on \(listener.value.boundAddress): too many open files"
                #expect(troubles.value.allSatisfy { $0 == expected } && troubles.value.count >= 2)
            }
        }
    }

    // MARK: Unix-domain sockets

    @Test func aUnixSocketIsPrivateAndRemovedAtTheEnd() async throws {
        let directory = TemporaryDirectory()
        let path = directory.path + "/control"
        try await withGroup { group in
            let listener = try await listen(group.next(), .unix(path: path))
            var status = stat()
            #expect(stat(path, &status) == 0)
            #expect(status.st_mode & 0o777 == 0o600)
            try await group.next().perform { listener.value.close() }
            #expect(access(path, F_OK) != 0)
        }
    }

    @Test func aStaleUnixSocketIsReplacedAndALiveOneIsNot() async throws {
        let directory = TemporaryDirectory()
        let path = directory.path + "/control"
        // A listener that died without cleaning up.
        let dead = try Descriptor.open(Descriptor.stream, for: .unix(path: path))
        #expect(Descriptor.bind(dead, to: .unix(path: path)) == 0)
        #expect(Glibc.listen(dead, 1) == 0)
        Descriptor.close(dead)
        try await withGroup { group in
            let loop = group.next()
            let live = try await listen(loop, .unix(path: path))
            let error = await #expect(throws: SocketError.self) { _ = try await listen(loop, .unix(path: path)) }
            #expect(error?.description == "listen on \(path): address already in use")
            let peer = TestPeer(loop)
            try await connect(peer, to: live.value.boundAddress)
        }
        #expect(access(path, F_OK) != 0)
    }

    @Test func aFileThatIsNoSocketIsLeftAlone() async throws {
        let directory = TemporaryDirectory()
        let path = directory.path + "/precious"
        close(open(path, O_CREAT | O_WRONLY, 0o600))
        try await withGroup { group in
            let error = await #expect(throws: SocketError.self) {
                _ = try await listen(group.next(), .unix(path: path))
            }
            #expect(error?.code == EADDRINUSE)
        }
        #expect(access(path, F_OK) == 0)
    }

    @Test func aSuccessorsSocketFileIsNotRemoved() async throws {
        let directory = TemporaryDirectory()
        let path = directory.path + "/control"
        try await withGroup { group in
            let loop = group.next()
            let old = try await listen(loop, .unix(path: path))
            unlink(path)
            let new = try await listen(loop, .unix(path: path))
            try await loop.perform { old.value.close() }
            #expect(access(path, F_OK) == 0)
            try await loop.perform { new.value.close() }
            #expect(access(path, F_OK) != 0)
        }
    }
}
