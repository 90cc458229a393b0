"""go-libp2p's p2pd: one process per end plus this small client on its Unix socket, as every user of the daemon has it."""

import sys
import time

from measure import Stopwatch, arguments, serve_until_told

from common import peer_of
from p2pd_control import Daemon, receive_exactly

SINK, ECHO = "/bench/sink/1.0.0", "/bench/echo/1.0.0"
NOISE_ONLY = ["-tls=false"]
PIECE = bytes(1 << 20)
# Limits that a relay names do not matter to the daemon's streams, but it has to be told that it may use relays.
RELAYED = [*NOISE_ONLY, "-relay=true", "-relayService=false", "-forceReachabilityPrivate"]


def sink(stream, peer):
    """Eight bytes say how many follow; one comes back when all are here."""
    left, room = int.from_bytes(receive_exactly(stream, 8), "big"), bytearray(1 << 20)
    while left:
        left -= stream.recv_into(room, min(left, len(room)))
    stream.sendall(b"k")
    stream.recv(1)  # over QUIC closing first would lose the answer (Interop/README.md)


def echo(stream, peer):
    while data := stream.recv(1 << 16):
        stream.sendall(data)


def behind(relay):
    """A daemon that holds a reservation and listens nowhere, so that there is no other way to it, and its address."""
    client = ["-dhtClient", "-b", "-bootstrapPeers", relay, "-autoRelay", "-trustedRelays", relay, "-relayDiscovery=false"]
    daemon = Daemon(options=[*RELAYED, *client])
    deadline = time.monotonic() + 30
    while not any("/p2p-circuit" in each for each in daemon.current_addresses()):
        if time.monotonic() > deadline:
            daemon.close()
            sys.exit("no reservation at the relay")
        time.sleep(0.05)
    assert all("/p2p-circuit" in each for each in daemon.current_addresses())
    return daemon, f"{relay}/p2p-circuit/p2p/{daemon.peer}"


options = arguments()
if options.mode == "serve" and options.relay:
    daemon, address = behind(options.relay)
    with daemon:
        daemon.handle(SINK, sink)
        daemon.handle(ECHO, echo)
        serve_until_told(address)
elif options.mode == "serve":
    with Daemon(f"/ip4/{options.host}/" + ("udp/0/quic-v1" if options.quic else "tcp/0"), NOISE_ONLY) as daemon:
        daemon.handle(SINK, sink)
        daemon.handle(ECHO, echo)
        serve_until_told(f"{daemon.addresses[0]}/p2p/{daemon.peer}")
else:
    with Daemon(options=RELAYED if "/p2p-circuit" in options.address else NOISE_ONLY) as daemon:
        peer = peer_of(options.address)
        if options.mode != "dial":
            daemon.connect(options.address)
        if options.mode == "stream":
            stream = daemon.open_stream(peer, SINK)
            stream.sendall(options.bytes.to_bytes(8, "big"))
            watch = Stopwatch()
            for at in range(0, options.bytes, len(PIECE)):
                stream.sendall(memoryview(PIECE)[: options.bytes - at])
            receive_exactly(stream, 1)
            watch.throughput(options.bytes)
        elif options.mode == "ping":
            stream, payload, times = daemon.open_stream(peer, ECHO), bytes(options.size), []
            watch = Stopwatch()
            for _ in range(options.count):
                began = time.perf_counter()
                stream.sendall(payload)
                receive_exactly(stream, options.size)
                times.append(time.perf_counter() - began)
            watch.latencies(times[options.count // 10 :])
        elif options.mode == "dial":
            times, watch = [], Stopwatch()
            for _ in range(options.count):
                began = time.perf_counter()
                daemon.connect(options.address)
                with daemon.open_stream(peer, ECHO) as stream:
                    stream.sendall(b"?")
                    receive_exactly(stream, 1)
                times.append(time.perf_counter() - began)
                daemon.disconnect(peer)
                time.sleep(0.02)
            watch.latencies(times)
