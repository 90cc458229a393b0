import MartletCore
import Testing

@testable import MartletRuntime

/// UDP sockets of several loops that share a port.
@Suite struct DatagramGroupTests {
    private func open(
        _ group: EventLoopGroup, at place: String = "127.0.0.1:0"
    ) async throws -> [(socket: Confined<DatagramSocket>, receiver: TestReceiver)] {
        let bound = try BoundDatagramSocket.group(of: group.loops.count, at: try #require(SocketAddress(place)))
        var members: [(socket: Confined<DatagramSocket>, receiver: TestReceiver)] = []
        for (loop, bound) in zip(group.loops, bound) {
            let opened = try await loop.perform {
                let socket = try DatagramSocket(loop: loop, over: bound)
                let receiver = TestReceiver(loop)
                socket.delegate = receiver
                return (Confined(socket), receiver)
            }
            members.append(opened)
        }
        return members
    }

    private func send(_ datagrams: [[UInt8]], to address: SocketAddress, _ loop: EventLoop) async throws {
        try await loop.perform {
            let any = try #require(SocketAddress(address.isIP4 ? "127.0.0.1:0" : "[::1]:0"))
            let socket = try DatagramSocket.bind(loop: loop, address: any)
            for bytes in datagrams { try socket.send(Bytes(bytes), to: address) }
        }
    }

    /// A datagram with a short header and an id that begins with `first`.
    private func short(_ first: UInt8) -> [UInt8] { [0x40, first] + [UInt8](repeating: 9, count: 40) }

    private func long(_ first: UInt8, idLength: UInt8 = 8) -> [UInt8] {
        [0xC0, 0, 0, 0, 1, idLength, first] + [UInt8](repeating: 9, count: 40)
    }

    @Test(arguments: ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"])
    func eachMemberGetsTheDatagramsOfItsConnectionIDs(_ place: String) async throws {
        try await withGroup(loopCount: 3) { group in
            let members = try await open(group, at: place)
            #expect(members.count == 3)
            let port = members[0].socket.value.localAddress.port
            #expect(members.map(\.socket.value.localAddress.port) == [port, port, port])
            let to = try #require(SocketAddress(place.hasPrefix("[") ? "[::1]:\(port)" : "127.0.0.1:\(port)"))
            var expected: [[[UInt8]]] = [[], [], []]
            for first in 0...255 as ClosedRange<UInt8> {
                expected[Int(first) % 3] += [short(first), long(first)]
            }
            // Without the bit of QUIC, without an id, or too short to have one: all for the first member.
            expected[0] += [
                [0x21, 1, 2], [0x80, 1, 2, 3, 4, 5, 1], long(1, idLength: 0), [0x41], [0xC0, 0, 0, 0, 1],
            ]
            expected[0] += [[0xC0, 0, 0, 0, 1, 8]]
            for datagrams in expected { try await send(datagrams, to: to, group.loops[0]) }
            for (member, wanted) in zip(members, expected) {
                let receiver = member.receiver
                await receiver.wait { $0.received.count >= wanted.count }
                #expect(try await receiver.loop.perform { receiver.received.map(\.0) } == wanted)
            }
        }
    }

    @Test func aGroupKeepsOthersFromItsPort() async throws {
        try await withGroup(loopCount: 2) { group in
            let members = try await open(group)
            let address = members[0].socket.value.localAddress
            let error = #expect(throws: SocketError.self) { try BoundDatagramSocket.group(of: 2, at: address) }
            #expect(error?.description == "bind to \(address): address already in use")
            #expect(throws: SocketError.self) { try BoundDatagramSocket.bind(at: address) }
        }
    }

    @Test func aGroupOfOneIsASocketLikeOthers() async throws {
        try await withGroup { group in
            let members = try await open(group)
            #expect(members.count == 1)
            let receiver = members[0].receiver
            try await send([short(1), long(1), [0x21]], to: members[0].socket.value.localAddress, group.loops[0])
            await receiver.wait { $0.received.count == 3 }
        }
    }

    /// The system moves the others up, so what arrives comes to somebody.
    @Test func whenAMemberClosesTheOthersGetWhatItWouldHaveGot() async throws {
        try await withGroup(loopCount: 2) { group in
            let members = try await open(group)
            let address = members[0].socket.value.localAddress
            try await group.loops[0].perform { members[0].socket.value.close() }
            try await send([short(0), short(1), long(2), [0x21]], to: address, group.loops[0])
            await members[1].receiver.wait { $0.received.count == 4 }
        }
    }

    @Test func whatNobodyTakesOverIsClosed() throws {
        let address = try BoundDatagramSocket.group(of: 2, at: .loopback(port: 0))[0].address
        // The port is free again.
        #expect(try BoundDatagramSocket.bind(at: address).address == address)
    }

    @Test func aBoundSocketIsTakenOverOnce() async throws {
        try await withGroup { group in
            let loop = group.next()
            let bound = try BoundDatagramSocket.bind(at: .loopback(port: 0))
            try await loop.perform {
                _ = try DatagramSocket(loop: loop, over: bound)
                #expect(throws: SocketError.self) { try DatagramSocket(loop: loop, over: bound) }
            }
        }
    }
}
