"""Martlet behind routers that map ports: by each protocol alone, the node becomes reachable and tidies up after itself."""

import json
import signal
import time

import pytest

from lab import upnp
from lab.systems.martlet import BINARY, Martlet

pytestmark = [
    pytest.mark.skipif(not upnp.is_installed(), reason="there is no miniupnpd: Scripts/setup.sh --natlab"),
    pytest.mark.skipif(Martlet.missing() is not None, reason=f"there is no {BINARY}"),
]

TRANSPORTS = ("udp", "tcp")


def eventually(found, seconds=15):
    deadline = time.monotonic() + seconds
    while not found() and time.monotonic() < deadline:
        time.sleep(0.1)
    return found()


@pytest.mark.parametrize("option,method", [("upnp-only", "upnp"), ("natpmp-only", "nat-pmp"), ("pcp-only", "pcp"), ("upnp", "pcp")])
def test_node_is_reached_by_strangers_at_its_mapped_ports(lab, option, method):
    site = lab.site("site", f"port-restricted+{option}")
    with Martlet(lab, TRANSPORTS) as system:
        node = system.program(site.host, system.command("node", "node", *system.options("--listen", system.listen_addresses())), "node")
        peer = node.wait_for("ready", 20)["peer"]
        assert eventually(lambda: len(site.port_mapping.mappings()) == 2), node.said()[-2000:]
        # A gateway may answer before the node says that it is ready.
        while len(mapped := [said for said in node.heard if said.get("event") == "port_mapped"]) < len(TRANSPORTS):
            node.wait_for("port_mapped", 10)
        assert {said["method"] for said in mapped} == {method}
        assert {said["address"] for said in mapped} == {f"/ip4/{site.wan}/tcp/4001", f"/ip4/{site.wan}/udp/4001/quic-v1"}
        for said in mapped:
            answer = lab.observer.run(BINARY, "ping", f"{said['address']}/p2p/{peer}", "--count", "1", "--json", check=True).stdout
            assert json.loads(answer.splitlines()[-1])["path"] == "direct"
        node.signal(signal.SIGTERM)
        assert eventually(lambda: site.port_mapping.mappings() == [])
        # A second signal would end it at once.
        assert eventually(lambda: not node.is_running())
        assert node.end() == 0


@pytest.mark.parametrize("option", ["natpmp-only", "pcp-only", "upnp"])
def test_a_router_that_restarts_is_asked_again_at_once(lab, option):
    site = lab.site("site", f"port-restricted+{option}")
    with Martlet(lab, TRANSPORTS) as system:
        node = system.program(site.host, system.command("node", "node", *system.options("--listen", system.listen_addresses())), "node")
        node.wait_for("ready", 20)
        assert eventually(lambda: len(site.port_mapping.mappings()) == 2), node.said()[-2000:]
        # Long enough that an age of nothing is news.
        time.sleep(3)
        site.port_mapping.lose_state()
        assert eventually(lambda: len(site.port_mapping.mappings()) == 2, 10), node.said()[-2000:]
        system.forget_logs()


def start(lab, system, site):
    """A node at a site, once it is ready, and where it is to be reached by IPv6."""
    node = system.program(site.host, system.command("node", "node", *system.options("--listen", system.listen_behind(site))), "node")
    peer = node.wait_for("ready", 20)["peer"]
    address = site.addresses6[0]
    return node, [f"{each}/p2p/{peer}" for each in (f"/ip6/{address}/udp/4001/quic-v1", f"/ip6/{address}/tcp/4001")]


def is_reached(lab, address):
    """Whether a public host that the node never heard of connects to it there, and directly."""
    asked = lab.observer.run(BINARY, "ping", address, "--count", "1", "--json")
    return asked.returncode == 0 and json.loads(asked.stdout.splitlines()[-1])["path"] == "direct"


def test_without_pinholes_nobody_gets_in_by_ipv6(lab):
    site = lab.site("site", "port-restricted+v6")
    with Martlet(lab, TRANSPORTS) as system:
        _, addresses = start(lab, system, site)
        assert not any(is_reached(lab, address) for address in addresses)
        system.forget_logs()


@pytest.mark.parametrize("option,method", [("upnp-only", "upnp"), ("pcp-only", "pcp"), ("upnp", "pcp")])
def test_strangers_get_in_by_ipv6_through_pinholes(lab, option, method):
    site = lab.site("site", f"port-restricted+v6+{option}")
    with Martlet(lab, TRANSPORTS) as system:
        node, addresses = start(lab, system, site)
        assert eventually(lambda: len(site.port_mapping.pinholes()) == 2), node.said()[-2000:]
        told = lambda: [said for said in node.heard if said.get("event") == "port_mapped" and "/ip6/" in said["address"]]
        while len(told()) < len(TRANSPORTS):
            node.wait_for("port_mapped", 10)
        assert {said["method"] for said in told()} == {method}
        assert {said["address"] for said in told()} == {address.rpartition("/p2p/")[0] for address in addresses}
        assert all(is_reached(lab, address) for address in addresses)
        node.signal(signal.SIGTERM)
        assert eventually(lambda: site.port_mapping.pinholes() == [])
        assert eventually(lambda: not node.is_running())
        assert node.end() == 0
        system.forget_logs()


def test_a_router_that_restarts_opens_pinholes_again(lab):
    site = lab.site("site", "port-restricted+v6+pcp-only")
    with Martlet(lab, TRANSPORTS) as system:
        node, addresses = start(lab, system, site)
        assert eventually(lambda: len(site.port_mapping.pinholes()) == 2), node.said()[-2000:]
        time.sleep(3)
        site.port_mapping.lose_state()
        assert eventually(lambda: len(site.port_mapping.pinholes()) == 2, 10), node.said()[-2000:]
        assert is_reached(lab, addresses[0])
        system.forget_logs()
