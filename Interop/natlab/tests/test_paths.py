"""Martlet between NATs: the path becomes direct wherever the kinds allow it. All pairs: `make natlab`."""

import pytest

from lab import upnp
from lab.pairs import Combination, expected, run
from lab.systems.martlet import Martlet
from lab.topology import Lab

pytestmark = pytest.mark.skipif(Martlet.missing() is not None, reason=Martlet.missing() or "")

UDP, TCP, BOTH = ("udp",), ("tcp",), ("udp", "tcp")

SELECTED = [
    ("port-restricted", "port-restricted", BOTH),
    ("full-cone", "port-restricted-random", UDP),
    ("port-restricted", "port-restricted-random", TCP),
    ("symmetric", "full-cone", UDP),
    ("none", "symmetric", BOTH),
    ("port-restricted", "symmetric", UDP),
    ("symmetric-seq", "port-restricted-random", UDP),
    ("udp-blocked", "port-restricted+tcp-in-rst", TCP),
    ("none", "udp-blocked", BOTH),
    ("udp-blocked", "port-restricted-random", BOTH),
    ("port-restricted", "udp-blocked", BOTH),
    ("none", "symmetric", TCP),
    ("symmetric+v6", "symmetric+v6", UDP),
]


@pytest.mark.parametrize("dialer, target, transports", SELECTED)
def test_pair(dialer, target, transports):
    assert expected((dialer, target), transports)
    outcome, forget_logs = run(Combination("martlet"), (dialer, target), transports, 15)
    assert (outcome.path, outcome.answers) == ("direct", True), outcome
    if len(transports) == 1:
        assert outcome.transport == {"udp": "quic", "tcp": "tcp"}[transports[0]]
    forget_logs()


@pytest.mark.skipif(not upnp.is_installed(), reason="there is no miniupnpd: Scripts/setup.sh --natlab")
@pytest.mark.parametrize("option", ["upnp-only", "natpmp-only", "pcp-only"])
def test_a_mapped_port_is_reached_even_from_behind_a_symmetric_nat(option):
    outcome, forget_logs = run(Combination("martlet"), ("symmetric", f"port-restricted+{option}"), BOTH, 15)
    assert outcome.path == "direct", outcome
    forget_logs()


def test_two_hosts_of_one_home_talk_within_it():
    with Lab() as lab, Martlet(lab, BOTH) as martlet:
        home = lab.site("home", "port-restricted", hosts=2)
        relays = martlet.usable(home, martlet.start_relay()[1])
        _, peer = martlet.start_node(home, relays, host=home.hosts[1])
        outcome = martlet.dial(home, relays, peer, 10)
        assert outcome.path == "lan", outcome
        martlet.forget_logs()
