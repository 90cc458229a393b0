"""Lattica (rust-libp2p) as a peer of the interop tests (see ../README.md).

It serves no protocols but its own, so echo and half-close are its unary RPC (one stream a call: write, finish, read the
answer) and what only named protocols could show is reported as unsupported.
"""

import os
import socket
import sys
import tempfile
import time

# Lattica logs to standard output, which here belongs to the JSON lines.
verdicts = os.dup(1)
os.dup2(2, 1)
os.environ.setdefault("RUST_LOG", "off")

from lattica import Lattica

import common
from common import Unsupported

sys.stdout = os.fdopen(verdicts, "w")

OWN_PROTOCOLS_ONLY = "Lattica opens and serves its own protocols only"


class Interop:
    """The service: its name on the wire is the class's. Bytes go through as they are, without Lattica's pickling."""

    def get_service_name(self):
        return "Interop"

    def get_methods(self):
        return ["echo", "digest"]

    def get_stream_methods(self):
        return ["echo_stream"]

    def get_stream_iter_methods(self):
        return []

    def _handle_echo(self, data):
        return bytes(data)

    def _handle_digest(self, data):
        return common.digest(bytes(data))

    def _handle_stream_echo_stream(self, data):
        return bytes(data)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(folder, network, listen, bootstraps=()):
    # The port that the system chose would not be told, so it is chosen here.
    listen = listen.replace("/tcp/0", f"/tcp/{free_port()}")
    builder = Lattica.builder().with_listen_addrs([listen]).with_protocol(network).with_key_path(f"{folder}/key")
    builder = builder.with_mdns(False).with_upnp(False).with_autonat(False).with_dcutr(False)
    if bootstraps:
        builder = builder.with_bootstraps(list(bootstraps))
    return builder.build(), listen


def identify_fields(node, peer):
    info = node.get_peer_info(peer)
    if info is None or not info.protocols:
        raise LookupError(f"nothing is known of {peer}")
    return {
        "protocol_version": info.protocol_version,
        "agent_version": info.agent_version,
        "protocols": sorted(info.protocols),
        "listen_addrs": list(info.listen_addresses),
    }


def eventually(attempt, seconds=10):
    """Lattica tells nothing of its own accord: ask again until it knows."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class Dialer:
    def __init__(self, node, options):
        self.node, self.options = node, options
        self.peer = common.peer_of(options.address)
        # A peer is listed once its identify has passed Lattica's gate on the network's name.
        eventually(self.require_peer)
        self.client = node.get_client(self.peer)

    def require_peer(self):
        if self.peer not in self.node.get_all_peers():
            raise ConnectionError(f"not connected to {self.peer}, or its identify was refused")

    def call(self, method, data):
        return self.client.call(f"Interop.{method}", data)

    def handshake(self):
        # Still there a second later: the gate would have closed the connection.
        time.sleep(1)
        self.require_peer()
        return {}

    def identify(self):
        return eventually(lambda: identify_fields(self.node, self.peer))

    def ping(self):
        def measured():
            seconds = self.node.get_peer_rtt(self.peer)
            if not seconds:
                raise LookupError("no ping was answered")
            return {"rtt_us": common.microseconds(seconds)}

        return eventually(measured)

    def echo(self):
        data = common.pattern(self.options.bytes)
        if bytes(self.call("echo", data).result(timeout=60)) != data:
            raise ValueError("other bytes came back")
        return {"bytes": len(data)}

    def half_close(self):
        data = common.pattern(self.options.bytes)
        answer = bytes(self.call("digest", data).result(timeout=60))
        return {"bytes": len(data), "ok": answer == common.digest(data)}

    def echo_stream(self):
        data = common.pattern(self.options.bytes)
        answer = self.client.call_stream("Interop.echo_stream", data).result(timeout=60)
        return {"bytes": len(data), "ok": bytes(answer) == data}

    def streams(self):
        data = common.pattern(1024)
        calls = [self.call("echo", data) for _ in range(self.options.count)]
        wrong = sum(bytes(each.result(timeout=60)) != data for each in calls)
        return {"streams": len(calls), "ok": wrong == 0}

    def wait(self):
        common.say(event="connected", peer=self.node.peer_id())
        sys.stdin.read()
        return {}

    def unsupported(self):
        raise Unsupported(OWN_PROTOCOLS_ONLY)

    reset_by_listener = reset_by_dialer = refused = unsupported


def main():
    options = common.arguments("Lattica (rust-libp2p)")
    with tempfile.TemporaryDirectory() as folder:
        if options.mode == "listen":
            node, listen = start(folder, options.network, options.listen)
            node.register_service(Interop())
            common.say(event="ready", peer=node.peer_id(), addrs=[f"{listen}/p2p/{node.peer_id()}"])
            for line in sys.stdin:
                command, peer = line.split()
                if command == "identify":
                    common.report("identify", lambda: eventually(lambda: identify_fields(node, peer)))
            status = 0
        else:

            def run():
                nonlocal node
                node, _ = start(folder, options.network, "/ip4/127.0.0.1/tcp/0", [options.address])
                return getattr(Dialer(node, options), options.scenario.replace("-", "_"))()

            node = None
            status = common.report(options.scenario, run)
    sys.stdout.flush()
    os._exit(status)  # its threads do not always end


if __name__ == "__main__":
    main()
