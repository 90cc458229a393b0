"""Martlet over a relay: whom no direct way leads to, and what becomes of relays and of routers."""

import pytest

from lab.moves import address_change, relay_restart
from lab.pairs import Combination, expected, run
from lab.systems.martlet import Martlet

pytestmark = pytest.mark.skipif(Martlet.missing() is not None, reason=Martlet.missing() or "")

UDP, TCP, BOTH = ("udp",), ("tcp",), ("udp", "tcp")


@pytest.mark.parametrize("dialer, target, transports", [
    ("symmetric", "symmetric", BOTH),
    ("port-restricted+cgn", "port-restricted+cgn", BOTH),
    ("udp-blocked", "symmetric", BOTH),
    ("symmetric-seq", "port-restricted", TCP),
])
def test_a_peer_without_a_direct_way_answers_over_the_relay(dialer, target, transports):
    assert not expected((dialer, target), transports)
    outcome, forget_logs = run(Combination("martlet"), (dialer, target), transports, 3)
    assert (outcome.path, outcome.answers) == ("relayed", True), outcome
    forget_logs()


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_relay_that_restarts_is_used_again(is_killed):
    relay_restart(is_killed)


@pytest.mark.parametrize("transports", [UDP, TCP])
def test_a_node_whose_router_gets_another_address_is_reached_again(transports):
    address_change(transports)
