"""One of two p2pd behind NATs: takes relays and waits, or reaches the other through the first of the relays.

    p2pd_pair.py listen RELAY…               prints {"event": "ready", "peer": …} once it announces a relay, serves until standard input ends
    p2pd_pair.py dial RELAY… --target PEER   prints {"path", "answer_ms", "direct_ms", "error"}; its debug log tells of punching"""

import argparse
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "peers"))
os.environ["P2PD_LOG"] = "error,p2p-holepunch=debug"

import common
from p2pd_control import Daemon, DaemonError, receive_exactly


def start(options):
    relays = ["-relay=true", "-autonat", "-forceReachabilityPrivate", "-relayService=false", "-b", "-bootstrapPeers", ",".join(options.relays)]
    if options.mode == "listen":
        relays += ["-dhtClient", "-autoRelay", "-trustedRelays", ",".join(options.relays), "-relayDiscovery=false"]
    return Daemon(",".join(options.listen), relays)


def listen(daemon, options):
    deadline = time.monotonic() + 40
    while not any("/p2p-circuit" in each for each in daemon.current_addresses()):
        if time.monotonic() > deadline:
            common.say(event="failed", error=f"no relay announced: {daemon.current_addresses()}")
            return 1
        time.sleep(0.1)
    common.say(event="ready", peer=daemon.peer)
    sys.stdin.read()
    sys.stderr.write(daemon.log())
    return 0


def ping(daemon, peer):
    with daemon.open_stream(peer, common.PING, timeout=5) as stream:
        payload = os.urandom(32)
        stream.sendall(payload)
        return receive_exactly(stream, 32) == payload


def dial(daemon, options):
    for relay in options.relays:
        daemon.connect(relay)
    time.sleep(1)  # until all have told it its address
    began = time.monotonic()
    said = {"path": None, "error": None}
    try:
        daemon.connect(f"{options.relays[0]}/p2p-circuit/p2p/{options.target}")
        relayed = time.monotonic()
        if ping(daemon, options.target):
            said.update(path="relayed", answer_ms=round((time.monotonic() - began) * 1000))
    except (DaemonError, OSError, EOFError) as error:
        said["error"] = str(error)
    while said["path"] and time.monotonic() < relayed + options.seconds:
        # A peer that finds an address of ours to be public just dials it, which no log here tells of.
        if any("/p2p-circuit" not in each for each in daemon.addresses_of(options.target)):
            said.update(path="direct", direct_ms=round((time.monotonic() - relayed) * 1000))
            break
        time.sleep(0.01)
    sys.stderr.write(daemon.log())
    common.say(**said)
    return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["listen", "dial"])
    parser.add_argument("relays", nargs="+")
    parser.add_argument("--target")
    parser.add_argument("--listen", nargs="+", required=True)
    parser.add_argument("--seconds", type=float, default=15)
    options = parser.parse_args()
    with start(options) as daemon:
        status = {"listen": listen, "dial": dial}[options.mode](daemon, options)
    sys.exit(status)


if __name__ == "__main__":
    main()
