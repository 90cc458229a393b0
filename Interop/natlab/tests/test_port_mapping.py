"""Routers that map ports on request: by each protocol alone, and what is mapped is open to everybody."""

import socket

import pytest

from lab import mapping_client, upnp
from lab.sockets import gets_through

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
