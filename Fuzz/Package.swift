// swift-tools-version: 6.2
import Foundation
import PackageDescription

// One executable per folder in Sources/: a folder `FuzzName` with its `Fuzz.swift` is all that a new target takes.
// Built by run.sh, which adds the sanitizers and libFuzzer's own main function.
let here = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
let targets = try FileManager.default.contentsOfDirectory(atPath: here.appendingPathComponent("Sources").path)
    .filter { $0.hasPrefix("Fuzz") }.sorted()

let package = Package(
    name: "martlet-fuzz",
    dependencies: [.package(name: "martlet", path: "..")],
    targets: [
        .target(
            name: "Driver",
            cSettings: [.define("MAINS", to: targets.map { "MAIN(\($0))" }.joined(separator: " "))])
    ]
        + targets.map { name in
            .executableTarget(
                name: name,
                // The product links every layer below it, and each can be imported by its own name.
                dependencies: ["Driver", .product(name: "Martlet", package: "martlet")],
                swiftSettings: [
                    .enableUpcomingFeature("ExistentialAny"),
                    .enableUpcomingFeature("MemberImportVisibility"),
                    .enableExperimentalFeature("Lifetimes"),
                    .unsafeFlags(["-parse-as-library"]),
                ])
        },
    swiftLanguageModes: [.v6]
)
