// swift-tools-version: 6.2
import PackageDescription

// Programs that use Martlet as a library. `swift run --package-path Examples TwoNodes`
let package = Package(
    name: "Examples",
    dependencies: [.package(name: "martlet", path: "..")],
    targets: [
        .executableTarget(name: "TwoNodes", dependencies: [.product(name: "Martlet", package: "martlet")]),
        .executableTarget(name: "RemoteCalls", dependencies: [.product(name: "Martlet", package: "martlet")]),
    ],
    swiftLanguageModes: [.v6]
)
