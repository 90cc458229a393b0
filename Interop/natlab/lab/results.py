"""What runs of pairs found, as JSON lines, and the tables made of them: `natlab.sh table FILE…`."""

import argparse
import collections
import json
import statistics
import sys

from .kind import MATRIX
from .matrix import table

DIRECT = ("direct", "lan")

# A first answer of Martlet's that takes longer, in milliseconds, is named and its logs are kept.
SLOW = 1000


def is_good(record):
    """Whether this run got the path that the kinds allow, or answers over the relay where they allow none."""
    return record["path"] in DIRECT or not record["is_possible"] and record["path"] == "relayed" and record["answers"]


def is_slow(record):
    return record.get("waited_ms") is not None and record["first_answer_ms"] > SLOW


def times(values):
    """`median / worst` in milliseconds."""
    values = [value for value in values if value is not None]
    return f"{round(statistics.median(values))} / {round(max(values))}" if values else ""


def path_cell(records):
    """How often direct, if not always; median and worst time from relayed to direct; how many by TCP, where QUIC was allowed."""
    direct = [each for each in records if each["path"] in DIRECT]
    if not direct:
        if any(each["path"] != "relayed" for each in records):
            return "**not reached**"
        words = "relayed" if all(each["answers"] for each in records) else "relayed, calls refused"
        return words + (" **(direct is possible)**" if records[0]["is_possible"] else "")
    by_tcp = sum(each["transport"] == "tcp" and each["transport_allowed"] != "tcp" for each in direct)
    words = [f"**{len(direct)} of {len(records)}**"] if len(direct) < len(records) else []
    words += [times(each["upgrade_ms"] for each in direct) or "direct"]
    words += [] if not by_tcp else ["TCP"] if by_tcp == len(direct) else [f"({by_tcp} TCP)"]
    return " ".join(words)


def answer_cell(records):
    """Median and worst time from the start of the dialing program to its first answer."""
    found = times(each["first_answer_ms"] for each in records)
    return found or "-"


def tables(records):
    """Markdown for every system and transport in the records."""
    groups = collections.defaultdict(lambda: collections.defaultdict(list))
    for record in records:
        groups[record["system"], record["transport_allowed"]][record["dialer"], record["target"]].append(record)
    return "\n\n".join(_group(*name, cells) for name, cells in groups.items())


def _group(system, transport, cells):
    runs = [record for records in cells.values() for record in records]
    counts = sorted({len(records) for records in cells.values()})
    kinds = [kind for kind in MATRIX if any(kind in pair for pair in cells)]
    kinds += [kind for kind in dict.fromkeys(name for pair in cells for name in pair) if kind not in kinds]
    parts = [
        f"{system}, {transport}; rows dial columns; {' to '.join(str(each) for each in sorted({counts[0], counts[-1]}))} runs each; "
        f"{runs[0]['jobs']} labs at a time, load {load_words(runs)}",
        "From the relayed connection to the direct one, median / worst ms:",
        table({pair: path_cell(records) for pair, records in cells.items()}, kinds),
        "From the start of the dialing program to its first answer, median / worst ms:",
        table({pair: answer_cell(records) for pair, records in cells.items()}, kinds),
        f"{sum(map(is_good, runs))} of {len(runs)} runs as the kinds allow"]
    failures = [f"* {each['dialer']} → {each['target']}, run {each['run']}: {each['path'] or 'not reached'}"
                f"{', ' + each['error'] if each['error'] else ''}, logs in {each['logs']}" for each in runs if not is_good(each)]
    failures += [f"* {each['dialer']} → {each['target']}, run {each['run']}: first answer after {each['first_answer_ms']} ms (waited "
                 f"for a processor, ms: {each['waited_ms']}), logs in {each['logs']}" for each in runs if is_slow(each)]
    return "\n\n".join(parts + (["\n".join(failures)] if failures else []))


def load_words(records):
    loads = [each["load"] for each in records]
    return f"{statistics.median(loads):.1f} (at most {max(loads):.1f})"


def read(paths):
    records = []
    for path in paths:
        with open(path) as file:
            records += [json.loads(line) for line in file]
    return records


def main(words):
    parser = argparse.ArgumentParser(prog="natlab table", description="Tables of what `pairs --json FILE` wrote.")
    parser.add_argument("files", nargs="+", metavar="FILE")
    records = read(parser.parse_args(words).files)
    print(tables(records) if records else "no runs")
    return 0 if all(map(is_good, records)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
