"""Machines that move to another network or sleep, and routers that get another address: what was under way goes on."""

import pytest

from lab import upnp
from lab.moves import new_address, roaming, sleep
from lab.systems.martlet import Martlet

pytestmark = pytest.mark.skipif(Martlet.missing() is not None, reason=Martlet.missing() or "")

UDP, TCP = ("udp",), ("tcp",)
SAME, OTHER = 10, 77


@pytest.mark.parametrize("roamer, last, transports", [
    ("dialer", SAME, UDP), ("dialer", OTHER, TCP), ("target", SAME, TCP), ("target", OTHER, UDP)])
def test_calls_go_on_when_a_machine_moves_to_another_network(roamer, last, transports):
    report = roaming(roamer, last, transports=transports)
    runs, again = map(int, report["runs"].split())
    assert (report["errors"], again) == (0, 0)
    assert runs == report["calls"]
    # A session waits 30 s for another connection; a busy machine needs a part of that.
    assert report["silent_s"] < 15, report


@pytest.mark.skipif(not upnp.is_installed(), reason="there is no miniupnpd: Scripts/setup.sh --natlab")
def test_a_machine_that_slept_is_reached_and_has_its_ports_mapped_again():
    sleep()


def test_nodes_punch_again_when_a_router_has_another_address():
    # Otherwise after 66 s.
    assert new_address()["direct_after_s"] < 40
