"""The runner of the matrix: labs side by side, and the tables made of what they found."""

import json

import pytest

from lab import results
from lab.pairs import main
from lab.systems.martlet import Martlet


def record(dialer="none", target="symmetric", **found):
    return {"system": "martlet", "transport_allowed": "both", "dialer": dialer, "target": target, "run": 0, "jobs": 2, "load": 0.5,
            "is_possible": True, "path": "direct", "transport": "quic", "first_answer_ms": 400, "upgrade_ms": 200, "answers": True,
            "error": None, "logs": None} | found


def test_a_cell_has_median_and_worst():
    assert results.path_cell([record(upgrade_ms=each) for each in (210, 200, 350)]) == "210 / 350"
    assert results.path_cell([record(), record(transport="tcp")]) == "200 / 200 (1 TCP)"
    assert results.path_cell([record(transport="tcp")]) == "200 / 200 TCP"
    assert results.answer_cell([record(), record(first_answer_ms=None), record(first_answer_ms=500)]) == "450 / 500"


def test_a_run_that_is_not_as_possible_is_named():
    bad = record(path="relayed", upgrade_ms=None, logs="/tmp/somewhere", run=1)
    assert results.path_cell([record(), bad]) == "**1 of 2** 200 / 200"
    assert results.path_cell([bad]) == "relayed **(direct is possible)**"
    assert results.path_cell([record(path=None)]) == "**not reached**"
    text = results.tables([record(), bad])
    assert "1 of 2 runs as the kinds allow" in text and "none → symmetric, run 1: relayed, logs in /tmp/somewhere" in text


def test_a_late_first_answer_is_named_with_what_the_programs_waited_for():
    late = record(first_answer_ms=results.SLOW + 1, waited_ms={"dialer": 700, "target": 3}, logs="/tmp/late")
    text = results.tables([record(waited_ms={"dialer": 1}), late])
    assert "2 of 2 runs as the kinds allow" in text and text.count("first answer after") == 1
    assert "first answer after 1001 ms" in text and "'dialer': 700" in text and "/tmp/late" in text


def test_over_the_relay_is_right_only_where_nothing_else_is_possible():
    relayed = record(path="relayed", is_possible=False)
    assert results.is_good(relayed) and results.path_cell([relayed]) == "relayed"
    refused = relayed | {"answers": False}
    assert not results.is_good(refused) and results.path_cell([refused]) == "relayed, calls refused"


@pytest.mark.skipif(Martlet.missing() is not None, reason=Martlet.missing() or "")
def test_labs_side_by_side(tmp_path, capfd):
    file = tmp_path / "runs.jsonl"
    status = main(["--pairs", "none,none", "port-restricted,full-cone", "port-restricted+cgn,firewall+v6", "--runs", "2", "--jobs", "3",
                   "--transport", "udp", "--json", str(file)])
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert status == 0 and len(records) == 6, records
    assert {(each["dialer"], each["run"]) for each in records} == {
        (kind, run) for kind in ("none", "port-restricted", "port-restricted+cgn") for run in (0, 1)}
    assert all(each["transport"] == "quic" for each in records)
    capfd.readouterr()
    assert results.main([str(file)]) == 0
    assert "6 of 6 runs as the kinds allow" in capfd.readouterr().out
