"""A network that falls silent, and a NAT that forgets: what nodes with real sockets notice of it."""

import pytest

from lab.faults import INTEROP_NODE, rebinding, silence

pytestmark = pytest.mark.skipif(not INTEROP_NODE.exists(), reason=f"there is no {INTEROP_NODE}: run make interop")

# docs/protocols/rpc.md and ConnectionConfiguration: a peer is given up after 2.5 s, a session 30 s after its last link.
DEAD_AFTER, SESSION_AFTER = 2.5, 32.5
# What a busy machine may add.
SLACK = 7


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_what_waits_for_a_silent_peer_ends_in_time_with_typed_errors(transport):
    report = silence(transport)
    assert report["stream-ended"]["error"] == "MartletError.connectionClosed"
    assert DEAD_AFTER - 1.2 <= report["stream-ended"]["after_s"] <= DEAD_AFTER + SLACK, report
    assert "sent nothing" in report["disconnected"]["reason"], report
    assert report["calls-ended"]["errors"] == ["RPCError.unavailable"]
    assert report["calls-ended"]["after_s"] <= SESSION_AFTER + SLACK, report


def test_a_quic_stream_goes_on_when_the_dialers_address_changes():
    report = rebinding()
    assert report["addresses"][0] != report["addresses"][1]
    # The change came in the middle.
    assert report["changed_after_bytes"] < report["echoed"] / 2
    assert report["sent_after"] > report["echoed"] / 2
