"""What the peers' benchmark programs share: arguments, clocks and the JSON line at the end.

Each program has the mode `serve`, which prints {"address": …} and serves until its standard input ends, and the modes of
`martlet bench` that its system can do: stream, ping, dial, fetch, rpc. A client prints one object with at least mb_per_s or p50_us
and p99_us, and cpu_s, its own processor time and that of the processes it started.
"""

import argparse
import collections
import json
import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Interop" / "peers"))

TICKS = os.sysconf("SC_CLK_TCK")


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["serve", "stream", "ping", "dial", "fetch", "rpc", "crowd"])
    parser.add_argument("address", nargs="?")
    parser.add_argument("content", nargs="?", help="what to fetch")
    parser.add_argument("--bytes", type=int, default=1 << 30)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--reply", type=int, help="bytes of an answer; as many as the request's unless given")
    parser.add_argument("--inflight", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--beside-bulk", type=int, help="bytes of each of two calls that are always under way meanwhile")
    parser.add_argument("--way", default="", help="which of several ways the system has")
    parser.add_argument("--relay", help="the address of a relay that this end is to be reached through, and no other way")
    parser.add_argument("--host", default="127.0.0.1", help="the address of this end")
    parser.add_argument("--quic", action="store_true", help="QUIC instead of TCP, where the system has both")
    return parser.parse_args()


def process_tree(root):
    """The process and all below it."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    found, open_ends = [], [root]
    while open_ends:
        process = open_ends.pop()
        found.append(process)
        open_ends += parents.get(process, [])
    return found


def cpu_seconds(root):
    """Processor time so far of a process and all below it."""
    ticks = 0
    for process in process_tree(root):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def resident_mb(root, below=True):
    """Resident memory of a process and, unless told otherwise, all below it, in MB of 10^6 bytes."""
    pages = 0
    for process in process_tree(root) if below else [root]:
        try:
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Stopwatch:
    def __init__(self):
        self.cpu, self.wall = cpu_seconds(os.getpid()), time.perf_counter()

    def throughput(self, byte_count):
        wall = time.perf_counter() - self.wall
        cpu = cpu_seconds(os.getpid()) - self.cpu
        say(mb_per_s=byte_count / wall / 1e6, cpu_s=cpu, bytes=byte_count, seconds=wall)

    def latencies(self, seconds):
        cpu = cpu_seconds(os.getpid()) - self.cpu
        ordered = sorted(seconds)
        at = lambda share: ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e6
        say(p50_us=at(0.5), p99_us=at(0.99), cpu_s=cpu, count=len(ordered))


class Bulk:
    """Two large calls on the same connection, always under way until it is ended; `start()` begins one."""

    def __init__(self, start, size):
        self.start, self.size, self.times = start, size, []
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        pending = collections.deque(self.start() for _ in range(2))
        while pending:
            pending.popleft().result(timeout=60)
            self.times.append(time.perf_counter())
            if not self.is_over.is_set():
                pending.append(self.start())

    def end(self, since):
        """MB/s of the calls that were done since then."""
        until = time.perf_counter()
        self.is_over.set()
        self.thread.join()
        return sum(since < each <= until for each in self.times) * self.size / (until - since) / 1e6


def calls(options, start, bulk=None):
    """Calls for `--seconds`, `--inflight` at a time. `start()` begins a call and gives a future of its answer; which is
    the fastest way that Python has with these systems: no thread for each caller. `bulk(bytes)` begins a large one."""

    def run(seconds):
        pending, times = collections.deque(), []
        end = time.perf_counter() + seconds
        while True:
            now = time.perf_counter()
            while now < end and len(pending) < options.inflight:
                pending.append((now, start()))
            if not pending:
                return times
            began, future = pending.popleft()
            future.result(timeout=60)
            times.append(time.perf_counter() - began)

    beside = Bulk(lambda data=bytes(options.beside_bulk): bulk(data), options.beside_bulk) if options.beside_bulk else None
    run(1 if beside else 0.3)
    watch = Stopwatch()
    times = sorted(run(options.seconds))
    wall, cpu = time.perf_counter() - watch.wall, cpu_seconds(os.getpid()) - watch.cpu
    more = {"bulk_mb_per_s": beside.end(watch.wall)} if beside else {}
    size = options.size + (options.size if options.reply is None else options.reply)
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))] * 1e6
    rate = len(times) / wall
    say(calls_per_s=rate, mb_per_s=rate * size / 1e6, p50_us=at(0.5), p99_us=at(0.99), cpu_s=cpu, calls=len(times), **more)


def say(**fields):
    print(json.dumps(fields), flush=True)


def serve_until_told(address, **more):
    say(address=address, **more)
    sys.stdin.read()
