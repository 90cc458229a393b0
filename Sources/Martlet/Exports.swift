// One import is enough for a program: addresses, bytes, keys and settings come with the node.
@_exported public import MartletConnection
@_exported public import MartletCore
@_exported public import MartletIdentity
@_exported public import MartletRPC
@_exported public import MartletReachability
@_exported public import MartletSwarm
