import os

import pytest

import harness


def pytest_report_header(config):
    addresses = sorted(os.listdir("/sys/class/net"))
    return f"network interfaces here: {', '.join(addresses)}"


@pytest.fixture(scope="session")
def listeners():
    """One listening program of each kind for the whole run."""
    running = {}

    def get(kind, network=harness.NETWORK):
        if kind == "martlet" and not harness.martlet_binary().exists():
            pytest.skip("there is no interop-node: swift build -c release --product interop-node")
        if (kind, network) not in running:
            running[kind, network] = harness.Listener(kind, network=network)
        return running[kind, network]

    yield get
    for program in running.values():
        program.finish()


@pytest.fixture
def martlet():
    if not harness.martlet_binary().exists():
        pytest.skip("there is no interop-node: swift build -c release --product interop-node")
    return "martlet"
