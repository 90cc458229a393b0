import MartletContent
import MartletCore
import MartletIdentity

/// What decodes as a dag-pb node or as UnixFS data encodes to the same bytes, and a graph that begins with any node ends
/// in a manifest within its limits or in an error.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: data, count: size))
    if let node = try? DAGNode(bytes: bytes.span.bytes) {
        guard node.bytes == bytes else { fatalError("a node encodes differently") }
    }
    if let content = try? UnixFSData(bytes: bytes.span.bytes) {
        guard content.bytes == bytes else { fatalError("UnixFS data encodes differently") }
    }
    var limits = GraphLimits()
    limits.leaves = 1000
    limits.nodes = 1000
    let root = CID(codec: .dagPB, multihash: Multihash(SHA256.hash(bytes)))
    guard var builder = try? ManifestBuilder(root: root, limits: limits) else { fatalError("a good root is refused") }
    // The same block for every node that is expected: only the root's hash can fit.
    guard (try? builder.receive(Bytes(bytes))) == true, let manifest = builder.manifest else { return 0 }
    guard !manifest.leaves.isEmpty, manifest.leaves.count <= limits.leaves else { fatalError("leaves without limit") }
    var offset: UInt64 = 0
    for leaf in manifest.leaves {
        guard leaf.offset == offset, leaf.byteCount > 0 else { fatalError("a leaf out of place") }
        offset += UInt64(leaf.byteCount)
    }
    guard offset == manifest.byteCount else { fatalError("the leaves are not the file") }
    return 0
}
