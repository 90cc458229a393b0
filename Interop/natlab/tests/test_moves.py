"""What goes on between two Martlet nodes does not notice that their path changes."""

import pytest

from lab.moves import calls, fetch, mended
from lab.systems.martlet import Martlet

pytestmark = pytest.mark.skipif(Martlet.missing() is not None, reason=Martlet.missing() or "")

UDP, TCP = ("udp",), ("tcp",)


@pytest.mark.parametrize("transports", [UDP, TCP])
def test_a_fetch_survives_moves_from_relay_to_direct_and_back(transports):
    report = fetch(192 << 20, transports)
    assert report["is_equal"]
    assert [path for path, _ in report["paths"][:2]] == ["direct", "relayed"], report


@pytest.mark.parametrize("transports", [UDP, TCP])
def test_a_thousand_calls_survive_moves_from_relay_to_direct_and_back(transports):
    report = calls(1000, transports)
    runs, again = map(int, report["runs"].split())
    assert (report["errors"], again) == (0, 0)
    assert runs == report["calls"]
    assert [path for path, _ in report["paths"]] == ["direct", "relayed"]


@pytest.mark.parametrize("transports", [UDP, TCP])
def test_a_direct_path_that_was_cut_is_found_again(transports):
    mended(cut_seconds=8, transports=transports)
