"""A Lattica node that has the peer at the address RELAY dial it back (AutoNAT v2): lattica_autonat.py RELAY --listen ADDRESS…

Prints {"event": "dialed_back", "seconds"} whenever that came about, as libp2p's log tells, counted from when it was connected, until
standard input ends."""

import sys
import tempfile
import threading
import time

relay, _, *listen = sys.argv[1:]

import os

os.environ["LATTICA_LOG"] = "info,libp2p_autonat=debug"

import lattica_pair
from lattica_pair import Lattica, common

connected = threading.Event()
began = 0


def seen(line):
    global began
    if "Connection established" in line and not connected.is_set():
        began = time.monotonic()
        connected.set()
        common.say(event="connected")
    elif "Successful dial-back" in line:
        common.say(event="dialed_back", seconds=round(time.monotonic() - began, 2))


with tempfile.TemporaryDirectory() as folder:
    lattica_pair.follow_log(seen)
    builder = Lattica.builder().with_listen_addrs(listen).with_key_path(f"{folder}/key").with_bootstraps([relay])
    node = builder.with_mdns(False).with_upnp(False).with_autonat(True).with_dcutr(False).build()
    sys.stdin.read()
    # Its threads do not end by themselves.
    os._exit(0)
