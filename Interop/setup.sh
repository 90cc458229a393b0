#!/bin/bash
# Makes Interop/.venv with the peers of requirements.txt. Does nothing when they are there.
# The system's packages are Scripts/setup.sh's business: call that with --interop.
set -euo pipefail
cd "$(dirname "$0")"

lists=(requirements.txt ../Benchmarks/requirements.txt)
stamp=$(python3 --version; cat "${lists[@]}")
[ "$(cat .venv/installed 2>/dev/null)" = "$stamp" ] && exit 0

echo "setup: installing the libp2p peers from PyPI into Interop/.venv" >&2
rm -rf .venv
python3 -m venv .venv
log=$(mktemp)
trap 'rm -f "$log"' EXIT
.venv/bin/pip install --quiet --no-deps --disable-pip-version-check \
    -r requirements.txt -r ../Benchmarks/requirements.txt >"$log" 2>&1 </dev/null || {
    tail -n 20 "$log" >&2
    echo "setup: pip could not install the libp2p peers (its last lines are above)." >&2
    exit 1
}
echo "$stamp" >.venv/installed
