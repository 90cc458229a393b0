"""Routers that map ports on request: by each protocol alone, and what is mapped is open to everybody."""

import socket

import pytest

from lab import mapping_client, upnp
from lab.moves import until
from lab.sockets import gets_through
from lab.systems.martlet import Martlet
from lab.topology import Lab

pytestmark = pytest.mark.skipif(not upnp.is_installed(), reason="there is no miniupnpd: Scripts/setup.sh --natlab")

PROTOCOLS = {"upnp-only": mapping_client.upnp, "natpmp-only": mapping_client.natpmp, "pcp-only": mapping_client.pcp}


@pytest.mark.parametrize("option", PROTOCOLS)
def test_router_maps_by_the_protocol_it_is_named_after(lab, option):
    site = lab.site("site", f"port-restricted+{option}")
    inside = site.host.socket(socket.SOCK_DGRAM, ("", 4001))
    stranger = lab.observer.socket(socket.SOCK_DGRAM, ("11.7.5.1", 7))
    assert not gets_through(stranger, (site.wan, 4001), inside)
    assert PROTOCOLS[option](site, 4001) == 4001
    assert len(site.port_mapping.mappings()) == 1
    assert gets_through(stranger, (site.wan, 4001), inside)


@pytest.mark.parametrize("option", PROTOCOLS)
def test_router_does_not_answer_the_other_protocols(lab, option):
    site = lab.site("site", f"port-restricted+{option}")
    for other, ask in PROTOCOLS.items():
        if other != option:
            assert ask(site, 4001) is None
    assert site.port_mapping.mappings() == []


@pytest.mark.skipif(Martlet.missing() is not None, reason=Martlet.missing() or "")
@pytest.mark.parametrize("option", PROTOCOLS)
def test_martlet_has_its_ports_mapped_and_gives_them_back_at_the_end(option):
    with Lab() as lab, Martlet(lab, ("udp", "tcp")) as martlet:
        home = lab.site("home", f"port-restricted+{option}")
        node, _ = martlet.start_node(home, martlet.usable(home, martlet.start_relay()[1]))
        until(lambda: len(home.port_mapping.mappings()) == 2, 30, "the mapping of both ports")
        assert all("dnat ip to 192.168.1.10:4001" in each for each in home.port_mapping.mappings())
        assert node.end() == 0
        assert home.port_mapping.mappings() == []
        martlet.forget_logs()
