import Martlet

/// The release, as `--version` prints it.
enum Version {
    static let text = Martlet.version
}
