import MartletCore
import MartletRPC

/// A pickle: refused, or read within its limits to a value that is written and read back the same.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    let bytes = Bytes(Array(UnsafeBufferPointer(start: data, count: size)))
    var limits = PickleLimits()
    limits.valueCount = 10_000
    limits.expandedByteCount = 1 << 20
    guard let value = try? PickleValue(pickled: bytes, limits: limits) else { return 0 }
    var count = 0
    measure(value, depth: 0, &count)
    guard count <= limits.valueCount else { fatalError("more values than the limit") }
    guard let written = try? value.pickled() else { fatalError("a value that was read cannot be written") }
    guard let again = try? PickleValue(pickled: written), isSame(again, value) else {
        fatalError("a value reads differently when it was written")
    }
    return 0
}

private func measure(_ value: PickleValue, depth: Int, _ count: inout Int) {
    guard depth <= 100 else { fatalError("deeper than the limit") }
    count += 1
    switch value {
    case .list(let values), .tuple(let values): for value in values { measure(value, depth: depth + 1, &count) }
    case .dict(let entries):
        for entry in entries {
            measure(entry.key, depth: depth + 1, &count)
            measure(entry.value, depth: depth + 1, &count)
        }
    default: break
    }
}

/// Equality under which a float that is no number equals itself.
private func isSame(_ left: PickleValue, _ right: PickleValue) -> Bool {
    switch (left, right) {
    case (.float(let left), .float(let right)): left.bitPattern == right.bitPattern
    case (.list(let left), .list(let right)), (.tuple(let left), .tuple(let right)):
        left.count == right.count && zip(left, right).allSatisfy(isSame)
    case (.dict(let left), .dict(let right)):
        left.count == right.count
            && zip(left, right).allSatisfy { isSame($0.key, $1.key) && isSame($0.value, $1.value) }
    default: left == right
    }
}
