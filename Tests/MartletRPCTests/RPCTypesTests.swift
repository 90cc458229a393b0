import MartletCore
import MartletIdentity
import MartletRPC
import Testing

@Test func aMessageOfOnePieceIsJoinedWithoutACopy() {
    let bytes = Bytes(utf8: "activation")
    let message = RPCMessage(bytes)
    let isSame = message.contiguous().withUnsafeBytes { joined in
        bytes.withUnsafeBytes { joined.baseAddress == $0.baseAddress }
    }
    #expect(isSame)
}

@Test func piecesAreJoinedInOrder() {
    let message = RPCMessage(pieces: [[1, 2], [], [3], [4, 5, 6]])
    #expect(message.byteCount == 6)
    #expect(message.pieceCount == 3)
    #expect(message.contiguous() == [1, 2, 3, 4, 5, 6])
    #expect(message == RPCMessage([1, 2, 3, 4, 5, 6]))
}

@Test func aTensorWhoseSizeDoesNotFitHasNoSize() {
    let huge = TensorDescription(.float32, [1 << 40, 1 << 40])
    #expect(huge.elementCount == nil)
    #expect(huge.byteCount == nil)
    #expect(TensorDescription(.int4, [3]).byteCount == 2)
    #expect(TensorDescription(.bfloat16, [4, 8192]).byteCount == 65_536)
}

@Test func registeringAServiceAgainReplacesItsMethods() {
    let registry = RPCServiceRegistry()
    registry.register("Model") { $0.unary("old") { request, _ in request } }
    registry.register("Model") { $0.unary("forward") { request, _ in request } }
    #expect(registry.method("Model.old") == nil)
    #expect(registry.methods.map(\.path) == ["Model.forward"])
    #expect(registry.unknown("Model.old").message == "the service Model has no method Model.old")
    registry.unregister("Model")
    #expect(registry.unknown("Model.forward").message == "there is no service Model")
}

@Test func onlyPeersOfTheSetAreAuthorised() async {
    let friend = KeyPair.generate().peerID
    let stranger = KeyPair.generate().peerID
    let authorization = RPCAuthorization.peers([friend])
    await #expect(throws: Never.self) {
        try await authorization.require(RPCContext(peer: friend, method: "Model.forward"))
    }
    let error = await #expect(throws: RPCError.self) {
        try await authorization.require(RPCContext(peer: stranger, method: "Model.forward"))
    }
    #expect(error?.code == .permissionDenied)
    #expect(error?.outcome == .notSent)
}
