extension CID: CustomStringConvertible {
    /// The longest text that is looked at: a CID with the longest digest, written in base16.
    public static let maximumTextByteCount = 300

    /// Reads either version: `Qm…` for version 0, any multibase encoding for version 1.
    ///
    /// - Throws: `DecodingError` with what is wrong.
    public init(_ text: some StringProtocol) throws(DecodingError) {
        try self.init(utf8: ArraySlice(text.utf8))
    }

    init(utf8 text: ArraySlice<UInt8>) throws(DecodingError) {
        guard text.count <= Self.maximumTextByteCount else {
            throw .tooLong(field: "CID", length: UInt64(text.count), limit: Self.maximumTextByteCount)
        }
        guard text.count >= 2 else { throw .invalid(field: "CID", reason: "the text is too short") }
        // 32 bytes after 12 20 always begin with "Qm" in base58, and no multibase prefix is a Q.
        if text.count == 46, text.starts(with: "Qm".utf8) {
            try self.init(version0: Multihash(bytes: LargeRadix.base58.decode(text)))
            return
        }
        let bytes = try Multibase.decode(utf8: text).bytes
        // The specification forbids version 0 behind a multibase prefix: one CID would have two texts.
        guard bytes.first != UInt8(Multihash.Code.sha2_256.rawValue) else {
            throw .invalid(field: "CID", reason: "version 0 is written without a multibase prefix")
        }
        try self.init(bytes: bytes.span.bytes)
    }

    /// The text in an encoding of choice. Version 0 has one text only, which is returned whatever `base` is.
    public func text(in base: Multibase) -> String {
        version == .v0 ? Base58.encode(bytes) : base.encode(bytes)
    }

    /// Base58 for version 0; base36 for a peer's key, as in IPNS names; else base32.
    public var description: String { text(in: codec == .libp2pKey ? .base36 : .base32) }
}
