#!/bin/bash
# The bounded selection of the lab's tests (some sixteen minutes). Options are pytest's. Without root, or where the lab cannot be
# built, it is skipped with a word; as root in CI it fails then.
set -uo pipefail
cd "$(dirname "$0")"

unable() {
    echo "natlab: $*"
    [ -z "${CI:-}" ] || [ "$(id -u)" != 0 ] || exit 1
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}

./enter.sh true
[ $? != 75 ] || unable "the lab cannot be built here, see above"
../setup.sh || unable "the peers could not be installed"
[ -z "${CI:-}" ] || command -v miniupnpd >/dev/null || unable "there is no miniupnpd: run Scripts/setup.sh --natlab"

# MARTLET names a binary to test instead of what is built here; interop-node lies beside it.
if [ -z "${MARTLET:-}" ]; then
    for product in martlet interop-node; do
        swift build --package-path ../.. -c release --static-swift-stdlib --product "$product" || exit 1
    done
fi

exec ./enter.sh ../.venv/bin/python -m pytest -p no:cacheprovider -rs -q --rootdir . -o testpaths=tests "$@" </dev/null
