#!/bin/bash
# Martlet against rust-libp2p (Lattica), go-libp2p (p2pd) and py-libp2p. Options are pytest's.
# Without the peers (no PyPI, say) this is skipped with a word; in CI it fails.
set -uo pipefail
cd "$(dirname "$0")"

unable() {
    echo "interop: $*"
    [ -z "${CI:-}" ] || exit 1
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}

./setup.sh || unable "the peers could not be installed"
./isolated.sh true || unable "no network namespace can be made here (run as root, or allow user namespaces)"

if grep -q '"interop-node"' ../Package.swift; then
    swift build --package-path .. -c release --static-swift-stdlib --product interop-node || exit 1
fi

exec ./isolated.sh .venv/bin/python -m pytest -p no:cacheprovider -rs -q tests "$@" </dev/null
