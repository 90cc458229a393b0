"""`natlab.sh carry`: what one stream through a relay carries over long lines, by QUIC and TCP, with Martlet's relay and p2pd's."""

import argparse
import json
import statistics
import subprocess
import sys
import time

from .systems.martlet import BINARY, Martlet
from .systems.p2pd import P2PDRelay
from .systems.system import Failed
from .topology import Lab


class UnlimitedMartlet(Martlet):
    relay_options = ("--unlimited",)


class UnlimitedP2PD(P2PDRelay):
    relay_options = (f"-relayDataLimit={1 << 40}", "-relayTimeLimit=1h")


RELAYS = {"martlet": UnlimitedMartlet, "p2pd": UnlimitedP2PD}
TRANSPORTS = {"udp": ("udp",), "tcp": ("tcp",)}


def carry(relay, transport, byte_count, **line):
    """MB/s of one stream from one public host to another that has no way in but the relay; Martlet at both ends."""
    with Lab(**line) as lab, RELAYS[relay](lab, TRANSPORTS[transport]) as system:
        client, server = lab.site("client", "none"), lab.site("server", "none")
        for host in (lab.relay, client.host, server.host):
            # Room for what the lines hold, several times.
            host.setting("net/ipv4/tcp_rmem", "4096 131072 67108864")
            host.setting("net/ipv4/tcp_wmem", "4096 131072 67108864")
        _, addresses = system.start_relay()
        socket = system.folder / "socket"
        command = [BINARY, "bench", "serve", "--listen", f"/unix{socket}", "--relay", system.usable(server, addresses)[0]]
        serving = server.host.start(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            address = serving.stdout.readline().strip()
            # The client learns of its address once it is connected, and would go over to it.
            socket.unlink()
            done = client.host.run(BINARY, "bench", "stream", address, "--bytes", byte_count, "--json", timeout=300)
        finally:
            serving.kill()
            serving.wait()
        if done.returncode != 0:
            raise Failed(f"{relay}, {transport}: {done.stderr.strip()[-300:]}")
        system.forget_logs()
        return json.loads(done.stdout.splitlines()[-1])["mb_per_s"]


def _carry_unlimited(*words, **line):
    """p2pd with limits of its own often runs with the usual ones all the same: of two relays that it starts the later one serves."""
    for _ in range(20):
        try:
            return carry(*words, **line)
        except Failed as failure:
            if "at its limit" not in str(failure):
                raise
    raise Failed("the relay's limits are not lifted")


def main(words):
    parser = argparse.ArgumentParser(prog="natlab carry", description="What one stream through a relay carries over long lines.")
    parser.add_argument("--relay", nargs="+", choices=RELAYS, default=list(RELAYS))
    parser.add_argument("--transport", nargs="+", choices=TRANSPORTS, default=list(TRANSPORTS))
    parser.add_argument("--bytes", type=int, default=600_000_000)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="each combination once, then each again (3)")
    parser.add_argument("--delay", type=float, default=20, help="of each end's line, one way, in milliseconds (20)")
    parser.add_argument("--rate", type=float, default=1000, help="of each end's line, in Mbit/s (1000)")
    parser.add_argument("--loss", type=float, default=0, help="percent of the packets (0)")
    parser.add_argument("--queue", type=float, default=4096, help="KiB that may wait to leave (4096)")
    options = parser.parse_args(words)
    found = {(relay, transport): [] for relay in options.relay for transport in options.transport}
    for _ in range(options.rounds):
        for (relay, transport), figures in found.items():
            try:
                figures.append(_carry_unlimited(relay, transport, options.bytes, delay=options.delay, rate=options.rate,
                                                loss=options.loss, queue=options.queue))
                print(f"{relay}, {transport}: {figures[-1]:.0f} MB/s", file=sys.stderr, flush=True)
            except (Failed, OSError, subprocess.TimeoutExpired) as failure:
                print(f"{relay}, {transport}: {failure}", file=sys.stderr, flush=True)
            time.sleep(0.3)
    print("| relay | transport | MB/s, median (least–most) | runs |\n|---|---|---|---|")
    for (relay, transport), figures in found.items():
        cell = f"{statistics.median(figures):.0f} ({min(figures):.0f}–{max(figures):.0f})" if figures else "–"
        print(f"| {relay} | {transport} | {cell} | {len(figures)} |")
    return 0 if all(len(figures) == options.rounds for figures in found.values()) else 1
