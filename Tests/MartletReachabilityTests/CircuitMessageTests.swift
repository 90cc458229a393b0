import MartletCore
import MartletIdentity
import MartletSwarm
import MartletTestSupport
import SwiftProtobuf
import Testing

@testable import MartletReachability

private let alice = KeyPair(seed: [UInt8](repeating: 1, count: 32))
private let relay = KeyPair(seed: [UInt8](repeating: 2, count: 32))

@Suite struct CircuitMessageTests {
    private let hops: [HopMessage] = [
        .reserve,
        .connect(to: alice.peerID),
        .status(.ok),
        .status(.ok, limit: ConnectionLimit(duration: .seconds(120), byteCount: 131_072)),
        .status(.noReservation),
        .status(CircuitStatus(rawValue: 999)),
    ]

    @Test func hopMessagesSurviveTheWireInAnyPieces() throws {
        let reservation = CircuitReservation(
            expiration: 1_800_000_000, addresses: [try Multiaddr("/ip4/192.0.2.1/tcp/4001/p2p/\(relay.peerID)")],
            voucher: [1, 2, 3])
        let messages = hops + [.status(.ok, reservation: reservation, limit: ConnectionLimit(byteCount: 5))]
        try DecoderVerifier.verify(messages.flatMap(\.encoded), expecting: messages) {
            var reader = PrefixedMessageReader.circuit()
            return { chunk in
                var bytes = Bytes(Array(chunk))
                var output: [HopMessage] = []
                while let message = try reader.next(from: &bytes) { output.append(try HopMessage(message)) }
                return output
            }
        }
    }

    @Test func stopMessagesSurviveTheWireInAnyPieces() throws {
        let messages: [StopMessage] = [
            .connect(from: alice.peerID), .connect(from: alice.peerID, limit: ConnectionLimit(duration: .seconds(9))),
            .status(.ok), .status(.connectionFailed),
        ]
        try DecoderVerifier.verify(messages.flatMap(\.encoded), expecting: messages) {
            var reader = PrefixedMessageReader.circuit()
            return { chunk in
                var bytes = Bytes(Array(chunk))
                var output: [StopMessage] = []
                while let message = try reader.next(from: &bytes) { output.append(try StopMessage(message)) }
                return output
            }
        }
    }

    @Test func whatFollowsAMessageIsLeftForTheConnection() throws {
        var reader = PrefixedMessageReader.circuit()
        var bytes = Bytes(HopMessage.status(.ok).encoded + [7, 8, 9])
        let message = try #require(try reader.next(from: &bytes))
        #expect(try HopMessage(message) == .status(.ok))
        #expect(bytes == [7, 8, 9])
        #expect(reader.isAtBoundary)
    }

    @Test func aMessageBeyondTheLimitIsRefusedByItsLength() throws {
        var reader = PrefixedMessageReader.circuit()
        var allowed = Bytes(Varint.encode(UInt64(Circuit.messageLimit)) + [UInt8](repeating: 0, count: 10))
        #expect(try reader.next(from: &allowed) == nil)
        #expect(!reader.isAtBoundary)
        var refused = PrefixedMessageReader.circuit()
        var bytes = Bytes(Varint.encode(UInt64(Circuit.messageLimit) + 1))
        #expect(throws: DecodingError.self) { try refused.next(from: &bytes) }
    }

    @Test func messagesThatSayTooLittleAreRefused() throws {
        func bytes(_ edit: (inout HopMessageProtobuf) -> Void) throws -> [UInt8] {
            var message = HopMessageProtobuf()
            edit(&message)
            return try message.serializedBytes()
        }
        try DecoderVerifier.verifyRefused(
            [
                [], [0xFF],
                // A type that does not exist.
                [0x08, 0x07],
                try bytes { $0.type = .connect },
                try bytes {
                    $0.type = .connect
                    $0.peer.id = protobufData([0x12, 0x20, 1])
                },
                try bytes {
                    $0.type = .connect
                    $0.peer.id = protobufData([UInt8](repeating: 0, count: 2000))
                },
                try bytes { $0.type = .status },
                try bytes {
                    $0.type = .status
                    $0.status = 100
                    $0.reservation.addrs = []
                },
            ], decode: HopMessage.init)
    }

    @Test func aReservationKeepsOnlySoManyAddresses() throws {
        let addresses = Array(repeating: CircuitAddress.remoteAddress(through: relay.peerID), count: 40)
        var message = HopMessageProtobuf()
        message.type = .status
        message.status = 100
        message.reservation.expire = 1
        message.reservation.addrs = addresses.map { protobufData($0.bytes) } + [protobufData([0xFF, 0xFF, 0xFF])]
        guard case .status(_, let reservation?, _) = try HopMessage(message.serializedBytes()) else {
            Issue.record("not a reservation")
            return
        }
        #expect(reservation.addresses.count == Circuit.addressLimit)
    }

    @Test func zeroInALimitMeansNone() throws {
        var message = StopMessageProtobuf()
        message.type = .connect
        message.peer = CircuitPeerProtobuf(alice.peerID)
        message.limit = CircuitLimitProtobuf()
        message.limit.duration = 0
        #expect(try StopMessage(message.serializedBytes()) == .connect(from: alice.peerID, limit: ConnectionLimit()))
    }

    @Test func aVoucherIsSignedByTheRelayItself() throws {
        let voucher = ReservationVoucher(relay: relay.peerID, client: alice.peerID, expiration: 1_800_000_000)
        let envelope = voucher.sealed(with: relay)
        #expect(envelope.payloadType == [0x03, 0x02])
        #expect(try ReservationVoucher.open(envelope.bytes) == voucher)
        var changed = envelope.bytes
        changed[changed.count - 1] ^= 1
        #expect(throws: EnvelopeError.self) { try ReservationVoucher.open(changed) }
        // Somebody else's signature under the relay's name.
        let foreign = SignedEnvelope.seal(
            envelope.payload, type: ReservationVoucher.payloadType, domain: ReservationVoucher.domain, with: alice)
        #expect(throws: EnvelopeError.foreignPeer(signer: alice.peerID, subject: relay.peerID)) {
            try ReservationVoucher.open(foreign.bytes)
        }
    }
}

@Suite struct CircuitAddressTests {
    private let relayed = "/p2p/\(relay.peerID)/p2p-circuit"
    private let target = "/p2p/\(alice.peerID)"

    @Test func allFormsAreRead() throws {
        let transport = "/ip4/192.0.2.1/udp/4001/quic-v1"
        let full = try CircuitAddress(Multiaddr(transport + relayed + target))
        #expect(full.relayAddress == (try Multiaddr(transport)))
        #expect(full.relay == relay.peerID)
        #expect(full.target == alice.peerID)
        #expect(try CircuitAddress(Multiaddr(transport + relayed)).target == nil)
        let bare = try CircuitAddress(Multiaddr(relayed))
        #expect(bare.relayAddress == nil && bare.target == nil)
        #expect(CircuitAddress.remoteAddress(through: relay.peerID) == (try Multiaddr(relayed)))
        let name = try CircuitAddress(Multiaddr("/dns4/relay.test/tcp/1" + relayed))
        #expect(name.relayAddress == (try Multiaddr("/dns4/relay.test/tcp/1")))
    }

    @Test func whatCannotBeUsedSaysWhy() throws {
        func fault(_ text: String) throws -> CircuitAddress.Fault? {
            let address = try Multiaddr(text)
            do {
                _ = try CircuitAddress(address)
                return nil
            } catch {
                return error
            }
        }
        #expect(try fault("/ip4/192.0.2.1/tcp/1" + target) == .notACircuit)
        #expect(try fault("/p2p-circuit" + target) == .namesNoRelay)
        #expect(try fault("/ip4/192.0.2.1/tcp/1/p2p-circuit" + target) == .namesNoRelay)
        #expect(try fault(relayed + relayed + target) == .severalRelays)
        #expect(try fault(target + relayed) == .severalRelays)
        #expect(try fault(relayed + "/ip4/192.0.2.1/tcp/1") == .unknownEnd)
        #expect(try fault(relayed + target + target) == .unknownEnd)
    }

    @Test func announcedAddressesNameTheRelayOnce() throws {
        let expected = try Multiaddr("/ip4/192.0.2.1/tcp/1" + relayed)
        #expect(CircuitAddress.announced(relay: relay.peerID, at: try Multiaddr("/ip4/192.0.2.1/tcp/1")) == expected)
        let full = try Multiaddr("/ip4/192.0.2.1/tcp/1/p2p/\(relay.peerID)")
        #expect(CircuitAddress.announced(relay: relay.peerID, at: full) == expected)
    }
}
