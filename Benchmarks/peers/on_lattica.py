"""Lattica's core without its Python conveniences (bytes in, bytes out, no pickle)."""

import os
import socket
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

verdicts = os.dup(1)
os.dup2(2, 1)  # it logs to standard output
os.environ.setdefault("RUST_LOG", "off")

from lattica import Lattica

from measure import Stopwatch, arguments, calls, say, serve_until_told

sys.stdout = os.fdopen(verdicts, "w")

BLOCK = 256 * 1024


class Bench:
    def get_service_name(self):
        return "Bench"

    def get_methods(self):
        return ["echo", "sink"]

    def get_stream_methods(self):
        return ["sink_stream"]

    def get_stream_iter_methods(self):
        return []

    def _handle_echo(self, data):
        return data

    def _handle_sink(self, data):
        return b"k"

    def _handle_stream_sink_stream(self, data):
        return b"k"


def free_port():
    with socket.socket(type=socket.SOCK_DGRAM if options.quic else socket.SOCK_STREAM) as probe:
        probe.bind((options.host, 0))
        return probe.getsockname()[1]


def node(bootstraps=()):
    folder = tempfile.mkdtemp(prefix="lattica-")
    place = f"/ip4/{options.host}/" + (f"udp/{free_port()}/quic-v1" if options.quic else f"tcp/{free_port()}")
    builder = Lattica.builder().with_listen_addrs([place]).with_key_path(f"{folder}/key")
    builder = builder.with_mdns(False).with_upnp(False).with_autonat(False).with_dcutr(False)
    if bootstraps:
        builder = builder.with_bootstraps(list(bootstraps))
    return builder.build(), place


def connected(address):
    peer = address.rsplit("/", 1)[1]
    client, _ = node([address])
    while peer not in client.get_all_peers():
        time.sleep(0.01)
    return client, client.get_client(peer)


def stream(options):
    client, rpc = connected(options.address)
    if options.way == "one-stream":
        data = bytes(options.bytes)
        watch = Stopwatch()
        rpc.call_stream("Bench.sink_stream", data).result(timeout=120)
    else:
        data = bytes(4 << 20)
        watch = Stopwatch()
        for _ in range(options.bytes // len(data)):
            rpc.call("Bench.sink", data).result(timeout=60)
    watch.throughput(options.bytes)


def ping(options):
    client, rpc = connected(options.address)
    data, times, watch = bytes(options.size), [], Stopwatch()
    for _ in range(options.count):
        began = time.perf_counter()
        rpc.call("Bench.echo", data).result(timeout=10)
        times.append(time.perf_counter() - began)
    watch.latencies(times[options.count // 10 :])


def rpc(options):
    client, rpc = connected(options.address)
    data = bytes(options.size)
    method = "Bench.echo" if options.reply is None else "Bench.sink"
    calls(options, lambda: rpc.call(method, data), lambda data: rpc.call("Bench.sink", data))


def dial(options):
    """A connection and one answered call on it. There is no way to disconnect, so each dial is a new node's: its own start is
    left out of the time (a node that has nowhere to dial starts as fast as this one)."""
    peer, times, watch = options.address.rsplit("/", 1)[1], [], Stopwatch()
    for _ in range(options.count):
        idle_began = time.perf_counter()
        idler, _ = node()
        idle = time.perf_counter() - idle_began
        idler.close()
        began = time.perf_counter()
        client, _ = node([options.address])
        # A call before the peer is known fails and is tried again only 100 ms later, so ask first.
        while peer not in client.get_all_peers():
            time.sleep(0.0002)
        client.get_client(peer).call("Bench.echo", b"?").result(timeout=5)
        times.append(time.perf_counter() - began - idle)
        client.close()
    watch.latencies(times)


def fetch(options):
    """Blocks of 256 KiB over bitswap, 16 at a time."""
    client, _ = connected(options.address)
    names = open(options.content).read().split()
    watch = Stopwatch()
    with ThreadPoolExecutor(16) as pool:
        count = sum(pool.map(lambda name: len(client.get_block(name, timeout_secs=60)[1]), names))
    watch.throughput(count)


def serve(options):
    server, place = node()
    server.register_service(Bench())
    more = {}
    if options.way == "blocks":
        listing = tempfile.NamedTemporaryFile("w", prefix="lattica-", suffix=".cids", delete=False)
        for number in range(options.bytes // BLOCK):
            listing.write(server.put_block(number.to_bytes(8, "big") + os.urandom(BLOCK - 8)) + "\n")
        listing.close()
        more["content"] = listing.name
    serve_until_told(f"{place}/p2p/{server.peer_id()}", **more)


options = arguments()
{"serve": serve, "stream": stream, "ping": ping, "dial": dial, "fetch": fetch, "rpc": rpc}[options.mode](options)
os._exit(0)  # its threads do not always end
