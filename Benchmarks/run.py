#!/usr/bin/env python3
"""Runs `martlet bench` beside its peers and prints a Markdown table a measurement.

Every system is two processes (and what they start) on this machine's loopback. One round runs each system once, in a fresh
pair of processes; rounds follow each other, so that what else the machine does falls on all alike. Cells are medians.
Called by run.sh, which puts it into a network namespace of its own.
"""

import argparse
import atexit
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

here = Path(__file__).resolve().parent
root = here.parent
sys.path.insert(0, str(here / "peers"))

from measure import cpu_seconds, resident_mb

MARTLET = str(root / ".build" / "release" / "martlet")
LISTEN = "/ip4/127.0.0.1/tcp/0"
LISTEN_QUIC = "/ip4/127.0.0.1/udp/0/quic-v1"
DEADLINE = 300


class Failed(Exception):
    pass


class System:
    """How to start one side and the other. `serve` and `client` are arguments without the program."""

    def __init__(self, name, serve=(), client=(), pin=None):
        self.name, self.serve, self.client, self.pin = name, list(serve), list(client), pin

    def program(self):
        return [sys.executable, str(here / "peers" / f"on_{self.module}.py")]

    def placed(self, command, end):
        return ["taskset", "--cpu-list", self.pin[end], *command] if self.pin else command

    def start(self):
        """The server's process, its address and what there is to fetch."""
        process = spawn(self.placed(self.program() + ["serve", *self.serve], 0))
        first = json.loads(next_line(process, self.name))
        return process, first["address"], first.get("content", "")

    def arguments(self, mode, address, content):
        return [mode, address, *([content] if content else []), *self.client]

    def run(self, mode):
        """One fresh pair of processes; the client's figures, with the processor time of both ends."""
        server, address, content = self.start()
        try:
            before = cpu_seconds(server.pid)
            command = self.placed(self.program() + self.arguments(mode, address, content), 1)
            answer = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
            after = cpu_seconds(server.pid)
            if answer.returncode != 0:
                raise Failed(f"{self.name}: {answer.stderr.strip()[-300:]}")
            figures = json.loads(answer.stdout.strip().splitlines()[-1])
            figures["cpu_s"] = figures.get("cpu_s", 0) + after - before
            return figures
        finally:
            stop(server)


class Peer(System):
    def __init__(self, name, module, **more):
        super().__init__(name, **more)
        self.module = module


class Martlet(System):
    def __init__(self, name, listen=LISTEN, **more):
        super().__init__(name, **more)
        self.listen = listen

    def program(self):
        return [MARTLET, "bench"]

    def start(self):
        process = spawn(self.placed([MARTLET, "bench", "serve", "--listen", self.listen, *self.serve], 0))
        address = next_line(process, self.name).strip()
        content = next_line(process, self.name).strip() if "--share" in self.serve else ""
        return process, address, content

    def arguments(self, mode, address, content):
        more = [*self.client, "--json"]
        if mode == "fetch":
            more += ["-o", str(Path(scratch.name) / "fetched")]
            Path(scratch.name, "fetched").unlink(missing_ok=True)
        return super().arguments(mode, address, content) + more


def spawn(command):
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def next_line(process, name):
    line = process.stdout.readline()
    if not line:
        raise Failed(f"{name}: the server ended with status {process.wait()}")
    return line


def stop(process):
    process.stdin.close()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def interleaved(systems, mode, rounds):
    """{name: [figures of each round]}; a system that failed every time has an empty list."""
    results = {each.name: [] for each in systems}
    for number in range(rounds):
        for system in systems:
            try:
                results[system.name].append(system.run(mode))
            except (Failed, OSError, ValueError, subprocess.TimeoutExpired) as error:
                print(f"round {number + 1}, {error}", file=sys.stderr)
            time.sleep(0.3)
    return results


def median(values, key):
    return statistics.median(each[key] for each in values)


def spread(values, key, digits=0):
    numbers = [each[key] for each in values]
    return f"{median(values, key):,.{digits}f} ({min(numbers):,.{digits}f}–{max(numbers):,.{digits}f})"


def throughput_table(title, results):
    first = next(iter(results))
    own = median(results[first], "mb_per_s") if results[first] else None
    print(f"\n| {title} | MB/s | MB per CPU-second, both ends | {first} is faster by | runs |\n|---|---|---|---|---|")
    for name, values in results.items():
        if not values:
            print(f"| {name} | – | – | – | 0 |")
            continue
        efficiency = statistics.median(each["bytes"] / 1e6 / max(each["cpu_s"], 0.01) for each in values)
        ratio = f"{own / median(values, 'mb_per_s'):.2f} ×" if own else "–"
        print(f"| {name} | {spread(values, 'mb_per_s')} | {efficiency:,.0f} | {ratio} | {len(values)} |")


def latency_table(title, results, unit=1, digits=0):
    """`unit` 1,000 prints milliseconds."""
    first = next(iter(results))
    own = median(results[first], "p50_us") if results[first] else None
    name_of_unit = "ms" if unit == 1000 else "µs"
    print(f"\n| {title} | p50 {name_of_unit} | p99 {name_of_unit} | {first} is faster by | runs |\n|---|---|---|---|---|")
    for name, values in results.items():
        if not values:
            print(f"| {name} | – | – | – | 0 |")
            continue
        scaled = [{key: each[key] / unit for key in ("p50_us", "p99_us")} for each in values]
        ratio = f"{median(values, 'p50_us') / own:.2f} ×" if own else "–"
        p99 = f"{median(scaled, 'p99_us'):,.{digits}f}"
        print(f"| {name} | {spread(scaled, 'p50_us', digits)} | {p99} | {ratio} | {len(values)} |")


def with_bytes(figures, count):
    for values in figures.values():
        for each in values:
            each.setdefault("bytes", count)
    return figures


def bench_stream(options):
    count = ["--bytes", str(options.bytes)]
    systems = [
        Martlet("Martlet", client=count),
        Martlet("Martlet, libsodium only", client=[*count, "--cipher", "libsodium"], serve=["--cipher", "libsodium"]),
        Peer("go-libp2p (p2pd), Noise", "p2pd", client=count),
        Peer("Lattica, calls of 4 MiB", "lattica", client=count),
        Peer("Lattica, one stream call", "lattica", client=[*count, "--way", "one-stream"]),
        Peer("gRPC over TLS", "grpc", client=count),
        Peer("clear text (iperf3)", "tcp", client=count),
    ]
    title = f"one stream, {options.bytes / 1e6:,.0f} MB"
    throughput_table(title, with_bytes(interleaved(systems, "stream", options.rounds), options.bytes))


def bench_quic(options):
    count, over_quic = ["--bytes", str(options.bytes)], ["--quic"]
    systems = [
        Martlet("Martlet", LISTEN_QUIC, client=count),
        Martlet("Martlet, received", LISTEN_QUIC, client=[*count, "--download"]),
        Peer("iroh", "iroh", client=count),
        Peer("Lattica, calls of 4 MiB", "lattica", client=[*count, *over_quic], serve=over_quic),
        Peer("Lattica, one stream call", "lattica", client=[*count, *over_quic, "--way", "one-stream"], serve=over_quic),
        Peer("go-libp2p (p2pd)", "p2pd", client=[*count, *over_quic], serve=over_quic),
    ]
    title = f"one stream over QUIC, {options.bytes / 1e6:,.0f} MB"
    throughput_table(title, with_bytes(interleaved(systems, "stream", options.rounds), options.bytes))


def bench_fetch(options):
    shared = Path(scratch.name) / "shared"
    with open(shared, "wb") as file:
        for _ in range(options.bytes >> 20):
            file.write(os.urandom(1 << 20))
        # Or the kernel is still writing it while the first rounds run.
        os.fsync(file.fileno())
    # With 4,096 blocks Lattica falls to 12 MB/s, so it is asked for as many as it does best.
    best = min(options.bytes, 256 << 20)
    few = ["--bytes", str(best)]
    systems = [
        Martlet("Martlet", serve=["--share", str(shared)]),
        Peer(f"Lattica bitswap, 256 KiB × 16, only {best / 1e6:,.0f} MB", "lattica", serve=["--way", "blocks", *few]),
    ]
    title = f"fetch of {options.bytes / 1e6:,.0f} MB, verified"
    throughput_table(title, with_bytes(interleaved(systems, "fetch", options.rounds), options.bytes))


PLACES = {"anywhere": None, "one CPU for both": ("0", "0"), "a CPU each": ("0", "1")}


def bench_ping(options):
    count = ["--size", "128", "--count", str(options.count)]
    for place, pin in PLACES.items():
        systems = [
            Martlet("Martlet", client=count, pin=pin),
            Peer("Lattica, unary call", "lattica", client=count, pin=pin),
            Peer("go-libp2p (p2pd), one stream", "p2pd", client=count, pin=pin),
            Peer("gRPC over TLS, unary call", "grpc", client=count, pin=pin),
            Peer("iroh, one stream", "iroh", client=count, pin=pin),
        ]
        latency_table(f"128 bytes there and back, {place}", interleaved(systems, "ping", options.rounds))


def bench_dial(options):
    count = ["--count", "30"]
    systems = [
        Martlet("Martlet", client=count),
        Peer("Lattica", "lattica", client=count),
        Peer("go-libp2p (p2pd)", "p2pd", client=count),
        Peer("iroh", "iroh", client=count),
        Peer("gRPC over TLS", "grpc", client=count),
    ]
    latency_table("dial to first stream", interleaved(systems, "dial", options.rounds), unit=1000, digits=2)


def bench_memory(options):
    print("\n| memory, resident | idle, MB | with 100 idle connections, MB | more by |\n|---|---|---|---|")
    systems = [
        Martlet("Martlet (bench serve)"),
        Peer("Lattica (with CPython)", "lattica"),
        Peer("go-libp2p (p2pd alone)", "p2pd"),
    ]

    def resident(system, server):
        whole = resident_mb(server.pid)
        # The daemon is a child of the Python program that started it.
        return whole - resident_mb(server.pid, below=False) if "p2pd" in system.name else whole

    for system in systems:
        rows = []
        for _ in range(max(1, options.rounds // 2)):
            try:
                server, address, _ = system.start()
            except (Failed, OSError) as error:
                print(error, file=sys.stderr)
                continue
            time.sleep(1)
            idle = resident(system, server)
            crowd = spawn([sys.executable, str(here / "peers" / "crowd.py"), "crowd", address, "--count", "100"])
            try:
                next_line(crowd, "crowd")
                time.sleep(1)
                rows.append({"idle": idle, "full": resident(system, server)})
            finally:
                stop(crowd)
                stop(server)
        if rows:
            idle, full = median(rows, "idle"), median(rows, "full")
            print(f"| {system.name} | {idle:.1f} | {full:.1f} | {full - idle:.1f} |")


def bench_rpc(options):
    """What the Python of a peer's client costs is in its row; the processor time of both ends says how much work it was."""
    rows = [
        ("128 bytes, one call at a time", ["--size", "128", "--inflight", "1"]),
        ("128 bytes, 64 calls at a time", ["--size", "128", "--inflight", "64"]),
        ("256 KiB to an empty answer, 16 calls at a time", ["--size", "262144", "--reply", "0", "--inflight", "16"]),
    ]
    for title, way in rows:
        way += ["--seconds", "3"]
        systems = [
            Martlet("Martlet", client=way),
            Peer("Lattica", "lattica", client=way),
            Peer("gRPC, clear text", "grpc", client=way, serve=["--way", "clear"]),
            Peer("gRPC over TLS", "grpc", client=way),
        ]
        results = interleaved(systems, "rpc", options.rounds)
        own = median(results["Martlet"], "calls_per_s") if results["Martlet"] else None
        print(f"\n| {title} | calls/s | MB/s | p50 µs | p99 µs | CPU µs a call, both ends | Martlet does | runs |")
        print("|---|---|---|---|---|---|---|---|")
        for name, values in results.items():
            if not values:
                print(f"| {name} | – | – | – | – | – | – | 0 |")
                continue
            cost = statistics.median(each["cpu_s"] / each["calls"] * 1e6 for each in values)
            ratio = f"{own / median(values, 'calls_per_s'):.1f} ×" if own else "–"
            cells = [spread(values, "calls_per_s"), *(f"{median(values, key):,.0f}" for key in ("mb_per_s", "p50_us", "p99_us"))]
            print(f"| {name} | {' | '.join(cells)} | {cost:,.1f} | {ratio} | {len(values)} |")


def bench_beside(options):
    """What small calls wait for while large ones fill the same connection."""
    way = ["--size", "128", "--seconds", "4", "--beside-bulk", str(64 << 20)]
    systems = [
        Martlet("Martlet", client=[*way, "--priority", "control"]),
        Martlet("Martlet, small calls of no class", client=way),
        Peer("Lattica", "lattica", client=way),
        Peer("gRPC, clear text", "grpc", client=way, serve=["--way", "clear"]),
        Peer("gRPC over TLS", "grpc", client=way),
    ]
    results = interleaved(systems, "rpc", options.rounds)
    print("\n| 128 bytes beside two calls of 64 MiB | p50 ms | p99 ms | the two, MB/s | small calls | runs |")
    print("|---|---|---|---|---|---|")
    for name, values in results.items():
        if not values:
            print(f"| {name} | – | – | – | – | 0 |")
            continue
        scaled = [{"p50": each["p50_us"] / 1000, "p99": each["p99_us"] / 1000} for each in values]
        cells = [spread(scaled, "p50", 2), spread(scaled, "p99", 2), spread(values, "bulk_mb_per_s"), f"{median(values, 'calls'):,.0f}"]
        print(f"| {name} | {' | '.join(cells)} | {len(values)} |")


class Relay:
    """A process that relays, and its address.

    `share`, of one processor, is what it may have: a little of every 10 ms, so that it is the bound and not the ends."""

    def __init__(self, name, command, share=None):
        self.name, self.command, self.share = name, command, share

    def start(self):
        process = spawn(self.command(str(Path(scratch.name) / f"relay-{time.monotonic_ns()}")))
        if self.share:
            hold(process.pid, self.share)
        first = json.loads(next_line(process, self.name))
        return process, first.get("address") or first["addrs"][0]


def hold(pid, share):
    """Gives a process, and what it starts, a share of one processor, by a control group of either version."""
    period = 10_000
    old = Path("/sys/fs/cgroup/cpu")
    group = (old if old.is_dir() else old.parent) / f"martlet-bench-{os.getpid()}"
    if not group.is_dir():
        group.mkdir()
        atexit.register(group.rmdir)
    if old.is_dir():
        (group / "cpu.cfs_period_us").write_text(str(period))
        (group / "cpu.cfs_quota_us").write_text(str(int(share * period)))
    else:
        (group / "cpu.max").write_text(f"{int(share * period)} {period}")
    (group / "cgroup.procs").write_text(str(pid))


def martlet_relay(*limits, listen=LISTEN):
    # Beyond every limit of a relay's clients: they all come from this machine.
    return lambda folder: [MARTLET, "relay", "--listen", listen, "--data-dir", folder, "--json", *limits]


def p2pd_relay(listen):
    program = str(root / "Interop" / "natlab" / "peers" / "p2pd_relay.py")
    return lambda folder: [sys.executable, program, listen, f"-relayDataLimit={1 << 40}", "-relayTimeLimit=1h"]


class Behind(Martlet):
    """A server that is reached through a relay alone."""

    def __init__(self, name, socket, **more):
        super().__init__(name, f"/unix{socket}", **more)
        self.socket = socket

    def start(self):
        started = super().start()
        # Its own address, which clients learn once they are connected, leads nowhere from now on: calls would go over to it.
        self.socket.unlink()
        return started


class Through(Martlet):
    """Pairs of Martlet nodes, each pair with no other way than through a relay."""

    # What the error says when the relay has cut a connection off.
    cut_off = ("at its limit",)

    def __init__(self, name, relay, pairs=1, **more):
        super().__init__(name, **more)
        self.relay, self.pairs = relay, pairs

    def run(self, mode):
        for _ in range(30):
            try:
                return self.run_once(mode)
            except Failed as error:
                # Given limits of its own, p2pd often runs with the usual ones all the same: it starts two relays, and the one
                # that is ready last serves.
                if not any(each in str(error) for each in self.cut_off):
                    raise
        raise Failed(f"{self.name}: the relay's limits are not lifted")

    def pair(self, number, address):
        socket = Path(scratch.name) / f"end-{time.monotonic_ns()}-{number}"
        return Behind(self.name, socket, serve=["--relay", address], client=self.client)

    def run_once(self, mode):
        process, address = self.relay.start()
        try:
            before = cpu_seconds(process.pid)
            pairs = [self.pair(number, address) for number in range(self.pairs)]
            with ThreadPoolExecutor(self.pairs) as pool:
                figures = list(pool.map(lambda pair: pair.run(mode), pairs))
            together = figures[0]
            if self.pairs > 1:
                seconds = max(each["seconds"] for each in figures)
                together["bytes"] = sum(each["bytes"] for each in figures)
                together["mb_per_s"] = together["bytes"] / 1e6 / seconds
                together["cpu_s"] = sum(each["cpu_s"] for each in figures)
            together["relay_cpu_s"] = cpu_seconds(process.pid) - before
            return together
        finally:
            stop(process)


class ThroughWithP2pd(Through):
    """Pairs of p2pd's daemons instead. They do not say why a stream has ended."""

    # A daemon that asks the relay before it serves does not ask again for long.
    cut_off = ("EOFError", "ConnectionResetError", "BrokenPipeError", "the server ended")

    def pair(self, number, address):
        return Peer(self.name, "p2pd", serve=["--relay", address], client=self.client)


def internet_address():
    """An address that looks like one of the internet, on the loopback interface; for namespaces that have no other."""
    if [name for _, name in socket.if_nameindex()] != ["lo"]:
        raise SystemExit("relay: only in a network namespace of its own, as run.sh makes it")
    address = "9.9.9.1"
    subprocess.run(["ip", "address", "replace", f"{address}/32", "dev", "lo"], check=True)
    return address


def bench_relay(options):
    """What a relay carries: the same Martlet ends for each, and go-libp2p at all three places as its users have it."""
    for transport, listen in (("TCP", LISTEN), ("QUIC", LISTEN_QUIC)):
        bench_relay_over(transport, listen, options)


def bench_relay_over(transport, listen, options):
    relays = [
        Relay("Martlet", martlet_relay("--unlimited", listen=listen), options.relay_share),
        Relay("go-libp2p (p2pd)", p2pd_relay(listen), options.relay_share),
        Relay("Martlet, one loop", martlet_relay("--unlimited", "--loops", "1", listen=listen), options.relay_share),
    ]
    # p2pd reserves only at addresses of the internet.
    outside = listen.replace("127.0.0.1", internet_address())
    whole = Relay("go-libp2p (p2pd), its ends too", p2pd_relay(outside), options.relay_share)

    def figures(mode, count, pairs=1):
        systems = [Through(each.name, each, pairs, client=count) for each in relays]
        # The daemon has no calls.
        if mode != "rpc":
            systems.append(ThroughWithP2pd(whole.name, whole, pairs, client=count))
        return interleaved(systems, mode, options.rounds)

    for pairs in (1, 4):
        results = with_bytes(figures("stream", ["--bytes", str(options.bytes // pairs)], pairs), options.bytes)
        streams = "one stream" if pairs == 1 else f"{pairs} streams of as many pairs"
        throughput_table(f"{streams} through a relay by {transport}, {options.bytes / 1e6:,.0f} MB", results)
        print("\n| processor time of the relay | MB per CPU-second |\n|---|---|")
        for name, values in results.items():
            if values:
                rate = statistics.median(each["bytes"] / 1e6 / max(each["relay_cpu_s"], 0.01) for each in values)
                print(f"| {name} | {rate:,.0f} |")
        sys.stdout.flush()
    ping = ["--size", "128", "--count", str(options.count)]
    latency_table(f"128 bytes there and back through a relay by {transport}", figures("ping", ping))
    small = ["--size", "128", "--inflight", "64", "--seconds", "3"]
    print(f"\n| 128 bytes, 64 calls at a time, through a relay by {transport} | calls/s | CPU µs a call, the relay | runs |")
    print("|---|---|---|---|")
    for name, values in figures("rpc", small).items():
        if values:
            cost = statistics.median(each["relay_cpu_s"] / each["calls"] * 1e6 for each in values)
            print(f"| {name} | {spread(values, 'calls_per_s')} | {cost:,.1f} | {len(values)} |")


def bench_reservations(options):
    """The memory of a relay whose clients all hold a reservation and do nothing else."""
    many = 10_000
    limits = ["--max-reservations", str(many), "--max-reservations-per-range", str(many)]
    print(f"\n| {many:,} reservations | idle, MB | held, MB | kB each | made in s | CPU-seconds in 10 s at rest |")
    print("|---|---|---|---|---|---|")
    rows = []
    for _ in range(max(1, options.rounds // 2)):
        relay = Relay("Martlet", martlet_relay(*limits))
        process, address = relay.start()
        crowd = None
        try:
            time.sleep(1)
            idle = resident_mb(process.pid)
            crowd = spawn([MARTLET, "bench", "reserve", address, "--count", str(many), "--json"])
            held = json.loads(next_line(crowd, "bench reserve"))
            if held["reservations"] != many:
                raise Failed(f"only {held}")
            time.sleep(2)
            full, before = resident_mb(process.pid), cpu_seconds(process.pid)
            time.sleep(10)
            rest = cpu_seconds(process.pid) - before
            rows.append({"idle": idle, "full": full, "seconds": held["seconds"], "rest": rest})
        except Failed as error:
            print(error, file=sys.stderr)
        finally:
            if crowd:
                crowd.terminate()
                crowd.wait(30)
            stop(process)
    if rows:
        idle, full = median(rows, "idle"), median(rows, "full")
        each = (full - idle) * 1000 / many
        print(
            f"| Martlet | {idle:.1f} | {full:.1f} | {each:.1f} | {median(rows, 'seconds'):.1f} | {median(rows, 'rest'):.1f} |"
        )


def counted(serve, client, mode):
    """What one run allocates, (calls, bytes) of the server and of the client, and what the client printed."""
    files = [Path(scratch.name) / "server.count", Path(scratch.name) / "client.count"]
    variables = [{**os.environ, "LD_PRELOAD": counter(), "MALLOC_COUNT_FILE": str(file)} for file in files]
    command = [MARTLET, "bench", "serve", "--listen", LISTEN, *serve]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables[0])
    address = next_line(server, "Martlet").strip()
    command = [MARTLET, "bench", mode, address, *client, "--json"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE, env=variables[1])
    server.terminate()
    server.wait(10)
    counts = [tuple(int(number) for number in file.read_text().split()) for file in files]
    return counts, json.loads(answer.stdout.strip().splitlines()[-1])


def counter():
    """The library that counts, compiled."""
    library = Path(scratch.name) / "count.so"
    if not library.exists():
        source = here / "allocations" / "count.c"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return str(library)


def bench_allocations(options):
    """Allocations of a message: the slope between a short run and a long one, so that what the start costs falls out."""
    print("\n| allocations | server, calls | bytes | client, calls | bytes |\n|---|---|---|---|---|")
    small = ["--size", "128", "--inflight"]
    large = ["--size", "262144", "--reply", "0", "--inflight", "16"]
    rows = [
        ("128 bytes there and back", "ping", "--count", 2_000, 22_000, ["--size", "128"], "count", 1),
        ("16 KiB there and back", "ping", "--count", 2_000, 12_000, ["--size", "16384"], "count", 1),
        ("one stream, a MiB", "stream", "--bytes", 64 << 20, 576 << 20, [], "bytes", 1 << 20),
        ("a call of 128 bytes, one at a time", "rpc", "--seconds", 1, 3, [*small, "1"], "calls", 1),
        ("a call of 128 bytes, 64 at a time", "rpc", "--seconds", 1, 3, [*small, "64"], "calls", 1),
        ("a call of 256 KiB", "rpc", "--seconds", 1, 3, large, "calls", 1),
    ]
    for title, mode, flag, few, many, more, field, unit in rows:
        (short, before), (long, after) = (counted([], [flag, str(count), *more], mode) for count in (few, many))
        done = (after[field] - before[field]) / unit
        slopes = [(last - first) / done for ends in zip(short, long) for first, last in zip(*ends)]
        print("| " + " | ".join([title, *(f"{slope:,.2f}" for slope in slopes)]) + " |")


BENCHES = {
    "stream": bench_stream,
    "quic": bench_quic,
    "fetch": bench_fetch,
    "ping": bench_ping,
    "dial": bench_dial,
    "rpc": bench_rpc,
    "beside": bench_beside,
    "memory": bench_memory,
    "relay": bench_relay,
    "reservations": bench_reservations,
    "allocations": bench_allocations,
}


def machine():
    model = next((line for line in open("/proc/cpuinfo") if line.startswith("model name")), ": unknown")
    return f"{os.cpu_count()} CPUs ({model.split(':', 1)[1].strip()}), Linux {os.uname().release}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("benches", nargs="*", default=list(BENCHES), help=", ".join(BENCHES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bytes", type=int, default=1 << 30)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--relay-share", type=float, help="of one processor, that `relay` holds relays to (root; control groups)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="martlet-bench-") as folder:
        scratch = argparse.Namespace(name=folder)
        print(f"Medians of {chosen.rounds} interleaved rounds (least–most); {machine()}; loopback; MB = 10^6 bytes.")
        for bench in chosen.benches:
            BENCHES[bench](chosen)
            sys.stdout.flush()
