#!/bin/bash
# Runs a command where the lab may be built: in namespaces of network, mounts and processes of its own. When the command
# ends, however it ends, every process and network namespace that it made ends with it; nothing is left to clean up.
# Exits with 75 and a sentence when that cannot be done here. Says so for each thing that is missing.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)

unable() {
    echo "natlab: $*" >&2
    exit 75
}

[ "$(id -u)" = 0 ] || unable "network namespaces with devices of their own need root, and this is not root."
for tool in ip nft gcc unshare nsenter python3; do
    command -v "$tool" >/dev/null || unable "there is no '$tool' here: run Scripts/setup.sh --natlab."
done
[ -c /dev/net/tun ] || unable "there is no /dev/net/tun here, which the links of the lab are made of."
unshare --net nft add table ip natlab 2>/dev/null || unable "nftables cannot be used in a namespace here."

if [ ! -x "$here/.build/link" ] || [ "$here/link.c" -nt "$here/.build/link" ]; then
    mkdir -p "$here/.build"
    made=$(mktemp "$here/.build/link.XXXXXX")
    gcc -O2 -Wall -Wextra -Werror -o "$made" "$here/link.c" || unable "link.c could not be compiled."
    mv -f "$made" "$here/.build/link"
fi

# --kill-child: with the first process of the process namespace, all others of it end.
exec unshare --net --mount --pid --fork --kill-child --mount-proc -- /bin/bash -c '
    ip link set lo up && mount -t tmpfs natlab /run && mkdir /run/netns && : >/run/resolv.conf || exit 75
    mount --bind /run/resolv.conf /etc/resolv.conf
    "$@" <&0 &
    trap "kill -TERM $! 2>/dev/null" TERM
    trap "kill -INT $! 2>/dev/null" INT
    while :; do
        wait $!
        status=$?
        kill -0 $! 2>/dev/null || exit $status
    done' natlab "$@"
