#!/bin/bash
# Martlet beside its peers: run.sh [stream|quic|fetch|ping|dial|rpc|beside|memory|relay|reservations|allocations…] [--rounds N] [--bytes N] [--count N]
# Prints Markdown tables. Leave the machine alone meanwhile.
set -euo pipefail
cd "$(dirname "$0")"
../Interop/setup.sh
exec ../Interop/isolated.sh ../Interop/.venv/bin/python run.py "$@"
