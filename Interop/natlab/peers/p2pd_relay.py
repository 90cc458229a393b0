"""go-libp2p's daemon as a circuit relay: p2pd_relay.py MULTIADDR… [OPTION OF P2PD…]; prints its addresses, then serves until
standard input ends. Whatever its help says, without options it relays 128 KiB a connection."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "peers"))

import common
from p2pd_control import Daemon

if __name__ == "__main__":
    options = ["-relay=true", "-relayService=true", "-forceReachabilityPublic"]
    options += [each for each in sys.argv[1:] if each.startswith("-")]
    with Daemon(",".join(each for each in sys.argv[1:] if each not in options), options) as daemon:
        common.say(event="ready", peer=daemon.peer, addrs=[f"{each}/p2p/{daemon.peer}" for each in daemon.addresses])
        sys.stdin.read()
