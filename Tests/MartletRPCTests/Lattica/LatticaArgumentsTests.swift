import MartletCore
import MartletRPC
import Testing

private func value(_ arguments: LatticaArguments) throws -> PickleValue? {
    let bytes = try arguments.encoded()
    return bytes.isEmpty ? nil : try PickleValue(pickled: bytes)
}

@Test func argumentsAreEncodedAsPythonClientsDo() throws {
    #expect(try value(.none) == nil)
    #expect(try value(.positional([])) == nil)
    #expect(try value(.positional([.null])) == nil)
    #expect(try value(.positional([5])) == 5)
    #expect(try value(.positional([5, "x", .null])) == [5, "x", .null])
    #expect(try value(.keywords(["a": 1, "b": [2]])) == ["a": 1, "b": [2]])
    #expect(try value(.keywords([:])) == nil)
    #expect(try value(.mixed([7, 8], [.init("a", 1)])) == ["a": 1, "arg0": 7, "arg1": 8])
    #expect(try value(.mixed([7], [.init("arg0", 1), .init("b", 2)])) == ["b": 2, "arg0": 7])
    #expect(try value(.mixed([7, 8], [])) == [7, 8])
    #expect(try LatticaArguments.raw([8, 1]).encoded() == [8, 1])
}

@Test func aKeywordThatOccursTwiceIsRefused() {
    #expect(throws: PickleError.self) { try LatticaArguments.named([.init("a", 1), .init("a", 2)]).encoded() }
}

@Test func argumentsAreSpreadAsPythonServersDo() throws {
    func read(_ value: PickleValue, _ count: Int) throws -> LatticaArguments {
        try LatticaArguments(decoding: value.pickled(), parameterCount: count)
    }
    #expect(try LatticaArguments(decoding: Bytes(), parameterCount: 2) == .none)
    #expect(try read(.null, 1) == .none)
    #expect(try read([1, 2], 1) == .positional([[1, 2]]))
    #expect(try read([1, 2], 2) == .positional([1, 2]))
    #expect(try read(.tuple([1, 2]), 2) == .positional([1, 2]))
    #expect(try read(["a": 1], 1) == .positional([["a": 1]]))
    #expect(try read(["a": 1], 2)["a"] == 1)
    #expect(try read("x", 2) == .positional(["x"]))
    #expect(throws: PickleError.self) { try read(.dict([.init(key: 1, value: 2)]), 2) }
}

@Test func noneAsAResultIsNoBytes() throws {
    #expect(try LatticaArguments.encodeResult(.null).isEmpty)
    #expect(try LatticaArguments.decodeResult(Bytes()).isNull)
    #expect(try LatticaArguments.decodeResult(LatticaArguments.encodeResult(["a": 1])) == ["a": 1])
}
