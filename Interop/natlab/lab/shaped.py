"""`link.sh`: runs a command at one end of a long link, and says how to run something at the other."""

import argparse
import os
import shlex
import subprocess
import sys

from .link import Link
from .namespace import Namespace

NEAR, FAR = "11.7.0.1", "11.7.0.2"


def main(words):
    parser = argparse.ArgumentParser(
        prog="link.sh", description="Runs a command at one end of a link with the given delay, rate and loss.",
        epilog="The command finds in its environment LINK_NEAR and LINK_FAR, the addresses of the two ends, and "
               "LINK_FAR_RUN, a prefix that runs a command at the far end.")
    parser.add_argument("--delay", type=float, default=50, help="one way, in milliseconds (50)")
    parser.add_argument("--rate", type=float, default=1000, help="Mbit/s (1000)")
    parser.add_argument("--loss", type=float, default=0, help="percent of the packets, each way (0)")
    parser.add_argument("--queue", type=float, default=4096, help="KiB that may wait to leave (4096)")
    parser.add_argument("--seed", type=int, default=1, help="of the loss")
    parser.add_argument("--congestion-control", help="TCP's in both ends; the system's, if not given")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(words)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("there is no command to run")

    near, far = Namespace("natlab-near"), Namespace("natlab-far")
    link = Link((near, "wire"), (far, "wire"), options.delay, options.rate, options.loss, options.queue, options.seed)
    near.ip(f"address add {NEAR} peer {FAR} dev wire", f"route add default via {FAR} dev wire onlink")
    far.ip(f"address add {FAR} peer {NEAR} dev wire", f"route add default via {NEAR} dev wire onlink")
    for end in (near, far):
        # Room for what a link of 1 Gbit/s and 100 ms there and back holds, several times.
        end.setting("net/ipv4/tcp_rmem", "4096 131072 67108864")
        end.setting("net/ipv4/tcp_wmem", "4096 131072 67108864")
        if options.congestion_control:
            end.setting("net/ipv4/tcp_congestion_control", options.congestion_control)
    environment = os.environ | {"LINK_NEAR": NEAR, "LINK_FAR": FAR, "LINK_FAR_RUN": shlex.join(far.command())}
    status = subprocess.run(near.command(*command), env=environment).returncode
    sys.stderr.write(link.close())
    return status
