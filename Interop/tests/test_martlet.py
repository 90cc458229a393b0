"""Martlet against each peer, dialing and being dialed."""

import pytest
from harness import NETWORK, Program, dial, held, network_with

MEBIBYTE = 1 << 20

# What each peer can take part in: ../README.md says why not in the rest.
COMMON = ["handshake", "identify", "ping", "refused"]
NAMED = ["echo", "streams", "reset-by-listener", "reset-by-dialer"]
DIALED_BY_MARTLET = {
    "p2pd": COMMON + NAMED + ["half-close-identify"],
    "pylibp2p": COMMON + NAMED + ["half-close-identify", "half-close", "lattica-unary"],
    "lattica": COMMON + ["half-close-identify", "lattica-unary"],
}
DIALING_MARTLET = {
    "p2pd": COMMON + NAMED,
    "pylibp2p": COMMON + NAMED + ["half-close", "lattica-unary"],
    "lattica": ["handshake", "identify", "ping", "echo", "half-close", "streams"],
}
OPTIONS = {
    "echo": {"bytes": 64 * MEBIBYTE},
    "lattica-unary": {"bytes": 64 * MEBIBYTE},
    "half-close": {"bytes": MEBIBYTE},
    "streams": {"count": 200},
}


def cases(table):
    return [pytest.param(peer, scenario, id=f"{peer}-{scenario}") for peer in table for scenario in table[peer]]


@pytest.mark.parametrize("peer, scenario", cases(DIALED_BY_MARTLET))
def test_martlet_dials(listeners, martlet, peer, scenario):
    target = listeners(peer)
    options = OPTIONS.get(scenario, {})
    verdict = held(dial(martlet, target.address, scenario, network=network_with(peer), **options))
    if scenario == "handshake":
        assert verdict["peer"] == target.peer
    if scenario == "identify":
        agents = {"p2pd": "p2pd/", "pylibp2p": "py-libp2p/", "lattica": "rust-libp2p/"}
        assert verdict["agent_version"].startswith(agents[peer])
        assert verdict["protocol_version"] == ("" if peer == "p2pd" else NETWORK)
        assert "/ipfs/ping/1.0.0" in verdict["protocols"]
        assert target.address.startswith(verdict["listen_addrs"][0])
        assert verdict["observed_addr"].startswith("/ip4/127.0.0.1/tcp/")


@pytest.mark.parametrize("peer, scenario", cases(DIALING_MARTLET))
def test_martlet_is_dialed(listeners, peer, scenario):
    target = listeners("martlet", network_with(peer))
    verdict = held(dial(peer, target.address, scenario, **OPTIONS.get(scenario, {})))
    if scenario == "identify":
        check_identify_of_martlet(verdict, network_with(peer))
        assert target.address.startswith(verdict["listen_addrs"][0])


@pytest.mark.parametrize("peer", ["p2pd", "pylibp2p", "lattica"])
def test_a_listener_identifies_martlet_when_it_dials(listeners, martlet, peer):
    target = listeners(peer)
    dialer = Program(martlet, "dial", target.address, "--scenario", "wait", network=network_with(peer))
    try:
        connected = dialer.line()
        assert connected["event"] == "connected"
        verdict = held(target.ask(f"identify {connected['peer']}"))
        check_identify_of_martlet(verdict, network_with(peer))
    finally:
        dialer.finish()


def check_identify_of_martlet(verdict, network):
    assert network is None or verdict["protocol_version"] == network
    assert verdict["agent_version"].startswith("martlet/")
    assert {"/ipfs/ping/1.0.0", "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0"} <= set(verdict["protocols"])
    assert verdict.get("signed_peer_record", True)


@pytest.mark.parametrize("peer", ["p2pd", "pylibp2p", "lattica"])
def test_a_dial_to_the_wrong_peer_says_both_ids(listeners, martlet, peer):
    right = listeners(peer)
    wrong = listeners("pylibp2p" if peer != "pylibp2p" else "p2pd").peer
    verdict = dial(martlet, right.address.replace(right.peer, wrong), "handshake")
    assert not verdict["ok"]
    assert right.peer in verdict["error"] and wrong in verdict["error"]


def test_who_is_in_another_network_is_sent_away(listeners, martlet):
    verdict = dial(martlet, listeners("p2pd").address, "handshake", network=NETWORK)
    assert not verdict["ok"]
