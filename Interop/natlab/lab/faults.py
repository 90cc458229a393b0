"""What two Martlet nodes notice when the network between them falls silent, or when a NAT forgets what it had mapped."""

import json
import time

from .moves import INTEROP_NODE
from .systems.martlet import Martlet
from .systems.system import Failed
from .topology import Lab


def _start(lab, martlet, *options):
    """A node at a public site, and its address."""
    site = lab.site("target", "none")
    listen = martlet.listen_addresses(site.wan)[0]
    ready = martlet.program(site.host, [INTEROP_NODE, "listen", "--listen", listen, *options], "target").wait_for("ready", 20)
    return site, ready["addrs"][0]


def silence(transport, calls=100):
    """Seconds from when the network begins to lose everything between two nodes until each thing that waited ended, and how."""
    with Lab() as lab, Martlet(lab, (transport,)) as martlet:
        target, address = _start(lab, martlet)
        dialer = lab.site("dialer", "none")
        dialing = martlet.program(
            dialer.host, [INTEROP_NODE, "dial", address, "--scenario", "silence", "--count", calls], "silence")
        dialing.wait_for("waiting", 20)
        time.sleep(2)  # calls under way, and a keep-alive or two
        lab.cut(target.wan)
        began = time.monotonic()
        report = {}
        while line := dialing.next(began + 90):
            if name := line[1].get("event"):
                report[name] = {"after_s": round(line[0] - began, 2)} | {
                    key: value for key, value in line[1].items() if key != "event"}
        if "calls-ended" not in report:
            raise Failed(f"calls did not end within 90 s: {report}; {dialing.said()[-300:]}")
        martlet.forget_logs()
        return report


def rebinding(byte_count=256 << 20):
    """An echo over one QUIC stream whose dialer's address changes while it is under way: no other connection could carry it on."""
    with Lab() as lab, Martlet(lab, ("udp",)) as martlet:
        _, address = _start(lab, martlet)
        dialer = lab.site("dialer", "port-restricted")
        dialing = martlet.program(
            dialer.host, [INTEROP_NODE, "dial", address, "--scenario", "echo", "--bytes", byte_count], "echo")
        before = dialer.wan
        changed_at = _sent_bytes(dialer, byte_count // 8)
        dialer.change_address()
        verdict = dialing.verdict(120, "the echo")
        martlet.forget_logs()
        return {"addresses": [before, dialer.wan], "changed_after_bytes": changed_at, "echoed": verdict["bytes"],
                "sent_after": _sent_bytes(dialer, 0) - changed_at}


def _sent_bytes(site, least):
    """What the router has sent, once that is at least so much."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        link = json.loads(site.router.run("ip", "-json", "-statistics", "link", "show", "dev", "wan", check=True).stdout)[0]
        if link["stats64"]["tx"]["bytes"] >= least:
            return link["stats64"]["tx"]["bytes"]
        time.sleep(0.05)
    raise Failed(f"fewer than {least} bytes sent in 60 s")
