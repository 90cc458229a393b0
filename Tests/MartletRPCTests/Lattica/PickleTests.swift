import MartletCore
import MartletRPC
import MartletTestSupport
import TestVectors
import Testing

/// What the vectors of CPython stand for, by name.
private let expected: [String: PickleValue] = [
    "none": .null, "true": true, "false": false, "zero": 0, "byte": 255, "short": 65535, "int": -2_147_483_648,
    "above-int": 2_147_483_648, "minus-one": -1, "int64-max": .int(.max), "int64-min": .int(.min),
    "uint64-max": .longInt(PickleInteger(UInt64.max)),
    "big": .longInt(
        PickleInteger(decimal: "-1606938044258990275541962092341162602522202993782792835313721")
            ?? PickleInteger(0)),
    "float": 1.5, "float-tiny": .float(.leastNonzeroMagnitude), "float-inf": .float(-.infinity),
    "text-empty": "", "text": "grüße\n\\u0041 \u{1F600}\0", "text-long": .string(String(repeating: "x", count: 300)),
    "list": [1, [2, "three"], []],
    "tuples": .tuple([
        .tuple([]), .tuple([1]), .tuple([1, 2]), .tuple([1, 2, 3]), .tuple([1, 2, 3, 4]),
    ]),
    "dict": .dict([
        .init(key: "a", value: 1), .init(key: 2, value: [3]), .init(key: .tuple([4, "b"]), value: .null),
    ]),
    "shared": [[1], [1]],
    "node": [
        "call": "node_join",
        "params": [
            "node_id": "12D3KooW", "rtts": ["a": 0.25, "b": -1.5], "layers": .tuple([0, 15]), "ready": true,
            "parent": .null,
        ],
    ],
    "list-1500": .list((0..<1500).map { .int($0) }),
    "deep-60": (0..<60).reduce([]) { inner, _ in [inner] },
    "bytes": .bytes([0x00, 0xFF, 0x72, 0x61, 0x77]),
    "bytes-long": .bytes(Bytes([UInt8](repeating: UInt8(ascii: "y"), count: 300))), "bytes-empty": .bytes([]),
]

@Test func picklesOfCPythonInEveryProtocolReadAsTheirValues() throws {
    let vectors = try vectors("pickles.tsv")
    #expect(vectors.count > 150)
    for vector in vectors {
        let value = try #require(expected[vector[0]], "no value for \(vector[0])")
        let read = try PickleValue(pickled: Bytes(hex(vector[2])))
        #expect(read == value, "\(vector[0]) of protocol \(vector[1])")
    }
}

@Test func picklesCutShortAnywhereAreRefused() throws {
    for vector in try vectors("pickles.tsv") where vector[0] != "list-1500" {
        let value = try #require(expected[vector[0]])
        try DecoderVerifier.verifyMessage(hex(vector[2]), expecting: value) {
            try PickleValue(pickled: Bytes($0))
        }
    }
}

@Test func whatIsWrittenReadsBack() throws {
    for (name, value) in expected.sorted(by: { $0.key < $1.key }) {
        #expect(try PickleValue(pickled: value.pickled()) == value, "\(name)")
    }
    let long = PickleValue.longInt(PickleInteger(littleEndian: [UInt8](repeating: 0x5A, count: 256)))
    #expect(try PickleValue(pickled: long.pickled()) == long)
}

// CPython 3.11 reads these as `{'a': [1, -2, 70000, 2**40, 1.5], 'b': (None, True, b'\x01', 'ü')}` and `2**64 - 1`.
@Test func writtenPicklesAreTheBytesThatCPythonReads() throws {
    let value: PickleValue = [
        "a": [1, -2, 70_000, .int(1 << 40), 1.5], "b": .tuple([.null, true, .bytes([1]), "ü"]),
    ]
    #expect(
        try value.pickled()
            == Bytes(
                hex(
                    "80047d288c01615d284b014afeffffff4a701101008a0600000000000147"
                        + "3ff800000000000065" + "8c0162284e884301018c02c3bc74752e")))
    #expect(
        try PickleValue.longInt(PickleInteger(UInt64.max)).pickled() == Bytes(hex("80048a09ffffffffffffffff002e")))
}

@Test func everythingThatMakesAnObjectIsRefusedByNameAndPlace() throws {
    for vector in try vectors("pickles-refused.tsv") {
        let bytes = try Bytes(hex(vector[3]))
        let error = failure { () throws(PickleError) in try PickleValue(pickled: bytes) }
        guard case .refusedOpcode(let name, let opcode, let position) = error else {
            Issue.record("\(vector[0]): \(String(describing: error))")
            continue
        }
        #expect(name == vector[1], "\(vector[0])")
        #expect("\(position)" == vector[2], "\(vector[0])")
        #expect(bytes[position] == opcode)
        #expect("\(PickleError.refusedOpcode(name: name, opcode: opcode, position: position))".contains(name))
    }
}

@Test func everyOpcodeThatIsNoneIsRefused() {
    let understood = Set("(.012NIJKMLFGVXCB]ael)t}dsupqrghj".utf8).union([
        0x80, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8B, 0x8C, 0x8D, 0x8E, 0x94, 0x95,
    ])
    for opcode in UInt8.min...UInt8.max where !understood.contains(opcode) {
        let error = failure { () throws(PickleError) in try PickleValue(pickled: [0x80, 4, opcode, 0x2E]) }
        guard case .refusedOpcode(_, opcode, 2) = error else {
            Issue.record("\(opcode): \(String(describing: error))")
            continue
        }
    }
}

// Made by CPython 3.11: a list in itself (protocols 0, 2, 4), a dict in itself, a list in a tuple in it both ways round,
// a dict in a list in it.
@Test(arguments: [
    "286c70300a67300a612e", "80025d71006800612e", "80049506000000000000005d946800612e",
    "8004950a000000000000007d948c0178946800732e", "80049508000000000000005d9468008594612e",
    "8004950b000000000000005d9468008594613068012e", "8004950d000000000000007d948c016c945d94680061732e",
])
func aValueThatContainsItselfIsRefused(text: String) throws {
    let bytes = try Bytes(hex(text))
    let error = failure { () throws(PickleError) in try PickleValue(pickled: bytes) }
    guard case .selfReference = error else {
        Issue.record("\(String(describing: error))")
        return
    }
}

@Test func aListIsTheSameWhereverItIsShared() throws {
    // a = []; b = [a, a]; a is filled after b has it: ] 94 ] 94 h0 a h0 a 0 K1 a h1 .
    let bytes: Bytes = [
        0x5D, 0x94, 0x5D, 0x94, 0x68, 0, 0x61, 0x68, 0, 0x61, 0x30, 0x4B, 1, 0x61, 0x30, 0x68, 1, 0x2E,
    ]
    #expect(try PickleValue(pickled: bytes) == [[1], [1]])
}

@Test(
    arguments: [
        [0x2E], [0x30], [0x31], [0x32], [0x61], [0x65], [0x73], [0x75], [0x74], [0x85], [0x86], [0x87], [0x6C], [0x64],
        [0x94], [0x71, 0], [0x28, 0x2E], [0x4B, 1, 0x28, 0x61], [0x4B, 1, 0x4B, 1, 0x61], [0x4B, 1, 0x28, 0x65],
        [0x7D, 0x28, 0x4B, 1, 0x75], [0x28, 0x4B, 1, 0x64], [0x5D, 0x4B, 1, 0x4B, 1, 0x73], [0x4B, 1, 0x28, 0x32],
        [0x4B, 1, 0x28, 0x85],
    ] as [[UInt8]])
func opcodesThatDoNotFindTheirValuesAreRefused(bytes: [UInt8]) {
    let error = failure { () throws(PickleError) in try PickleValue(pickled: Bytes(bytes + [0x2E])) }
    guard case .badStack = error else {
        Issue.record("\(String(describing: error))")
        return
    }
}

@Test func badKeysAreRefused() {
    // A list, a tuple with a list in it, and the same key twice.
    for bytes in [
        [0x7D, 0x5D, 0x4E, 0x73, 0x2E], [0x7D, 0x5D, 0x85, 0x4E, 0x73, 0x2E],
        [0x7D, 0x4B, 1, 0x4E, 0x73, 0x4B, 1, 0x4E, 0x73, 0x2E],
    ] as [[UInt8]] {
        let error = failure { () throws(PickleError) in try PickleValue(pickled: Bytes(bytes)) }
        #expect(error == .badKey(position: 0))
    }
    let twice = PickleValue.dict([.init(key: 1, value: .null), .init(key: 1, value: .null)])
    #expect(failure { () throws(PickleError) in try twice.pickled() } == .badKey(position: 2))
}

@Test(arguments: [
    "I12x\n", "I\n", "L--1L\n", "Fabc\n", "F0x1p3\n", "V\\u12\n", "V\\ud800\n", "gx\n", "g-1\n",
])
func textThatIsNoValueIsRefused(text: String) {
    let error = failure { () throws(PickleError) in try PickleValue(pickled: Bytes(utf8: text + ".")) }
    guard case .invalid = error else {
        Issue.record("\(String(describing: error))")
        return
    }
}

@Test func halvesOfSurrogatePairsAreRefused() {
    // '\ud800' in protocol 4.
    let bytes: Bytes = [0x80, 4, 0x8C, 3, 0xED, 0xA0, 0x80, 0x94, 0x2E]
    #expect(
        failure { () throws(PickleError) in try PickleValue(pickled: bytes) }
            == .invalid(what: "a str that is not UTF-8", position: 2))
}

@Test func memoEntriesThatWereNeverMadeAndWhatIsLeftAtTheEndAreRefused() {
    let missing = failure { () throws(PickleError) in try PickleValue(pickled: [0x68, 5, 0x2E]) }
    #expect(missing == .noMemoEntry(index: 5, position: 0))
    let trailing = failure { () throws(PickleError) in try PickleValue(pickled: [0x4E, 0x2E, 0x4E]) }
    #expect(trailing == .leftover(position: 1))
    let stacked = failure { () throws(PickleError) in try PickleValue(pickled: [0x4E, 0x4E, 0x2E]) }
    #expect(stacked == .leftover(position: 2))
    let version = failure { () throws(PickleError) in try PickleValue(pickled: [0x80, 6, 0x4E, 0x2E]) }
    #expect(version == .unsupportedProtocol(version: 6, position: 0))
    let frame = failure { () throws(PickleError) in
        try PickleValue(pickled: [0x80, 4, 0x95, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x4E, 0x2E])
    }
    #expect(frame == .truncated(position: 2))
}
