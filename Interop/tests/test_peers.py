"""The peers among themselves: that the harness works, and that they behave as ../README.md says they do."""

import pytest
from harness import Program, dial, held

MEBIBYTE = 1 << 20


@pytest.mark.parametrize("dialer, listener", [("p2pd", "pylibp2p"), ("pylibp2p", "p2pd"), ("pylibp2p", "lattica")])
@pytest.mark.parametrize("scenario", ["handshake", "identify", "ping", "refused"])
def test_basics(listeners, dialer, listener, scenario):
    target = listeners(listener)
    verdict = held(dial(dialer, target.address, scenario))
    if scenario == "identify":
        assert "/ipfs/ping/1.0.0" in verdict["protocols"]
        assert target.address.startswith(verdict["listen_addrs"][0])


@pytest.mark.parametrize("dialer, listener", [("p2pd", "pylibp2p"), ("pylibp2p", "p2pd")])
@pytest.mark.parametrize("scenario", ["reset-by-listener", "reset-by-dialer"])
def test_a_reset_is_seen_as_one(listeners, dialer, listener, scenario):
    held(dial(dialer, listeners(listener).address, scenario))


@pytest.mark.parametrize("dialer, listener", [("p2pd", "pylibp2p"), ("pylibp2p", "p2pd"), ("lattica", "pylibp2p")])
def test_echo_and_many_streams(listeners, dialer, listener):
    held(dial(dialer, listeners(listener).address, "echo", bytes=8 * MEBIBYTE))
    held(dial(dialer, listeners(listener).address, "streams", count=50))


@pytest.mark.parametrize("dialer, listener", [("pylibp2p", "pylibp2p"), ("lattica", "pylibp2p"), ("lattica", "lattica")])
def test_the_answer_is_read_after_finishing(listeners, dialer, listener):
    held(dial(dialer, listeners(listener).address, "half-close"))


def test_lattica_answers_a_foreign_client(listeners):
    held(dial("pylibp2p", listeners("lattica").address, "lattica-unary", bytes=8 * MEBIBYTE))


def test_lattica_disconnects_whom_its_identify_gate_refuses(listeners):
    verdict = dial("lattica", listeners("p2pd").address, "handshake")
    assert not verdict["ok"] and "identify was refused" in verdict["error"]


def test_a_listener_tells_what_the_dialer_says_of_itself(listeners):
    dialer = Program("pylibp2p", "dial", listeners("p2pd").address, "--scenario", "wait")
    try:
        verdict = listeners("p2pd").ask(f"identify {dialer.line()['peer']}")
        assert held(verdict)["agent_version"].startswith("py-libp2p/")
    finally:
        dialer.finish()
