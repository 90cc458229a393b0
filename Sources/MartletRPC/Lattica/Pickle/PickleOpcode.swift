/// The opcodes that are understood (Python's Lib/pickletools.py describes all).
enum PickleOpcode: UInt8 {
    // Structure.
    case mark = 0x28  // (
    case stop = 0x2E  // .
    case pop = 0x30  // 0
    case popMark = 0x31  // 1
    case dup = 0x32  // 2
    case proto = 0x80
    case frame = 0x95
    // None, bool and numbers.
    case none = 0x4E  // N
    case newTrue = 0x88
    case newFalse = 0x89
    case int = 0x49  // I
    case binInt = 0x4A  // J
    case binInt1 = 0x4B  // K
    case binInt2 = 0x4D  // M
    case long = 0x4C  // L
    case long1 = 0x8A
    case long4 = 0x8B
    case float = 0x46  // F
    case binFloat = 0x47  // G
    // Text and bytes.
    case unicode = 0x56  // V
    case shortBinUnicode = 0x8C
    case binUnicode = 0x58  // X
    case binUnicode8 = 0x8D
    case shortBinBytes = 0x43  // C
    case binBytes = 0x42  // B
    case binBytes8 = 0x8E
    // Containers.
    case emptyList = 0x5D  // ]
    case append = 0x61  // a
    case appends = 0x65  // e
    case list = 0x6C  // l
    case emptyTuple = 0x29  // )
    case tuple = 0x74  // t
    case tuple1 = 0x85
    case tuple2 = 0x86
    case tuple3 = 0x87
    case emptyDict = 0x7D  // }
    case dict = 0x64  // d
    case setItem = 0x73  // s
    case setItems = 0x75  // u
    // The memo.
    case put = 0x70  // p
    case binPut = 0x71  // q
    case longBinPut = 0x72  // r
    case memoize = 0x94
    case get = 0x67  // g
    case binGet = 0x68  // h
    case longBinGet = 0x6A  // j

    /// What an opcode that is not understood is called, for who has to find out what was sent.
    static func refusedName(_ opcode: UInt8) -> String {
        switch opcode {
        case 0x50: "PERSID"
        case 0x51: "BINPERSID"
        case 0x52: "REDUCE"
        case 0x53: "STRING"
        case 0x54: "BINSTRING"
        case 0x55: "SHORT_BINSTRING"
        case 0x62: "BUILD"
        case 0x63: "GLOBAL"
        case 0x69: "INST"
        case 0x6F: "OBJ"
        case 0x81: "NEWOBJ"
        case 0x82: "EXT1"
        case 0x83: "EXT2"
        case 0x84: "EXT4"
        case 0x8F: "EMPTY_SET"
        case 0x90: "ADDITEMS"
        case 0x91: "FROZENSET"
        case 0x92: "NEWOBJ_EX"
        case 0x93: "STACK_GLOBAL"
        case 0x96: "BYTEARRAY8"
        case 0x97: "NEXT_BUFFER"
        case 0x98: "READONLY_BUFFER"
        default: "unknown opcode"
        }
    }
}
