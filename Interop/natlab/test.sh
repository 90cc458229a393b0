#!/bin/bash
# The bounded selection of the lab's tests, in two labs side by side (some nine minutes). Options are pytest's. Without root, or
# where the lab cannot be built, it is skipped with a word; as root in CI it fails then.
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

parts=2
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
trap 'kill $(jobs -p) 2>/dev/null' INT TERM
for part in $(seq "$parts"); do
    {
        ./enter.sh ../.venv/bin/python -m pytest -p no:cacheprovider -rs -q -o console_output_style=classic --rootdir . \
            -o testpaths=tests --part "$part/$parts" "$@" </dev/null 2>&1
        echo "$?" >"$logs/status$part"
    } | tee "$logs/part$part" &
done
wait

# Pytest's 5: no test of this part was chosen.
status=0
for part in $(seq "$parts"); do
    case $(cat "$logs/status$part") in 0 | 5) ;; *) status=1 ;; esac
done
# Pytest's closing lines look like: 75 passed, 1 skipped in 240.33s (0:04:00)
tail -q -n 1 "$logs"/part* | awk '
    { for (i = 1; i < NF; i++) if ($i ~ /^[0-9]+$/) { word = $(i + 1); sub(/,$/, "", word); count[word] += $i } }
    { for (i = 1; i < NF; i++) if ($i == "in" && $(i + 1) + 0 > longest) longest = $(i + 1) + 0 }
    END { print count["passed"] + 0 " passed, " count["failed"] + count["error"] + count["errors"] " failed, " count["skipped"] + 0 " skipped in " longest "s" }'
exit "$status"
