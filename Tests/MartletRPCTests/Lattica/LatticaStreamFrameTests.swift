import MartletCore
import MartletRPC
import MartletTestSupport
import Testing

private let frames: [(LatticaStreamFrame, [UInt8])] = [
    (.request(id: "a", method: "S.m", data: RPCMessage()), [0, 0, 0, 8, 0, 1, 0x61, 3, 0x53, 0x2E, 0x6D, 0]),
    (.data(id: "a", RPCMessage([7, 8]), isEnd: true), [0, 0, 0, 7, 1, 1, 0x61, 2, 7, 8, 1]),
    (.data(id: "a", RPCMessage(), isEnd: false), [0, 0, 0, 5, 1, 1, 0x61, 0, 0]),
    (.error(id: "a", text: "no"), [0, 0, 0, 6, 2, 1, 0x61, 2, 0x6E, 0x6F]),
    (.close(id: "a"), [0, 0, 0, 3, 3, 1, 0x61]),
    (.cancel(id: "a"), [0, 0, 0, 3, 4, 1, 0x61]),
]

@Test func framesAreTheBytesThatLatticaSends() throws {
    for (frame, bytes) in frames {
        #expect(frame.encoded.array == bytes)
        try DecoderVerifier.verifyMessage(Array(bytes.dropFirst(4)), expecting: frame) {
            try LatticaStreamFrame(decoding: RPCMessage(Bytes($0)))
        }
    }
}

@Test(
    arguments: [
        [], [5, 0], [0xFB, 0, 0], [1, 1, 0x61, 0, 2], [3, 0xFD, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
    ] as [[UInt8]])
func bytesThatAreNoFrameAreRefused(bytes: [UInt8]) {
    #expect(throws: LatticaError.self) { try LatticaStreamFrame(decoding: RPCMessage(Bytes(bytes))) }
}

@Test func argumentsAndResultsTravelInPartsOf16MiB() {
    let part = LatticaLimits.framePayloadSize
    #expect(part == 16 * 1024 * 1024)
    func sizes(_ frames: [LatticaStreamFrame]) -> [String] {
        frames.map {
            switch $0 {
            case .request(_, _, let data): "request \(data.byteCount)"
            case .data(_, let data, let isEnd): "data \(data.byteCount) \(isEnd)"
            case .error: "error"
            case .close: "close"
            case .cancel: "cancel"
            }
        }
    }
    func call(_ size: Int) -> [String] {
        sizes(LatticaStreamFrame.call(id: "1", method: "S.m", argument: RPCMessage(Bytes(count: size) { _ in })))
    }
    func result(_ size: Int) -> [String] {
        sizes(LatticaStreamFrame.result(id: "1", RPCMessage(Bytes(count: size) { _ in })))
    }
    #expect(call(0) == ["request 0", "data 0 true"])
    #expect(call(5) == ["request 0", "data 5 true"])
    #expect(call(part) == ["request 0", "data \(part) true"])
    #expect(call(part + 1) == ["request 0", "data \(part) false", "data 1 true"])
    #expect(call(2 * part) == ["request 0", "data \(part) false", "data \(part) true"])
    #expect(result(0) == ["close"])
    #expect(result(3) == ["data 3 true", "close"])
    #expect(result(part + 3) == ["data \(part) false", "data 3 true", "close"])
    let largest = LatticaStreamFrame.data(
        id: String(repeating: "x", count: 256), RPCMessage(Bytes(count: part) { _ in }), isEnd: true)
    #expect(largest.encoded.byteCount <= LatticaLimits().frameSize)
}
