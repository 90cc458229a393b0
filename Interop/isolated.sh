#!/bin/bash
# Runs a command in a network namespace of its own that has a loopback and nothing else.
# Some peers ask public servers for their address as they start, others have default bootstrap lists: none of that
# gets out of here.
if [ "$(id -u)" = 0 ]; then
    exec unshare --net -- sh -c 'ip link set lo up && exec "$@"' isolated "$@"
fi
exec unshare --user --map-root-user --net -- sh -c 'ip link set lo up && exec "$@"' isolated "$@"
