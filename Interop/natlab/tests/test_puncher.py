"""The reference puncher gets through where the kinds allow it and nowhere else, so the lab's NATs are neither tighter nor
wider than they are named. All pairs: `make natlab`."""

import pytest

from lab import possible
from lab.kind import COMMON, Kind
from lab.matrix import pairs
from lab.punch import punch

SELECTED = [
    ("full-cone", "port-restricted", "udp", True),
    ("port-restricted", "port-restricted-random", "udp", True),
    ("address-restricted", "symmetric", "udp", True),
    ("port-restricted", "symmetric", "udp", False),
    ("symmetric-full-cone", "symmetric", "udp", True),
    ("udp-blocked", "none", "udp", False),
    ("port-restricted", "symmetric", "udp-guessing", True),
    ("symmetric-seq", "port-restricted-random", "udp-guessing", True),
    ("port-restricted", "port-restricted-random", "tcp", True),
    ("udp-blocked", "port-restricted+tcp-in-rst", "tcp", True),
    ("port-restricted+tcp-syn-drop", "port-restricted", "tcp", True),
    ("port-restricted+tcp-syn-drop", "port-restricted+tcp-syn-drop", "tcp", False),
    ("symmetric", "port-restricted", "tcp", False),
    ("port-restricted+cgn", "port-restricted+cgn", "udp", False),
    ("port-restricted+cgn-hairpin", "port-restricted+cgn-hairpin", "udp", True),
    ("port-restricted+cgn", "port-restricted", "udp", True),
]


@pytest.mark.parametrize("one, other, method, is_possible", SELECTED)
def test_pair(one, other, method, is_possible):
    milliseconds, is_allowed = punch((one, other), method)
    assert is_allowed == is_possible
    assert (milliseconds is not None) == is_possible


def test_what_is_possible_without_guessing_among_the_common_kinds():
    impossible = {frozenset(pair) for pair in pairs(COMMON)
                  if not possible.udp(*(Kind.parse(name) for name in pair)) and "udp-blocked" not in pair}
    dependent = ("symmetric-seq", "symmetric")
    assert impossible == {frozenset((one, other)) for one in dependent
                          for other in ("port-restricted", "port-restricted-random", *dependent)}
