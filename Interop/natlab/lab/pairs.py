"""`natlab.sh pairs`: which path a system gets between two NATs, through a relay first, and how fast."""

import argparse
import dataclasses
import json
import statistics
import sys

from . import possible
from .kind import COMMON, Kind
from .matrix import pairs, parse_pairs, table
from .systems.lattica import Lattica
from .systems.martlet import Martlet
from .systems.system import Failed, Outcome
from .topology import Lab

SYSTEMS = {each.name: each for each in (Martlet, Lattica)}
TRANSPORTS = {"udp": ("udp",), "tcp": ("tcp",), "both": ("udp", "tcp")}


def expected(pair, transports, guesses=True):
    """Whether the kinds allow a direct path: what a system that does all that is possible reaches."""
    one, other = (_seen_by_peers(Kind.parse(name)) for name in pair)
    if one.has("v6") and other.has("v6"):
        return True
    return ("udp" in transports and possible.udp(one, other, guesses)) or ("tcp" in transports and possible.tcp(one, other))


def _seen_by_peers(kind):
    """A port that the router maps on request is open to everybody, unless a carrier's NAT comes after it."""
    return Kind("none", kind.options) if kind.maps_ports and not kind.is_behind_carrier else kind


def run(system, pair, transports, seconds=20):
    """One dial in a lab of its own."""
    with Lab() as lab, SYSTEMS[system](lab, transports) as running:
        dialer, target = lab.site("dialer", pair[0]), lab.site("target", pair[1])
        try:
            outcome = running.reach(dialer, target, seconds)
        except Failed as failure:
            outcome = Outcome(error=str(failure))
    outcome.logs = str(running.folder)
    return outcome, running


def cell(outcomes, is_expected):
    """One cell of the table: how often direct of how many runs, and the median time from relayed to direct."""
    direct = [each for each in outcomes if each.path in ("direct", "lan")]
    if not direct:
        reached = [each.path for each in outcomes]
        words = "relayed" if all(path == "relayed" for path in reached) else "**not reached**"
    else:
        words = "direct" if len(direct) == len(outcomes) else f"{len(direct)} of {len(outcomes)} direct"
        times = [each.upgrade_ms for each in direct if each.upgrade_ms is not None]
        words += f" {round(statistics.median(times))} ms" if times else ""
        words += f" {'/'.join(sorted({str(each.transport) for each in direct}))}"
    return words + (" **(direct is possible)**" if is_expected and len(direct) < len(outcomes) else "")


def main(words):
    parser = argparse.ArgumentParser(prog="natlab pairs", description="Which path a system gets between two NATs.")
    parser.add_argument("--pairs", nargs="+", metavar="A,B", help="dialer,target; all common kinds in both orders, if not given")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="of each pair (1)")
    parser.add_argument("--transport", choices=TRANSPORTS, default="both")
    parser.add_argument("--system", choices=SYSTEMS, action="append", help="martlet, if not given; several make several tables")
    parser.add_argument("--timeout", type=float, default=20, metavar="SECONDS", help="for the way to a direct path (20)")
    parser.add_argument("--json", metavar="FILE", help="writes every run there, one object a line")
    parser.add_argument("--keep-logs", action="store_true", help="also of runs that went as expected")
    options = parser.parse_args(words)
    try:
        chosen = parse_pairs(options.pairs) if options.pairs else pairs(COMMON, both_orders=True)
    except ValueError as error:
        parser.error(str(error))
    transports = TRANSPORTS[options.transport]
    systems = options.system or ["martlet"]
    for name in systems:
        if lacks := SYSTEMS[name].missing():
            print(f"natlab: {lacks}", file=sys.stderr)
            return 75
    short = sum(_one_system(name, chosen, transports, options) for name in systems)
    return 1 if short and "martlet" in systems else 0


def _one_system(name, chosen, transports, options):
    """Prints the table of one system. How many of Martlet's pairs did not get the path that is possible."""
    cells, short = {}, 0
    for pair in chosen:
        is_expected = expected(pair, transports)
        outcomes = []
        for number in range(options.runs):
            outcome, running = run(name, pair, transports, options.timeout)
            outcomes.append(outcome)
            is_good = outcome.path in ("direct", "lan") if is_expected else outcome.path == "relayed" and outcome.answers
            if is_good and not options.keep_logs:
                running.forget_logs()
                outcome.logs = None
            record = {"system": name, "dialer": pair[0], "target": pair[1], "transport_allowed": options.transport, "run": number,
                      "is_possible": is_expected, **dataclasses.asdict(outcome)}
            if options.json:
                with open(options.json, "a") as file:
                    file.write(json.dumps(record) + "\n")
            print(f"{name} {pair[0]} → {pair[1]}: {outcome.path}, first answer {outcome.first_answer_ms} ms, direct after "
                  f"{outcome.upgrade_ms} ms, {outcome.transport}{'' if is_good else f', NOT as possible, logs in {outcome.logs}'}"
                  f"{f' ({outcome.error})' if outcome.error else ''}", file=sys.stderr, flush=True)
            short += name == "martlet" and not is_good
        cells[pair] = cell(outcomes, is_expected)
    print(f"\n{name}, {options.transport}; rows dial columns\n\n{table(cells)}", flush=True)
    return short
