"""Martlet over QUIC against each peer, dialing and being dialed."""

import socket

import pytest
from harness import Listener, dial, held, network_with

MEBIBYTE = 1 << 20

COMMON = ["handshake", "identify", "ping"]
NAMED = ["echo", "streams", "reset-by-listener", "reset-by-dialer"]
DIALED_BY_MARTLET = {
    "p2pd": COMMON + NAMED + ["half-close-identify"],
    "pylibp2p": COMMON + NAMED + ["half-close-identify", "half-close"],
    "lattica": COMMON + ["half-close-identify", "lattica-unary"],
}
DIALING_MARTLET = {
    "p2pd": COMMON + NAMED,
    "pylibp2p": COMMON + NAMED + ["half-close"],
    "lattica": COMMON + ["echo", "half-close", "streams"],
}
OPTIONS = {
    "echo": {"bytes": 64 * MEBIBYTE},
    ("pylibp2p", "echo"): {"bytes": 8 * MEBIBYTE},  # it does about 1 MiB in a second
    # Its second answer on a stream comes when something else wakes it, up to 15 s later.
    ("lattica", "ping"): {"count": 1},
    "lattica-unary": {"bytes": 64 * MEBIBYTE},
    "half-close": {"bytes": MEBIBYTE},
    "streams": {"count": 100},  # py-libp2p allows 128 at once
}


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def quic_listeners():
    running = {}

    def get(kind, network):
        if (kind, network) not in running:
            address = f"/ip4/127.0.0.1/udp/{free_port()}/quic-v1"
            running[kind, network] = Listener(kind, address, network=network)
        return running[kind, network]

    yield get
    for program in running.values():
        program.finish()


def cases(table):
    return [pytest.param(peer, scenario, id=f"{peer}-{scenario}") for peer in table for scenario in table[peer]]


def options(peer, scenario):
    return OPTIONS.get((peer, scenario), OPTIONS.get(scenario, {}))


@pytest.mark.parametrize("peer, scenario", cases(DIALED_BY_MARTLET))
def test_martlet_dials_over_quic(quic_listeners, martlet, peer, scenario):
    target = quic_listeners(peer, network_with(None))
    assert "/quic-v1/" in target.address
    verdict = held(dial(martlet, target.address, scenario, network=network_with(peer), **options(peer, scenario)))
    if scenario == "handshake":
        assert verdict["peer"] == target.peer
    # py-libp2p says that it sees a TCP address, whatever it sees.
    if scenario == "identify" and peer != "pylibp2p":
        assert "/quic-v1" in verdict["observed_addr"]


@pytest.mark.parametrize("peer, scenario", cases(DIALING_MARTLET))
def test_martlet_is_dialed_over_quic(quic_listeners, martlet, peer, scenario):
    target = quic_listeners(martlet, network_with(peer))
    held(dial(peer, target.address, scenario, **options(peer, scenario)))
