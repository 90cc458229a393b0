import MartletCore

/// A protobuf field of type `bytes`.
func field(_ number: Int, _ bytes: [UInt8]) -> [UInt8] {
    Varint.encode(UInt64(number << 3 | 2)) + Varint.encode(UInt64(bytes.count)) + bytes
}
