import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lab.topology import Lab


@pytest.fixture
def lab():
    with Lab() as made:
        yield made
