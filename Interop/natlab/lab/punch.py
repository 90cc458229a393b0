"""`natlab.sh punch`: the matrix of what is possible, by the reference puncher, against what the kinds allow."""

import argparse
import json

from . import possible
from .kind import COMMON, Kind
from .matrix import pairs, parse_pairs, table
from .puncher import punch_tcp, punch_udp
from .topology import Lab

METHODS = ("udp", "udp-guessing", "tcp")


def punch(pair, method):
    """(milliseconds or None, whether the kinds allow it) for one pair in a lab of its own."""
    one, other = (Kind.parse(name) for name in pair)
    with Lab() as lab:
        sites = lab.site("one", one), lab.site("other", other)
        if method == "tcp":
            return punch_tcp(lab, *sites), possible.tcp(one, other)
        guesses = method == "udp-guessing"
        return punch_udp(lab, *sites, guesses, 4.0 if guesses else 2.0), possible.udp(one, other, guesses)


def main(words):
    parser = argparse.ArgumentParser(prog="natlab punch", description="What is possible between NATs: the reference puncher.")
    parser.add_argument("--pairs", nargs="+", metavar="A,B", help="the pairs of kinds; all common ones, if not given")
    parser.add_argument("--method", choices=METHODS, action="append", help="all three, if not given")
    parser.add_argument("--json", action="store_true", help="one object a line instead of tables")
    options = parser.parse_args(words)
    try:
        chosen = parse_pairs(options.pairs) if options.pairs else pairs(COMMON)
    except ValueError as error:
        parser.error(str(error))
    differing = 0
    for method in options.method or METHODS:
        cells = {}
        for pair in chosen:
            milliseconds, is_allowed = punch(pair, method)
            differs = (milliseconds is not None) != is_allowed
            differing += differs
            if options.json:
                print(json.dumps({"pair": pair, "method": method, "ms": milliseconds, "is_allowed": is_allowed}), flush=True)
            cell = ("-" if milliseconds is None else f"{milliseconds} ms") + (" **unexpected**" if differs else "")
            cells[pair] = cells[pair[::-1]] = cell
        if not options.json:
            print(f"\n{method}\n\n{table(cells)}", flush=True)
    print(f"{differing} pairs are not as their kinds allow" if differing else "every pair is as its kinds allow")
    return 1 if differing else 0
