#!/bin/bash
# A model file moves from two nodes to a third: three processes on this machine, which share nothing but the network.
set -euo pipefail
cd "$(dirname "$0")/.."

martlet=$PWD/.build/release/martlet
work=$(mktemp -d)
nodes=()

stop() {
    for node in "${nodes[@]}"; do kill "$node" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT TERM

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

# start NAME [OPTION…]: a node with a data folder of its own. Its address is then in $work/NAME.address.
start() {
    local name=$1
    shift
    "$martlet" init --data-dir "$work/$name" >"$work/$name.init"
    : >"$work/$name.log"
    "$martlet" node --data-dir "$work/$name" --listen /ip4/127.0.0.1/tcp/0 "$@" >"$work/$name.log" 2>"$work/$name.errors" &
    nodes+=($!)
    for _ in $(seq 100); do
        grep -q '^ready$' "$work/$name.log" && break
        kill -0 $! 2>/dev/null || break
        sleep 0.1
    done
    grep -q '^ready$' "$work/$name.log" || {
        echo "node $name did not start:" && cat "$work/$name.log" "$work/$name.errors"
        exit 1
    }
    grep -m 1 '/p2p/' "$work/$name.log" >"$work/$name.address"
    echo "  $name  $(cat "$work/$name.address")"
}

say "1. A model to move"
origin=$(Scripts/model.py .cache/model.safetensors)
model=.cache/model.safetensors
sum=$(sha256sum "$model" | cut -d ' ' -f 1)
echo "  $origin"
echo "  $(stat -c %s "$model") bytes, SHA-256 $sum"

say "2. Three nodes"
start alice
start bob
start carol

say "3. Alice and Bob each have the file and share it"
for name in alice bob; do
    cp "$model" "$work/$name.safetensors"
    cid=$("$martlet" share "$work/$name.safetensors" --data-dir "$work/$name" | grep -oE -m 1 '\b(baf|Qm)[A-Za-z0-9]+')
    echo "  $name  $cid"
done

say "4. Carol fetches it from both"
began=$(date +%s%N)
"$martlet" get "$cid" -o "$work/carol.safetensors" --data-dir "$work/carol" \
    --from "$(cat "$work/alice.address")" --from "$(cat "$work/bob.address")"
took=$((($(date +%s%N) - began) / 1000000))

say "5. What arrived"
arrived=$(sha256sum "$work/carol.safetensors" | cut -d ' ' -f 1)
size=$(stat -c %s "$work/carol.safetensors")
echo "  $size bytes in $took ms, SHA-256 $arrived"
if [ "$arrived" != "$sum" ]; then
    echo "  This is NOT the file that was shared."
    exit 1
fi
echo "  The same file, checked leaf by leaf on the way and as a whole now."
"$martlet" peers --data-dir "$work/carol" | sed 's/^/  /'
