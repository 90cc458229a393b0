"""`natlab.sh moves`: what a fetch and calls notice when their path changes, and how fast a relay's restart is healed."""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import threading
import time

from .systems.martlet import BINARY, Martlet
from .systems.system import Failed
from .topology import Lab

INTEROP_NODE = BINARY.with_name("interop-node")
DIRECT = ("direct", "lan")


def until(condition, seconds, what):
    """Waits for a condition and says how long it took."""
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        if value := condition():
            return value, time.monotonic() - began
        time.sleep(0.05)
    raise Failed(f"{what} did not come within {seconds} s")


class Pair:
    """A relay, and two sites whose hosts run nodes with reservations there. `target` and `dialer` are names of nodes."""

    def __init__(self, lab, martlet, kind="port-restricted"):
        self.lab, self.martlet = lab, martlet
        self.dialer, self.target = lab.site("dialer", kind), lab.site("target", kind)
        self.relay, addresses = martlet.start_relay()
        self.reached_at = martlet.usable(self.target, addresses)[0]

    def start_nodes(self):
        _, self.peer = self.martlet.start_node(self.target, [self.reached_at], "target")
        self.martlet.start_node(self.dialer, [self.reached_at], "dialer")
        self.address = f"{self.reached_at}/p2p-circuit/p2p/{self.peer}"

    def ask(self, name, *words, seconds=30):
        """A command to the node `name` that runs, as its JSON lines."""
        asked = subprocess.run([BINARY, *words, "--json", "--data-dir", self.martlet.folder / f"{name}.data"], capture_output=True,
                               text=True, timeout=seconds)
        lines = [json.loads(line) for line in asked.stdout.splitlines()]
        if asked.returncode != 0:
            raise Failed(f"martlet {words[0]}: {asked.stderr.strip()}")
        return lines

    def path(self):
        """Which kind of path the dialing node uses to the target now; None when there is none."""
        listed = self.ask("dialer", "peers")[-1]["peers"]
        paths = [each["path"] for each in listed if each["peer"] == self.peer]
        return next((path for path in paths if path in DIRECT), paths[0] if paths else None)

    def cut(self):
        """The dialer's router drops what goes directly between the two sites from now on, without a word."""
        self.dialer.refuse(self.target.wan)

    def mend(self):
        self.dialer.accept_again()


def fetch(byte_count, transports=("udp", "tcp")):
    """A fetch that begins on the relay, moves to the direct path, loses that, and gets it back."""
    with Lab() as lab, Martlet(lab, transports) as martlet:
        pair = Pair(lab, martlet)
        pair.start_nodes()
        source, copy = martlet.folder / "source", martlet.folder / "copy"
        subprocess.run(["sh", "-c", f"head -c {byte_count} /dev/urandom >{source}"], check=True)
        cid = pair.ask("target", "share", source, seconds=120)[-1]["cid"]
        began = time.monotonic()
        getting = martlet.program(pair.dialer.host, [
            BINARY, "get", cid, "-o", copy, "--from", pair.address, "--json", "--data-dir", martlet.folder / "dialer.data"], "get")
        report = {"bytes": byte_count, "paths": []}
        moves = threading.Thread(target=_move, args=(pair, report, copy, byte_count), daemon=True)
        moves.start()
        summary = {}
        while line := getting.next(began + 600):
            if "error" in line[1]:
                raise Failed(f"the fetch failed: {line[1]['error']['message']}")
            summary = line[1] if "cid" in line[1] else summary
        report["seconds"] = round(time.monotonic() - began, 2)
        moves.join(1)
        if not summary:
            raise Failed(f"the fetch gave no answer; {getting.said()[-300:]}")
        report["fetched_again"] = sum(each["bytes"] for each in summary["sources"]) - byte_count
        report["is_equal"] = _digest(source) == _digest(copy)
        martlet.forget_logs()
        return report


def _move(pair, report, copy, byte_count):
    part = f"{copy}.part"

    def has(share):
        for place in (copy, part):
            if os.path.exists(place) and os.stat(place).st_blocks * 512 >= share * byte_count:
                return True
        return False

    try:
        _, waited = until(lambda: pair.path() in DIRECT, 30, "the direct path")
        report["paths"].append(["direct", round(waited, 2)])
        until(lambda: has(0.3), 300, "a third of the file")
        pair.cut()
        _, waited = until(lambda: pair.path() == "relayed", 60, "the relay after the direct path was cut")
        report["paths"].append(["relayed", round(waited, 2)])
        until(lambda: has(0.6), 300, "two thirds of the file")
        pair.mend()
        _, waited = until(lambda: pair.path() in DIRECT, 60, "the direct path again")
        report["paths"].append(["direct", round(waited, 2)])
    except (Failed, OSError) as failure:
        # The fetch may be over before the direct path is back.
        report["paths"].append([str(failure).split(";")[0], None])


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def calls(count=1000, transports=("udp", "tcp"), return_seconds=0):
    """Calls always under way while the path goes from the relay to direct and back, and to direct again if that is waited for."""
    if not INTEROP_NODE.exists():
        raise Failed(f"there is no {INTEROP_NODE}: build the product interop-node")
    with Lab() as lab, Martlet(lab, transports) as martlet:
        pair = Pair(lab, martlet)
        dialing, report = _start_calls(pair, {"count": count}, count)
        pair.cut()
        _next_path(dialing, report, ("relayed",), 60)
        time.sleep(1)
        if return_seconds:
            pair.mend()
            _next_path(dialing, report, DIRECT, return_seconds, must_come=False)
            time.sleep(1)
        verdict = _end_calls(dialing, report)
        martlet.forget_logs()
        return report | {name: verdict[name] for name in ("calls", "errors", "runs")}


def mended(cut_seconds=3, transports=("udp", "tcp")):
    """How long after its way is open again a direct path that was lost is there again."""
    with Lab() as lab, Martlet(lab, transports) as martlet:
        pair = Pair(lab, martlet)
        pair.start_nodes()
        pair.ask("dialer", "ping", pair.address, "--count", "1")
        until(lambda: pair.path() in DIRECT, 30, "the direct path")
        pair.cut()
        cut_at = time.monotonic()

        def is_relayed():
            _reaches_from("dialer", pair)
            return pair.path() == "relayed"

        _, lost = until(is_relayed, 60, "the relay after the direct path was cut")
        time.sleep(max(0, cut_at + cut_seconds - time.monotonic()))
        pair.mend()
        _, found = until(lambda: pair.path() in DIRECT, 30, "the direct path again")
        martlet.forget_logs()
        return {"lost_after_s": round(lost, 2), "found_after_s": round(found, 2)}


def _start_calls(pair, report, count):
    """Calls from the dialer to the target, always under way, once their path is direct: the program and the report begun with."""
    listen = [word for each in pair.martlet.listen_addresses() for word in ("--listen", each)]
    target = pair.martlet.program(pair.target.host, [INTEROP_NODE, "listen", *listen, "--relay", pair.reached_at], "target")
    peer = target.wait_for("ready", 20)["peer"]
    time.sleep(1)  # until the reservation is there
    dialing = pair.martlet.program(pair.dialer.host, [
        INTEROP_NODE, "dial", f"{pair.reached_at}/p2p-circuit/p2p/{peer}", "--scenario", "calls", "--count", count, *listen], "calls")
    report |= {"first_path": dialing.wait_for("connected", 20)["path"], "paths": []}
    _next_path(dialing, report, DIRECT, 30)
    time.sleep(1)
    return dialing, report


def _end_calls(dialing, report):
    """Has them end, and what came of them."""
    dialing.finish_input()
    return dialing.verdict(60, "calls", f"paths {report['paths']}")


def _next_path(program, report, wanted, seconds, must_come=True):
    began = time.monotonic()
    while line := program.next(began + seconds):
        if line[1].get("path") in wanted:
            report["paths"].append([line[1]["path"], round(line[0] - began, 2)])
            return
        if "ok" in line[1]:
            raise Failed(f"it ended early: {line[1]}")
    if not must_come:
        return report["paths"].append([f"not {' or '.join(wanted)} within {seconds} s", None])
    raise Failed(f"no {' or '.join(wanted)} path within {seconds} s; so far {report['paths']}")


def relay_restart(is_killed, kind="symmetric", transports=("udp", "tcp")):
    """How long after its relay is there again a node can be reached through it."""
    with Lab() as lab, Martlet(lab, transports) as martlet:
        pair = Pair(lab, martlet, kind)
        pair.start_nodes()
        pair.ask("dialer", "ping", pair.address, "--count", "1")
        pair.relay.signal(signal.SIGKILL if is_killed else signal.SIGTERM)
        until(lambda: not pair.relay.is_running(), 10, "the relay's end")
        time.sleep(1)
        # From here on: the time until the relay listens is its own, not that of the healing.
        pair.relay, _ = martlet.start_relay()
        began = time.monotonic()
        while not _reaches(pair):
            if time.monotonic() > began + 60:
                raise Failed("not reachable 60 s after the relay's restart")
        healed = round(time.monotonic() - began, 2)
        martlet.forget_logs()
        return {"relay": "killed" if is_killed else "stopped", "healed_after_s": healed}


def address_change(transports=("udp", "tcp")):
    """How long after its router got another address a node can be reached through its relay again."""
    with Lab() as lab, Martlet(lab, transports) as martlet:
        pair = Pair(lab, martlet)
        pair.start_nodes()
        pair.target.change_address()
        began = time.monotonic()
        while not _reaches(pair):
            if time.monotonic() > began + 90:
                raise Failed("not reachable 90 s after the router's address changed")
        healed = round(time.monotonic() - began, 2)
        martlet.forget_logs()
        return {"relay_by": transports[0], "healed_after_s": healed}


def roaming(roamer="dialer", last=10, away_seconds=1, count=100, transports=("udp", "tcp")):
    """Calls always under way while the machine of the dialer or of the target is taken to another network, where it may have the
    same address as before; how long none was answered, and when the path was direct again."""
    with Lab() as lab, Martlet(lab, transports) as martlet:
        pair = Pair(lab, martlet)
        other = lab.site("other", "port-restricted-random")
        site = getattr(pair, roamer)
        dialing, report = _start_calls(pair, {"roamer": roamer}, count)
        site.unplug()
        time.sleep(away_seconds)
        other.take_in(site, last)
        _next_path(dialing, report, DIRECT, 60)
        time.sleep(1)
        verdict = _end_calls(dialing, report)
        martlet.forget_logs()
        # The time unplugged is nobody's fault.
        return report | {"silent_s": round(verdict["longest_pause_ms"] / 1000 - away_seconds, 2)} | {
            name: verdict[name] for name in ("calls", "errors", "runs")}


def sleep(seconds=65, kind="port-restricted+pcp-only", transports=("udp", "tcp")):
    """How long after it woke up a machine that slept is reached again, at its mapped port and through its relay."""
    with Lab() as lab, Martlet(lab, transports) as martlet:
        pair = Pair(lab, martlet, kind)
        node, pair.peer = martlet.start_node(pair.target, [pair.reached_at], "target")
        pair.address = f"{pair.reached_at}/p2p-circuit/p2p/{pair.peer}"
        until(lambda: len(pair.target.port_mapping.mappings()) == len(transports), 20, "the mapping of the ports")
        node.signal(signal.SIGSTOP)
        time.sleep(seconds)
        pair.target.port_mapping.lose_state()
        node.signal(signal.SIGCONT)
        began = time.monotonic()
        while not _reaches(pair):
            if time.monotonic() > began + 60:
                raise Failed("not reachable 60 s after it woke up")
        reached = round(time.monotonic() - began, 2)
        until(lambda: len(pair.target.port_mapping.mappings()) == len(transports), 60, "the mapping of the ports again")
        mapped = round(time.monotonic() - began, 2)
        martlet.forget_logs()
        return {"slept_s": seconds, "reached_after_s": reached, "mapped_after_s": mapped}


def new_address(transports=("udp",)):
    """A relayed path between two nodes whose direct one was cut, until the router of one has another address: how long until they
    punch again. The next attempt of the schedule would come after more than a minute."""
    with Lab() as lab, Martlet(lab, transports) as martlet:
        pair = Pair(lab, martlet)
        pair.start_nodes()
        # Nothing gets through from this address of the target's router.
        pair.dialer.refuse(pair.target.wan)
        pair.ask("dialer", "ping", pair.address, "--count", "1")
        # Attempts take 12 s; the pauses between them are of 5, 15, 30 and 60 s.
        time.sleep(92)
        if pair.path() != "relayed":
            raise Failed(f"the path is {pair.path()}")
        pair.target.change_address()
        _, waited = until(lambda: pair.path() in DIRECT, 90, "a direct path after the address changed")
        martlet.forget_logs()
        return {"direct_after_s": round(waited, 2)}


def _reaches(pair):
    """Whether a fresh node reaches the target through the relay now."""
    return _reaches_from("fresh", pair)


def _reaches_from(name, pair):
    """Whether the node `name`, a fresh one if there is none, reaches the target, through the relay if need be."""
    try:
        return subprocess.run(pair.dialer.host.command(
            BINARY, "ping", pair.address, "--count", "1", "--json", "--data-dir", pair.martlet.folder / f"{name}.data"),
            capture_output=True, text=True, timeout=20).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def main(words):
    parser = argparse.ArgumentParser(prog="natlab moves", description="Fetches, calls and relays while paths change.")
    parser.add_argument("what", nargs="*", metavar="fetch|calls|mended|relay|address|roaming|sleep|new-address", help="all, if not given")
    parser.add_argument("--bytes", type=int, default=1 << 30)
    parser.add_argument("--count", type=int, default=1000, help="calls in flight")
    parser.add_argument("--transport", choices=("udp", "tcp", "both"), default="both")
    options = parser.parse_args(words)
    transports = {"udp": ("udp",), "tcp": ("tcp",), "both": ("udp", "tcp")}[options.transport]
    steps = {"fetch": [lambda: fetch(options.bytes, transports)], "calls": [lambda: calls(options.count, transports, 90)],
             "mended": [lambda: mended(transports=transports)],
             "relay": [lambda: relay_restart(False, transports=transports), lambda: relay_restart(True, transports=transports)],
             "address": [lambda: address_change(transports)], "new-address": [lambda: new_address(transports)],
             "roaming": [lambda who=who, last=last: roaming(who, last, transports=transports)
                         for who in ("dialer", "target") for last in (10, 77)],
             "sleep": [lambda: sleep(transports=transports)]}
    status = 0
    for name in options.what or steps:
        for step in steps[name]:
            try:
                print(json.dumps({"move": name, **step()}), flush=True)
            except Failed as failure:
                status = 1
                print(json.dumps({"move": name, "failed": str(failure)}), flush=True)
    return status
