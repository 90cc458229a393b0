import CNgtcp2

/// A connection id: up to 20 bytes by which packets find their connection (RFC 9000, 5.1).
struct QUICConnectionID: Hashable {
    /// Ids of ours have this length; 128 random bits cannot be guessed.
    static let byteCount = Int(MQ_ID_LENGTH)

    private var first: UInt64 = 0
    private var second: UInt64 = 0
    private var third: UInt32 = 0
    private var count: UInt8 = 0

    /// 0 for an id without bytes.
    var firstByte: UInt8 { withUnsafeBytes(of: first) { $0[0] } }

    /// Nil for more than 20 bytes.
    init?(_ base: UnsafePointer<UInt8>?, _ count: Int) {
        guard count <= Int(MQ_MAXIMUM_ID_LENGTH), base != nil || count == 0 else { return nil }
        self.count = UInt8(count)
        let source = UnsafeRawBufferPointer(start: base, count: count)
        withUnsafeMutableBytes(of: &self) { room in
            // The three numbers lie in the first 20 bytes.
            UnsafeMutableRawBufferPointer(rebasing: room[0..<count]).copyMemory(from: source)
        }
    }
}
