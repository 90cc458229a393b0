"""Starts peer programs and talks to them by the JSON lines of ../README.md."""

import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

here = Path(__file__).resolve().parent
root = here.parent.parent

NETWORK = "/lattica/1.0.0"  # a Lattica node disconnects whoever's identify does not say its network's name
DEADLINE = 90


def martlet_binary():
    return Path(os.environ.get("INTEROP_NODE", root / ".build" / "release" / "interop-node"))


def command(kind):
    if kind == "martlet":
        return [str(martlet_binary())]
    return [sys.executable, str(here.parent / "peers" / f"{kind}_peer.py")]


class Program:
    """`network` None leaves it to the program, which for Martlet means that everybody is welcome."""

    def __init__(self, kind, *arguments, network=NETWORK):
        self.name = f"{kind} {' '.join(arguments)}"
        self.process = subprocess.Popen(
            command(kind) + [*arguments, *(["--network", network] if network else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self.lines, self.complaints = queue.Queue(), []
        for target in (self._read_output, self._read_complaints):
            threading.Thread(target=target, daemon=True).start()

    def _read_output(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def _read_complaints(self):
        for line in self.process.stderr:
            self.complaints.append(line)
            del self.complaints[:-50]

    def line(self, deadline=DEADLINE):
        """The next JSON object on its standard output."""
        try:
            line = self.lines.get(timeout=deadline)
        except queue.Empty:
            raise AssertionError(f"{self.name} said nothing for {deadline} s\n{''.join(self.complaints)}") from None
        if line is None:
            raise AssertionError(f"{self.name} ended, status {self.process.wait()}\n{''.join(self.complaints)}")
        return json.loads(line)

    def ask(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self.line()

    def finish(self):
        """Ends its standard input, which is how a program is told to stop."""
        if self.process.stdin and not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Listener(Program):
    def __init__(self, kind, address="/ip4/127.0.0.1/tcp/0", *options, network=NETWORK):
        super().__init__(kind, "listen", "--listen", address, *options, network=network)
        self.kind = kind
        ready = self.line()
        assert ready["event"] == "ready", ready
        self.peer, self.address = ready["peer"], ready["addrs"][0]
        assert self.address.endswith(f"/p2p/{self.peer}")


def network_with(peer):
    """p2pd's identify names no network, and a Martlet node that is in one sends it away, as a Lattica node does."""
    return None if peer == "p2pd" else NETWORK


def dial(kind, address, scenario, network=NETWORK, **options):
    """Runs one scenario to its end and returns the verdict."""
    extra = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    program = Program(kind, "dial", address, "--scenario", scenario, *extra, network=network)
    try:
        return program.line()
    finally:
        program.finish()


def held(verdict):
    """The verdict, if its scenario held."""
    assert verdict["ok"], verdict
    return verdict
