import MartletCore

/// CIDs, multihashes and multibase text are written the way they were read, whatever encoding they came in.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    let bytes = UnsafeRawBufferPointer(start: data, count: size)
    var reader = ByteReader(bytes.bytes)
    do throws(DecodingError) {
        while true {
            let start = reader.position
            let cid = try CID(reading: &reader)
            guard bytes[start..<reader.position].elementsEqual(cid.bytes), cid.byteCount == cid.bytes.count else {
                fatalError("\(cid) was read from other bytes than it is written as")
            }
            check(cid)
        }
    } catch {
        guard reader.position <= size else { fatalError("read past the end") }
    }
    if let hash = try? Multihash(bytes: bytes) {
        guard bytes.elementsEqual(hash.bytes) else { fatalError("\(hash) was read from other bytes") }
        guard (try? Multihash(code: hash.code, digest: hash.digest)) == hash else { fatalError("\(hash) differs") }
    }

    let text = String(decoding: bytes, as: UTF8.self)
    if let cid = try? CID(text) { check(cid) }
    if let (base, value) = try? Multibase.decode(text) {
        guard let again = try? Multibase.decode(base.encode(value)), again.base == base, again.bytes == value else {
            fatalError("\(base) does not read what it writes")
        }
    }
    if size <= 300 {
        for base in Multibase.allCases {
            guard (try? Multibase.decode(base.encode(bytes)).bytes).map({ bytes.elementsEqual($0) }) == true else {
                fatalError("\(base) does not read what it writes")
            }
        }
    }
    return 0
}

func check(_ cid: CID) {
    guard (try? CID(bytes: cid.bytes)) == cid else { fatalError("\(cid) is not read from its bytes") }
    for base in Multibase.allCases {
        guard (try? CID(cid.text(in: base))) == cid else { fatalError("\(cid) is not read from its \(base)") }
    }
    guard cid.version1.version == .v1, cid.version1.multihash == cid.multihash, cid.version1.codec == cid.codec else {
        fatalError("\(cid) names other content in version 1")
    }
    if let old = cid.version0, old.version1 != cid.version1 { fatalError("\(cid) names other content in version 0") }
}
