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


def test_lattica_nodes_find_their_direct_way_over_a_martlet_relay():
    outcome, forget_logs = run(Combination("lattica:lattica:martlet"), ("port-restricted", "port-restricted"), UDP, 15)
    assert (outcome.path, outcome.answers) == ("direct", True), outcome
    forget_logs()


@pytest.mark.parametrize("combination", ["martlet:lattica:p2pd", "lattica:martlet:martlet"])
def test_martlet_and_lattica_connect_over_a_relay(combination):
    outcome, forget_logs = run(Combination(combination), ("symmetric", "port-restricted"), UDP, 3)
    assert outcome.path in ("relayed", "direct") and outcome.first_answer_ms, outcome
    forget_logs()
