"""`natlab.sh pairs`: which path a system gets between two NATs, through a relay first, and how fast."""

import argparse
import contextlib
import dataclasses
import json
import statistics
import sys

from . import possible
from .kind import COMMON, Kind
from .matrix import pairs, parse_pairs, table
from .systems.lattica import Lattica
from .systems.martlet import Martlet, MartletBesideLattica
from .systems.p2pd import P2PD, P2PDRelay
from .systems.system import Failed, Outcome
from .topology import Lab

# What `--system DIALER:TARGET:RELAY` names; `DIALER` alone is target, too, and has the relay of the second column.
SYSTEMS = {"martlet": (Martlet, "martlet"), "lattica": (Lattica, "p2pd"), "p2pd": (P2PD, "p2pds")}
RELAYS = {"martlet": Martlet, "p2pd": P2PDRelay, "p2pds": P2PD}
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


class Combination:
    """Who dials whom through which relay."""

    def __init__(self, text):
        names = text.split(":")
        if len(names) > 3 or any(name not in SYSTEMS for name in names[:2]):
            raise ValueError(f"{text!r}: write DIALER[:TARGET[:RELAY]] of {', '.join(SYSTEMS)} and the relays {', '.join(RELAYS)}")
        self.name = text
        self.dialer, relay = SYSTEMS[names[0]]
        self.target, _ = SYSTEMS[names[min(1, len(names) - 1)]]
        self.relay = RELAYS[names[2] if len(names) == 3 else relay]
        self.is_ours = self.dialer is Martlet and self.target is Martlet
        if {Martlet, Lattica} <= {self.dialer, self.target, self.relay}:
            self.dialer, self.target, self.relay = (
                MartletBesideLattica if each is Martlet else each for each in (self.dialer, self.target, self.relay))

    def missing(self):
        return self.dialer.missing() or self.target.missing() or self.relay.missing()


def run(combination, pair, transports, seconds=20):
    """One dial in a lab of its own: the outcome, and what forgets the logs."""
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab())
        systems = {each: stack.enter_context(each(lab, transports))
                   for each in dict.fromkeys((combination.dialer, combination.target, combination.relay))}
        dialer, target = lab.site("dialer", pair[0]), lab.site("target", pair[1])
        try:
            _, addresses = systems[combination.relay].start_relay()
            _, peer = systems[combination.target].start_node(target, systems[combination.relay].usable(target, addresses))
            outcome = systems[combination.dialer].dial(dialer, systems[combination.relay].usable(dialer, addresses), peer, seconds)
        except Failed as failure:
            outcome = Outcome(error=str(failure))
    outcome.logs = " ".join(str(each.folder) for each in systems.values())
    return outcome, lambda: [each.forget_logs() for each in systems.values()]


def cell(outcomes, is_expected):
    """One cell of the table: how often direct of how many runs, and the median time from relayed to direct."""
    direct = [each for each in outcomes if each.path in ("direct", "lan")]
    if not direct:
        reached = [each.path for each in outcomes]
        words = "relayed" if all(path == "relayed" for path in reached) else "**not reached**"
        words += "" if all(each.answers for each in outcomes) or "not" in words else ", calls refused"
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
    parser.add_argument("--system", action="append", metavar="DIALER[:TARGET[:RELAY]]",
                        help="martlet, if not given; lattica; martlet:lattica; martlet:martlet:p2pd …; several make several tables")
    parser.add_argument("--timeout", type=float, default=20, metavar="SECONDS", help="for the way to a direct path (20)")
    parser.add_argument("--json", metavar="FILE", help="writes every run there, one object a line")
    parser.add_argument("--keep-logs", action="store_true", help="also of runs that went as expected")
    options = parser.parse_args(words)
    try:
        chosen = parse_pairs(options.pairs) if options.pairs else pairs(COMMON, both_orders=True)
        combinations = [Combination(text) for text in options.system or ["martlet"]]
    except ValueError as error:
        parser.error(str(error))
    transports = TRANSPORTS[options.transport]
    for combination in combinations:
        if lacks := combination.missing():
            print(f"natlab: {lacks}", file=sys.stderr)
            return 75
    return 1 if sum(_one_table(combination, chosen, transports, options) for combination in combinations) else 0


def _one_table(combination, chosen, transports, options):
    """Prints the table of one combination. How many runs between Martlet nodes did not get the path that is possible."""
    name = combination.name
    cells, short = {}, 0
    for pair in chosen:
        if transports == ("udp",) and any(each.startswith("udp-blocked") for each in pair):
            cells[pair] = "no relay"
            continue
        is_expected = expected(pair, transports)
        outcomes = []
        for number in range(options.runs):
            outcome, forget_logs = run(combination, pair, transports, options.timeout)
            outcomes.append(outcome)
            is_good = outcome.path in ("direct", "lan") or not is_expected and outcome.path == "relayed" and outcome.answers
            if is_good and not options.keep_logs:
                forget_logs()
                outcome.logs = None
            record = {"system": name, "dialer": pair[0], "target": pair[1], "transport_allowed": options.transport, "run": number,
                      "is_possible": is_expected, **dataclasses.asdict(outcome)}
            if options.json:
                with open(options.json, "a") as file:
                    file.write(json.dumps(record) + "\n")
            print(f"{name} {pair[0]} → {pair[1]}: {outcome.path}, first answer {outcome.first_answer_ms} ms, direct after "
                  f"{outcome.upgrade_ms} ms, {outcome.transport}{'' if is_good else f', NOT as possible, logs in {outcome.logs}'}"
                  f"{f' ({outcome.error})' if outcome.error else ''}", file=sys.stderr, flush=True)
            short += combination.is_ours and not is_good
        cells[pair] = cell(outcomes, is_expected)
    print(f"\n{name}, {options.transport}; rows dial columns\n\n{table(cells)}", flush=True)
    return short
