"""Pairs of NAT kinds and tables of what was found for them."""

import itertools

from .kind import COMMON, Kind


def pairs(kinds=COMMON, both_orders=False):
    """Every unordered pair with the kinds themselves, or every ordered one."""
    if both_orders:
        return list(itertools.product(kinds, kinds))
    return list(itertools.combinations_with_replacement(kinds, 2))


def parse_pairs(texts):
    """`A,B` each; raises ValueError with words for what it is not."""
    parsed = []
    for text in texts:
        names = text.split(",")
        if len(names) != 2:
            raise ValueError(f"{text!r} is not a pair: write two kinds with a comma between them")
        for name in names:
            Kind.parse(name)
        parsed.append(tuple(names))
    return parsed


def table(cells, kinds=None):
    """Markdown; `cells` maps (row, column) to text, in the order of the first mention of a kind."""
    kinds = kinds or list(dict.fromkeys(name for pair in cells for name in pair))
    lines = ["| | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for row in kinds:
        lines.append(f"| {row} | " + " | ".join(cells.get((row, column), "") for column in kinds) + " |")
    return "\n".join(lines)
