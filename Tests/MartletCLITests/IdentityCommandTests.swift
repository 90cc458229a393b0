import Foundation
import Testing

@Suite struct IdentityCommandTests {
    @Test func initMakesAKeyThatOnlyItsOwnerReads() async throws {
        try await withTemporaryFolder { folder in
            let directory = folder + "/data"
            let made = try CommandLineTool.run("init", "--data-dir", directory)
            #expect(made.status == 0)
            #expect(made.output.hasPrefix("12D3KooW"))
            #expect(try permissions(directory + "/identity.key") == 0o600)
            #expect(try permissions(directory) == 0o700)
            let id = try CommandLineTool.run("id", "--data-dir", directory)
            #expect(id.status == 0)
            #expect(id.output == made.output)
        }
    }

    @Test func initNeverReplacesAnIdentity() async throws {
        try await withTemporaryFolder { folder in
            let first = try CommandLineTool.run("init", "--data-dir", folder)
            let second = try CommandLineTool.run("init", "--data-dir", folder)
            #expect(second.status == 1)
            #expect(second.errors.contains(folder + "/identity.key already"))
            #expect(try CommandLineTool.run("id", "--data-dir", folder).output == first.output)
        }
    }

    @Test func aKeyWithAPassphraseOpensWithItAlone() async throws {
        try await withTemporaryFolder { folder in
            let file = folder + "/passphrase"
            try "correct horse\nsecond line".write(toFile: file, atomically: true, encoding: .utf8)
            let directory = folder + "/data"
            let made = try CommandLineTool.run(
                "init", "--data-dir", directory, "--passphrase-file", file, "--json")
            #expect(made.status == 0)
            #expect(made.output.contains("\"encrypted\":true"))
            let without = try CommandLineTool.run("id", "--data-dir", directory)
            #expect(without.status == 1)
            #expect(without.errors.contains("passphrase"))
            let with = try CommandLineTool.run(
                "id", "--data-dir", directory, "--passphrase-env", environment: ["MARTLET_PASSPHRASE": "correct horse"])
            #expect(with.status == 0)
            #expect(with.output.hasPrefix("12D3KooW"))
            let wrong = try CommandLineTool.run(
                "id", "--data-dir", directory, "--passphrase-env", environment: ["MARTLET_PASSPHRASE": "wrong horse"])
            #expect(wrong.status == 1)
            #expect(wrong.errors.contains("passphrase is wrong"))
        }
    }

    @Test func idWithoutAnIdentitySaysHowToMakeOne() async throws {
        try await withTemporaryFolder { folder in
            let outcome = try CommandLineTool.run("id", "--data-dir", folder, "--json")
            #expect(outcome.status == 1)
            #expect(outcome.errors.contains("martlet init"))
            #expect(outcome.output.contains("\"code\":\"noIdentity\""))
        }
    }

    @Test func theDataDirectoryFollowsTheEnvironment() async throws {
        try await withTemporaryFolder { folder in
            let own = try CommandLineTool.run("init", environment: ["MARTLET_HOME": folder + "/own"])
            let shared = try CommandLineTool.run("init", environment: ["XDG_DATA_HOME": folder + "/data"])
            let home = try CommandLineTool.run("init", environment: ["HOME": folder + "/home"])
            #expect([own, shared, home].map(\.status) == [0, 0, 0])
            for path in ["own", "data/martlet", "home/.local/share/martlet"] {
                #expect(FileManager.default.fileExists(atPath: "\(folder)/\(path)/identity.key"))
            }
        }
    }
}
