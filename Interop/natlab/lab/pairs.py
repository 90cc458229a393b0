"""`natlab.sh pairs`: which path a system gets between two NATs, through a relay first, and how fast."""

import argparse
import contextlib
import dataclasses
import json
import os
import sys

from . import possible, workers
from .kind import MATRIX, Kind
from .matrix import pairs, parse_pairs
from .results import is_good, is_slow, tables
from .systems.lattica import Lattica
from .systems.martlet import Martlet, MartletBesideLattica
from .systems.p2pd import P2PD, P2PDRelay
from .systems.system import Failed, Outcome
from .topology import Lab

# What `--system DIALER:TARGET:RELAY` names; `DIALER` alone is target, too, and has the relay of the second column.
SYSTEMS = {"martlet": (Martlet, "martlet"), "lattica": (Lattica, "p2pd"), "p2pd": (P2PD, "p2pds")}
RELAYS = {"martlet": Martlet, "p2pd": P2PDRelay, "p2pds": P2PD}
TRANSPORTS = {"udp": ("udp",), "tcp": ("tcp",), "both": ("udp", "tcp")}

# Seconds to wait for a direct path where the kinds allow none.
IN_VAIN = 5


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


def perform_task(task):
    """One run that a worker was asked for; the record of it."""
    combination, pair = Combination(task["system"]), (task["dialer"], task["target"])
    transports = TRANSPORTS[task["transport_allowed"]]
    is_possible = expected(pair, transports)
    seconds = task["timeout"] if is_possible else min(task["timeout"], IN_VAIN)
    try:
        outcome, forget_logs = run(combination, pair, transports, seconds)
    except RuntimeError as error:  # the lab itself
        outcome, forget_logs = Outcome(error=str(error).split("\n")[0]), lambda: None
    record = task | {"is_possible": is_possible, "load": os.getloadavg()[0], **dataclasses.asdict(outcome)}
    if is_good(record) and not is_slow(record) and not task["keep_logs"]:
        forget_logs()
        record["logs"] = None
    return record


def main(words):
    parser = argparse.ArgumentParser(prog="natlab pairs", description="Which path a system gets between two NATs.")
    parser.add_argument("--pairs", nargs="+", metavar="A,B", help="dialer,target")
    parser.add_argument("--kinds", nargs="+", metavar="KIND",
                        help=f"all pairs of these in both orders; {' '.join(MATRIX)}, if neither these nor pairs are given")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="of each pair (1); one of every pair before the next of any")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="labs side by side (1)")
    parser.add_argument("--transport", choices=TRANSPORTS, default="both")
    parser.add_argument("--system", action="append", metavar="DIALER[:TARGET[:RELAY]]",
                        help="martlet, if not given; lattica; martlet:lattica; martlet:martlet:p2pd …; several make several tables")
    parser.add_argument("--timeout", type=float, default=20, metavar="SECONDS",
                        help=f"for the way to a direct path (20); {IN_VAIN} at most, where the kinds allow none")
    parser.add_argument("--json", metavar="FILE", help="adds every run there, one object a line; `natlab.sh table FILE` makes tables of it")
    parser.add_argument("--keep-logs", action="store_true", help="also of runs that went as expected")
    options = parser.parse_args(words)
    try:
        chosen = parse_pairs(options.pairs or []) or pairs(options.kinds or MATRIX, both_orders=True)
        for pair in chosen:
            [Kind.parse(name) for name in pair]
        combinations = [Combination(text) for text in options.system or ["martlet"]]
    except ValueError as error:
        parser.error(str(error))
    for combination in combinations:
        if lacks := combination.missing():
            print(f"natlab: {lacks}", file=sys.stderr)
            return 75
    records = []

    def report(record):
        records.append(record)
        if options.json:
            with open(options.json, "a") as file:
                file.write(json.dumps(record) + "\n")
        print(_words(record), file=sys.stderr, flush=True)

    workers.perform(_tasks(combinations, chosen, options), max(1, options.jobs), report)
    print(f"\n{tables(records)}" if records else "no pair has a way to the relay", flush=True)
    ours = {combination.name for combination in combinations if combination.is_ours}
    return 0 if all(is_good(record) for record in records if record["system"] in ours) else 1


def _tasks(combinations, chosen, options):
    """Every pair once, then every pair again, so that what disturbs the machine for a while is spread over all."""
    return [{"system": combination.name, "dialer": dialer, "target": target, "transport_allowed": options.transport, "run": number,
             "jobs": max(1, options.jobs), "timeout": options.timeout, "keep_logs": options.keep_logs}
            for combination in combinations for number in range(options.runs) for dialer, target in chosen
            # Without UDP there is no way to a relay by QUIC alone.
            if options.transport != "udp" or not any(name.startswith("udp-blocked") for name in (dialer, target))]


def _words(record):
    note = "" if is_good(record) else f", NOT as possible, logs in {record['logs']}"
    note += f" ({record['error']})" if record["error"] else ""
    note += f", slow, logs in {record['logs']}" if is_slow(record) else ""
    return (f"{record['system']} {record['dialer']} → {record['target']}: {record['path']}, first answer {record['first_answer_ms']} ms, "
            f"direct after {record['upgrade_ms']} ms, {record['transport']}{note}")
