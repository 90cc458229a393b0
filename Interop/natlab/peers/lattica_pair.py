"""One of two Lattica nodes behind NATs: reserves at a relay and waits, or reaches the other through the relay.

    lattica_pair.py listen RELAY…              prints {"event": "ready", "peer": …}, then serves until standard input ends
    lattica_pair.py dial TARGET RELAY… [--seconds N]

The dialer prints one object a change: {"path": "relayed" or "direct", "transport": …}, as Lattica's log tells of connections, and
at the end {"path", "answered": whether a call returned, "error": what it said}. Lattica refuses calls over a relay."""

import argparse
import os
import re
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "peers"))

import common

# Lattica logs to standard output, which here belongs to the JSON lines; what connections there are only its log tells.
verdicts = os.dup(1)
log_end, log_start = os.pipe()
os.dup2(log_start, 1)
os.environ["RUST_LOG"] = os.environ.get("LATTICA_LOG", "info,libp2p_swarm=debug,libp2p_dcutr=debug,libp2p_relay=debug")

from lattica import Lattica

sys.stdout = os.fdopen(verdicts, "w")


class Service:
    def get_service_name(self):
        return "Service"

    def get_methods(self):
        return ["echo"]

    def get_stream_methods(self):
        return []

    def get_stream_iter_methods(self):
        return []

    def _handle_echo(self, data):
        return bytes(data)


def start(folder, listen, relays, bootstraps=()):
    builder = Lattica.builder().with_listen_addrs(listen).with_key_path(f"{folder}/key").with_relay_servers(relays)
    builder = builder.with_mdns(False).with_upnp(False).with_autonat(False).with_dcutr(True)
    if bootstraps:
        builder = builder.with_bootstraps(list(bootstraps))
    node = builder.build()
    node.register_service(Service())
    return node


def follow_log(seen):
    """Gives each line of the log to `seen`, and to standard error."""

    def follow():
        with os.fdopen(log_end, errors="replace") as log:
            for line in log:
                line = re.sub(r"\x1b\[[0-9;]*m", "", line)
                sys.stderr.write(line)
                seen(line)

    threading.Thread(target=follow, daemon=True).start()


def listen(options, folder):
    reserved = threading.Event()
    follow_log(lambda line: "Listening on: " in line and "/p2p-circuit" in line and reserved.set())
    node = start(folder, options.listen, options.relays)
    if not reserved.wait(options.seconds):
        common.say(event="failed", error="no reservation")
        return 1
    common.say(event="ready", peer=node.peer_id())
    sys.stdin.read()
    return 0


def dial(options, folder):
    began, paths, is_direct = time.monotonic(), [], threading.Event()

    def seen(line):
        if "stablished" not in line or options.target not in line:
            return
        path = "relayed" if "p2p-circuit" in line else "direct"
        if path not in paths:
            paths.append(path)
            transport = "quic" if "/quic" in line else "tcp"
            common.say(path=path, transport=transport, ms=round((time.monotonic() - began) * 1000))
        if path == "direct":
            is_direct.set()

    follow_log(seen)
    node = start(folder, options.listen, options.relays, [f"{options.relays[0]}/p2p-circuit/p2p/{options.target}"])
    is_direct.wait(options.seconds)
    error = None
    try:
        answered = bytes(node.get_client(options.target).call("Service.echo", b"there and back").result(timeout=10)) == b"there and back"
    except Exception as failure:
        answered, error = False, str(failure)
    common.say(path="direct" if is_direct.is_set() else paths[-1] if paths else None, answered=answered, error=error)
    return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["listen", "dial"])
    parser.add_argument("relays", nargs="+")
    parser.add_argument("--target")
    parser.add_argument("--listen", nargs="+", default=["/ip4/0.0.0.0/udp/4001/quic-v1", "/ip4/0.0.0.0/tcp/4001"])
    parser.add_argument("--seconds", type=float, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        status = {"listen": listen, "dial": dial}[options.mode](options, folder)
    sys.stdout.flush()
    os._exit(status)  # its threads do not always end


if __name__ == "__main__":
    main()
