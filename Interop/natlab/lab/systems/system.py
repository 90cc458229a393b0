"""What the runner of pairs asks of a system: a relay, a node that waits behind its NAT, and one that reaches it."""

import contextlib
import dataclasses
import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[4]
PEERS = ROOT / "Interop" / "natlab" / "peers"
PYTHON = ROOT / "Interop" / ".venv" / "bin" / "python"


class Failed(Exception):
    """A program did not do what it was started for."""


@dataclasses.dataclass
class Outcome:
    path: str = None  # direct, lan, relayed; None: not reached at all
    transport: str = None
    first_answer_ms: int = None  # from the start of the dialing program, over whatever path
    upgrade_ms: int = None  # from the relayed connection to the direct one
    answers: bool = False  # whether calls are answered at the end
    # Until the first answer, by program and line of the lab: how long its threads waited for a processor, all together.
    waited_ms: dict = None
    error: str = None
    logs: str = None  # the folder with what the programs said


def waited_ms(pid):
    """How long those threads of a process that still run have waited for a processor since they began, all together."""
    waited = 0
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                waited += int(file.read().split()[1])
    return round(waited / 1e6)


class Program:
    """A program in a namespace that says JSON lines. All that it says goes to a file too, each line with the time of day."""

    def __init__(self, namespace, command, log, environment=None):
        self.log = pathlib.Path(log)
        self._file = open(self.log, "ab", buffering=0)
        self._process = namespace.start(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=os.environ | (environment or {}), start_new_session=True, text=True, errors="replace")
        self._write(f"started as process {self.pid}\n")
        self._lines = queue.Queue()
        self.heard = []
        for reader in (self._read, self._read_errors):
            threading.Thread(target=reader, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            now = time.monotonic()
            self._write(line)
            with contextlib.suppress(ValueError):
                self._lines.put((now, json.loads(line)))
        self._lines.put(None)

    def _read_errors(self):
        for line in self._process.stderr:
            self._write(line)

    def _write(self, line):
        now = time.time()
        self._file.write(f"{time.strftime('%H:%M:%S', time.gmtime(now))}.{int(now * 1000) % 1000:03} {line}".encode())

    def next(self, deadline):
        """(time, object), or None at the end of the output or when `deadline` has passed."""
        try:
            line = self._lines.get(timeout=max(0.001, deadline - time.monotonic()))
        except queue.Empty:
            return None
        if line is None:
            self._lines.put(None)
            return None
        self.heard.append(line[1])
        return line

    def wait_for(self, event, seconds):
        deadline = time.monotonic() + seconds
        while line := self.next(deadline):
            if line[1].get("event") == event:
                return line[1]
        raise Failed(f"{self.log.stem} said no {event!r} within {seconds} s; it said {self.heard[-1:] or self.said()[-300:]}")

    def verdict(self, seconds, what, details=""):
        """What a scenario says at its end, with nothing said for `seconds` at the most: that it went well."""
        verdict = None
        while line := self.next(time.monotonic() + seconds):
            verdict = line[1] if "ok" in line[1] else verdict
        if not verdict or not verdict["ok"]:
            raise Failed(f"{what} failed: {verdict}; {details or self.said()[-300:]}")
        return verdict

    def said(self):
        return self.log.read_text(errors="replace")

    @property
    def pid(self):
        return self._process.pid

    def finish_input(self):
        self._process.stdin.close()

    def signal(self, number):
        self._process.send_signal(number)

    def is_running(self):
        return self._process.poll() is None

    def end(self):
        """Ends it as a terminal would, then by force. The exit status."""
        if self.is_running():
            self._process.terminate()
        try:
            return self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def kill(self):
        """Ends it by force, with what it started itself."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class System:
    """What one run of programs needs: a lab, a folder for their logs, and their end. `with System(lab, transports) as system:`"""

    name = "system"

    def __init__(self, lab, transports):
        self.lab, self.transports = lab, transports
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"natlab-{self.name}-"))
        self.programs = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for program in reversed(self.programs):
            program.kill()

    def forget_logs(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def program(self, namespace, command, name, environment=None):
        made = Program(namespace, command, self.folder / f"{name}.log", environment)
        self.programs.append(made)
        return made

    def waited(self):
        """How long each program, and each line of the lab, has waited for a processor, in milliseconds."""
        programs = {each.log.stem: each.pid for each in self.programs}
        lines = {f"line {number}": each.pid for number, each in enumerate(self.lab.links)}
        return {name: waited_ms(pid) for name, pid in (programs | lines).items()}

    def listen_addresses(self, host="0.0.0.0", port=4001):
        ways = {"udp": f"/ip4/{host}/udp/{port}/quic-v1", "tcp": f"/ip4/{host}/tcp/{port}"}
        return [ways[transport] for transport in self.transports]

    def listen_behind(self, site, port=4001):
        """Where a node at `site` listens: at the same port by IPv6 too, where there is any."""
        return self.listen_addresses(port=port) + [
            each.replace("/ip4/0.0.0.0", "/ip6/::") for each in self.listen_addresses(port=port) if site.kind.has("v6")]

    def usable(self, site, addresses):
        """The full addresses of relays that are of the transports allowed, the best for `site` first: by QUIC, where UDP passes."""
        marks = {"udp": "/quic-v1/p2p/", "tcp": "/tcp/4001/p2p/"}
        order = sorted(self.transports, key=lambda each: (each == "udp") == (site.kind.name == "udp-blocked"))
        return [each for transport in order for each in addresses if marks[transport] in each]

    # What each system does in its own way; all may raise Failed.

    @staticmethod
    def missing():
        """What there has to be and is not; None if all is there."""
        return None

    def start_relay(self):
        """The relay, and its full addresses; those of several, where a system needs them."""
        raise NotImplementedError

    def start_node(self, site, relays):
        """A node behind its NAT that can be reached through the relay at these addresses, and its peer id."""
        raise NotImplementedError

    def dial(self, site, relays, peer, seconds):
        """Reaches the peer through the relay at the first of these addresses, waits so long for a direct path: an Outcome."""
        raise NotImplementedError
