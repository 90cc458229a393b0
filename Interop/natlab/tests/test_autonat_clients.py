"""Other libp2p nodes that have a Martlet node dial them back (AutoNAT v2): it dials from an address that they did not talk to first.

Of those that the lab has, only Lattica (rust-libp2p) speaks AutoNAT v2: go-libp2p's daemon p2pd 1.1.12 is older than that."""

import time

import pytest

from lab.systems.lattica import Lattica
from lab.systems.martlet import Martlet, MartletBesideLattica
from lab.systems.system import PEERS, PYTHON

pytestmark = pytest.mark.skipif(
    (Martlet.missing() or Lattica.missing()) is not None, reason=Martlet.missing() or Lattica.missing() or "")

# The stranger's head start (AutoNAT.strangerHeadStart).
HEAD_START = 2
# Lattica asks five seconds after it began.
ASKS_AFTER = 5


def ask(lab, kind, seconds):
    """A Lattica node behind such a NAT: how long after it connected it was dialed back, None if it was not; whether it asked."""
    site = lab.site("site", kind)
    with MartletBesideLattica(lab, ("udp",)) as martlet:
        relay, addresses = martlet.start_relay()
        command = [PYTHON, PEERS / "lattica_autonat.py", martlet.usable(site, addresses)[0], "--listen", *martlet.listen_addresses()]
        asking = martlet.program(site.host, command, "lattica")
        asking.wait_for("connected", 30)
        deadline, after = time.monotonic() + seconds, None
        while after is None and (line := asking.next(deadline)):
            after = line[1].get("seconds")
        has_asked = "dialing back" in relay.said() and f"{site.wan}/udp/4001" in relay.said()
        martlet.forget_logs()
        return after, has_asked


def test_lattica_is_dialed_back_by_a_stranger_where_strangers_get_in(lab):
    after, has_asked = ask(lab, "full-cone", 20)
    assert has_asked and after is not None and after < ASKS_AFTER + HEAD_START, after


def test_lattica_is_dialed_back_from_the_usual_address_where_only_that_gets_in(lab):
    after, has_asked = ask(lab, "address-restricted", 20)
    assert has_asked and after is not None and after >= HEAD_START, after


def test_lattica_is_not_dialed_back_through_a_nat_that_lets_nobody_in(lab):
    assert ask(lab, "port-restricted", 20) == (None, True)
