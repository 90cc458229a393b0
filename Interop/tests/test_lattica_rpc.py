"""Lattica's RPC both ways: Martlet calls a Lattica node's methods, and a Lattica node calls Martlet's."""

import pytest
from harness import dial, held

MEBIBYTE = 1 << 20

SCENARIOS = {
    "rpc-values": {},
    "rpc-arguments": {},
    "rpc-large": {"bytes": 64 * MEBIBYTE},
    "rpc-items": {"count": 400},
    "rpc-slow-items": {"count": 5000},
    "rpc-errors": {},
    "rpc-cancel": {},
    "rpc-many": {"count": 600},  # more than there may be streams on a connection
    "rpc-parallel": {"count": 200},
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_martlet_calls_a_lattica_node(listeners, martlet, scenario):
    verdict = held(dial(martlet, listeners("lattica_rpc").address, scenario, **SCENARIOS[scenario]))
    if scenario == "rpc-slow-items":
        assert verdict["items"] == 5000
    if scenario == "rpc-errors":
        assert "no model called m1" in verdict["handler"] and "no model called m1" in verdict["stream"]
        assert verdict["handler"].startswith("unknown executed: ")
        for name, text in {
            "method": "Method _handle_nix not found",
            "service": "Service Nix not found",
            "format": "Invalid method format",
            "stream_method": "Stream method _handle_stream_nix not found",
            "stream_service": "Service Nix not found",
            "stream_format": "Invalid method format",
        }.items():
            assert verdict[name] == f"unimplemented notSent: {text}"


# A Lattica client stops for good when its first streaming call meets so many unary ones, whoever serves them.
@pytest.mark.parametrize("scenario", [each for each in SCENARIOS if each != "rpc-parallel"])
def test_a_lattica_node_calls_martlet(listeners, martlet, scenario):
    verdict = held(dial("lattica_rpc", listeners("martlet").address, scenario, **SCENARIOS[scenario]))
    if scenario == "rpc-slow-items":
        # Its client keeps 512 items that nobody has read and then gives the call up without a word: not all can arrive.
        assert 1 <= verdict["items"] <= 5000
    if scenario == "rpc-errors":
        texts = verdict["texts"]
        assert "no model called m1" in texts["handler"]
        assert "Method _handle_nix not found" in texts["method"]
        assert "Service Nix not found" in texts["service"]
        assert "Invalid method format" in texts["format"]
        # All that its client says of an error on a stream.
        assert "Response channel closed" in texts["stream"]
