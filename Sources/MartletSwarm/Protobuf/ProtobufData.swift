import SwiftProtobuf

/// `bytes` as the type of a protobuf `bytes` field, which is Foundation's and not to be imported.
func protobufData<D: RangeReplaceableCollection>(_ bytes: [UInt8]) -> D where D.Element == UInt8 { D(bytes) }
