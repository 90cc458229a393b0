"""Martlet behind a relay that is not its own: go-libp2p's p2pd holds the reservation, and peers reach Martlet through it.

Lattica is not here: on the loopback interface p2pd names no addresses in a reservation, and Lattica then asks for another without
end. natlab has both between NATs.
"""

import time

import pytest
from harness import Listener, Program, dial, held

KIBIBYTE = 1 << 10
DIALERS = {
    "martlet": ["handshake", "identify", "ping", "echo", "streams", "half-close", "reset-by-listener", "refused"],
    "p2pd": ["handshake", "identify", "ping", "echo", "reset-by-listener", "refused"],
}
# p2pd lets 128 KiB each way through on a connection.
OPTIONS = {"echo": {"bytes": 64 * KIBIBYTE}, "half-close": {"bytes": 64 * KIBIBYTE}, "streams": {"count": 20}}


@pytest.fixture(scope="module", params=["tcp", "quic"])
def behind_relay(request):
    """The address at the relay of a Martlet node."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("P2PD_OPTIONS", "-relay=true -relayService=true -forceReachabilityPublic")
        place = {"tcp": "/ip4/127.0.0.1/tcp/0", "quic": "/ip4/127.0.0.1/udp/0/quic-v1"}[request.param]
        relay = Listener("p2pd", place)
    node = Program("martlet", "listen", "--listen", "/ip4/127.0.0.1/tcp/0", "--relay", relay.address, network=None)
    address = f"{relay.address}/p2p-circuit/p2p/{node.line()['peer']}"
    # The program is ready before its reservation is.
    deadline = time.monotonic() + 10
    while not (verdict := dial("martlet", address, "handshake", network=None))["ok"] and time.monotonic() < deadline:
        assert "NO_RESERVATION" in verdict["error"], verdict
    yield address
    node.finish()
    relay.finish()


@pytest.mark.parametrize("peer, scenario", [(peer, scenario) for peer in DIALERS for scenario in DIALERS[peer]])
def test_martlet_is_reached_through_p2pd(behind_relay, martlet, monkeypatch, peer, scenario):
    monkeypatch.setenv("P2PD_OPTIONS", "-relay=true")
    verdict = held(dial(peer, behind_relay, scenario, network=None, **OPTIONS.get(scenario, {})))
    if scenario == "identify":
        assert verdict["agent_version"].startswith("martlet/")
        assert any("/p2p-circuit" in each for each in verdict["listen_addrs"])


def test_who_holds_no_reservation_is_not_reached_and_the_error_says_so(behind_relay, martlet, listeners):
    relay = behind_relay.split("/p2p-circuit")[0]
    verdict = dial("martlet", f"{relay}/p2p-circuit/p2p/{listeners('pylibp2p').peer}", "handshake", network=None)
    assert not verdict["ok"]
    assert "the relay answered NO_RESERVATION" in verdict["error"]
