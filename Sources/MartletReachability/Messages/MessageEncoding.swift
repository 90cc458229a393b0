import MartletCore
import SwiftProtobuf

/// `bytes` as the type of a protobuf `bytes` field, which is Foundation's and not to be imported.
func protobufData<D: RangeReplaceableCollection>(_ bytes: [UInt8]) -> D where D.Element == UInt8 { D(bytes) }

/// A message as bytes, with its length in front.
func lengthPrefixed(_ message: some SwiftProtobuf.Message) -> [UInt8] {
    let bytes: [UInt8]
    do {
        bytes = try message.serializedBytes()
    } catch {
        preconditionFailure("a message of optional fields cannot be written: \(error)")
    }
    var output: [UInt8] = []
    output.reserveCapacity(bytes.count + 2)
    Varint.append(UInt64(bytes.count), to: &output)
    return output + bytes
}
