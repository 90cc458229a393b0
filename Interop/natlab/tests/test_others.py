"""Martlet and other libp2p nodes behind NATs punch by DCUtR, whoever dials. What the others cannot do is skipped, with the reason."""

import pytest

from lab.pairs import Combination, run
from lab.systems.martlet import Martlet

pytestmark = pytest.mark.skipif(Martlet.missing() is not None, reason=Martlet.missing() or "")

UDP, TCP = ("udp",), ("tcp",)

PAIRS = [
    ("martlet:p2pd:p2pds", UDP, "full-cone", "port-restricted"),
    ("martlet:p2pd:p2pds", TCP, "port-restricted", "port-restricted"),
    ("p2pd:martlet:p2pds", UDP, "port-restricted", "port-restricted"),
    ("p2pd:martlet:p2pds", TCP, "port-restricted", "port-restricted"),
    ("martlet:lattica:martlet", UDP, "port-restricted", "port-restricted"),
    ("martlet:lattica:martlet", TCP, "port-restricted", "port-restricted"),
    ("lattica:martlet:martlet", UDP, "port-restricted-random", "port-restricted"),
    ("lattica:martlet:martlet", TCP, "port-restricted", "port-restricted"),
    pytest.param(
        "martlet:p2pd:p2pds", UDP, "full-cone", "symmetric",
        marks=pytest.mark.skip(reason="p2pd behind a symmetric NAT never punches: it waits until four observers see it at one address")),
]


@pytest.mark.parametrize("combination, transports, dialer, target", PAIRS)
def test_martlet_and_others_punch(combination, transports, dialer, target):
    if lacks := Combination(combination).missing():
        pytest.skip(lacks)
    outcome, forget_logs = run(Combination(combination), (dialer, target), transports, 15)
    assert outcome.path == "direct", outcome
    assert outcome.transport == {"udp": "quic", "tcp": "tcp"}[transports[0]]
    forget_logs()

