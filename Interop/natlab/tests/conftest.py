import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lab.topology import Lab


def pytest_addoption(parser):
    parser.addoption("--part", default="1/1", metavar="K/N", help="only every N-th test, from the K-th on: N runs side by side make one")


def pytest_collection_modifyitems(config, items):
    part, parts = map(int, config.getoption("--part").split("/"))
    chosen = items[part - 1::parts]
    config.hook.pytest_deselected(items=[each for index, each in enumerate(items) if index % parts != part - 1])
    items[:] = chosen


@pytest.fixture
def lab():
    with Lab() as made:
        yield made
