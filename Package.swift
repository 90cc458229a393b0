// swift-tools-version: 6.2
import PackageDescription

// `make ci` sets MARTLET_STRICT so that a warning of ours fails the build; a user's newer compiler must not.
let strict = Context.environment["MARTLET_STRICT"] != nil

let settings: [SwiftSetting] =
    [
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("MemberImportVisibility"),
        // `Bytes.span` and `ByteReader`: views that cannot outlive what they look at.
        .enableExperimentalFeature("Lifetimes"),
    ] + (strict ? [.treatAllWarnings(as: .error)] : [])

let protobuf: Target.Dependency = .product(name: "SwiftProtobuf", package: "swift-protobuf")
let deque: Target.Dependency = .product(name: "DequeModule", package: "swift-collections")
let heap: Target.Dependency = .product(name: "HeapModule", package: "swift-collections")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let metrics: Target.Dependency = .product(name: "Metrics", package: "swift-metrics")
let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")

func systemLibrary(_ name: String, _ pkgConfig: String, apt: String) -> Target {
    .systemLibrary(
        name: name, path: "Sources/CLibraries/\(name)", pkgConfig: pkgConfig, providers: [.apt([apt])])
}

/// `protos` are the message files in the layer's Protobuf folder, which lie there for whoever generates the code anew.
func layer(_ name: String, _ dependencies: [Target.Dependency] = [], protos: [String] = []) -> Target {
    .target(
        name: name, dependencies: dependencies, exclude: protos.map { "Protobuf/\($0).proto" }, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(
        name: name + "Tests", dependencies: [.init(stringLiteral: name)] + dependencies,
        resources: [.copy("Vectors")], swiftSettings: settings)
}

let package = Package(
    name: "martlet",
    products: [
        .library(name: "Martlet", targets: ["Martlet"]),
        .library(name: "MartletSimulation", targets: ["MartletSimulation"]),
        .executable(name: "martlet", targets: ["martlet-cli"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    ],
    targets: [
        systemLibrary("CLibuv", "libuv", apt: "libuv1-dev"),
        systemLibrary("CLibsodium", "libsodium", apt: "libsodium-dev"),
        systemLibrary("CLibcrypto", "libcrypto", apt: "libssl-dev"),
        systemLibrary("CLMDB", "lmdb", apt: "liblmdb-dev"),
        systemLibrary("CCares", "libcares", apt: "libc-ares-dev"),
        // What C headers alone can say: GNU extensions, thread-locals, macros with arguments.
        .target(name: "CMartlet", path: "Sources/CLibraries/CMartlet"),

        // ngtcp2 with GnuTLS: all that depends on their versions.
        .target(
            name: "CNgtcp2", path: "Sources/CLibraries/CNgtcp2",
            linkerSettings: [
                .linkedLibrary("ngtcp2"), .linkedLibrary("ngtcp2_crypto_gnutls"), .linkedLibrary("gnutls"),
            ]),

        // Asking gateways to forward ports: what differs between versions of miniupnpc, and loops around blocking calls.
        .target(
            name: "CPortMapping", path: "Sources/CLibraries/CPortMapping",
            linkerSettings: [.linkedLibrary("miniupnpc"), .linkedLibrary("natpmp")]),

        layer("MartletCore", ["CMartlet"]),
        layer(
            "MartletIdentity", ["MartletCore", "CLibsodium", "CLibcrypto", protobuf],
            protos: ["envelope", "keys", "peer_record"]),
        layer(
            "MartletConnection", ["MartletCore", "MartletIdentity", "CLibsodium", "CLibcrypto", protobuf, deque],
            protos: ["noise_payload"]),
        layer("MartletQUIC", ["MartletCore", "MartletIdentity", "MartletConnection", "CNgtcp2", deque]),
        layer(
            "MartletSwarm", ["MartletCore", "MartletIdentity", "MartletConnection", protobuf, deque],
            protos: ["identify", "peer_store"]),
        layer(
            "MartletReachability",
            ["MartletCore", "MartletIdentity", "MartletConnection", "MartletSwarm", "CLibsodium", protobuf, deque],
            protos: ["autonat_v2", "circuit", "dcutr", "punch", "voucher"]),
        layer("MartletRPC", ["MartletCore", "MartletIdentity", deque]),
        layer("MartletStorage", ["MartletCore", "MartletIdentity", "CLMDB"]),
        layer("MartletContent", ["MartletCore", "MartletIdentity", "MartletStorage", "CMartlet", deque]),
        layer("MartletRuntime", ["MartletCore", "CMartlet", "CLibuv", "CCares", deque, heap]),
        layer(
            "Martlet",
            [
                "MartletCore", "MartletIdentity", "MartletConnection", "MartletQUIC", "MartletSwarm", "MartletStorage",
                "MartletReachability", "MartletContent", "MartletRPC", "MartletRuntime", "CPortMapping", logging,
                metrics,
                deque,
            ]),
        layer(
            "MartletSimulation",
            [
                "MartletCore", "MartletIdentity", "MartletConnection", "MartletSwarm", "MartletReachability",
                "MartletRPC", "Martlet", heap, deque,
            ]),
        .executableTarget(
            name: "martlet-cli",
            dependencies: [
                "Martlet", "MartletCore", "MartletIdentity", "MartletConnection", "MartletSwarm",
                "MartletReachability", "MartletRuntime", "MartletSimulation", arguments, logging,
            ],
            swiftSettings: settings),
        .executableTarget(
            name: "interop-node",
            dependencies: ["Martlet", "MartletCore", "MartletIdentity", "MartletQUIC", arguments],
            path: "Interop/Node", swiftSettings: settings),

        tests("MartletCore", ["TestVectors"]),
        tests("MartletIdentity", ["MartletCore", "TestVectors"]),
        tests("MartletConnection", ["MartletCore", "MartletIdentity", "MartletTestSupport", "TestVectors"]),
        tests("MartletQUIC", ["MartletCore", "MartletIdentity", "MartletConnection", "MartletTestSupport", deque]),
        tests("MartletSwarm", ["MartletCore", "MartletIdentity", "MartletConnection"]),
        tests(
            "MartletReachability",
            ["MartletCore", "MartletIdentity", "MartletConnection", "MartletSwarm", "MartletTestSupport", protobuf]),
        tests("MartletRPC", ["MartletCore", "MartletIdentity", "MartletTestSupport", "TestVectors"]),
        tests("MartletStorage", ["MartletCore", "TemporaryFiles"]),
        tests(
            "MartletContent",
            ["MartletCore", "MartletIdentity", "MartletStorage", "CLibsodium", "TemporaryFiles"]),
        tests("MartletRuntime", ["MartletCore", "TemporaryFiles"]),
        tests(
            "Martlet",
            [
                "MartletCore", "MartletIdentity", "MartletConnection", "MartletSwarm", "MartletReachability",
                "MartletContent", "MartletRPC", "TemporaryFiles",
            ]),
        tests(
            "MartletSimulation", ["MartletCore", "MartletIdentity", "MartletSwarm", "MartletReachability", "Martlet"]),
        .testTarget(
            name: "MartletCLITests", dependencies: ["martlet-cli", "MartletCore"], swiftSettings: settings),
        .target(
            name: "TestVectors", dependencies: ["MartletCore"], path: "Tests/TestVectors", swiftSettings: settings),
        .target(name: "TemporaryFiles", path: "Tests/TemporaryFiles", swiftSettings: settings),
        .target(
            name: "MartletTestSupport", dependencies: ["MartletCore", "MartletConnection"],
            path: "Tests/MartletTestSupport",
            swiftSettings: settings),
    ],
    swiftLanguageModes: [.v6]
)
