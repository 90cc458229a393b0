"""Retry, stateless resets and changed addresses over QUIC, between Martlet and what was not written here."""

import time

import pytest
from forwarder import Forwarder
from harness import Listener, Program, dial, held, network_with
from test_quic import free_port

MEBIBYTE = 1 << 20
ECHO_BYTES = {"p2pd": 64 * MEBIBYTE, "lattica": 64 * MEBIBYTE, "pylibp2p": 4 * MEBIBYTE}
# What the first byte of a packet with a long header says (RFC 9000, 17.2).
LONG, RETRY = 0xC0, 0xF0


def place(port):
    return f"/ip4/127.0.0.1/udp/{port}/quic-v1"


@pytest.fixture
def through():
    """A listener behind a forwarder, and the address by which the forwarder is dialed."""
    made = []

    def get(kind, *options, network):
        listener = Listener(kind, place(free_port()), *options, network=network)
        forwarder = Forwarder(int(listener.address.split("/")[4]))
        made.extend([forwarder.end, listener.finish])
        return listener, forwarder, f"{place(forwarder.port)}/p2p/{listener.peer}"

    yield get
    for end in made:
        end()


def until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.01)


@pytest.mark.parametrize("peer", ["p2pd", "lattica", "pylibp2p"])
def test_clients_prove_their_address_when_martlet_asks(through, martlet, peer):
    _, forwarder, address = through(martlet, "--asks-for-addresses", network=network_with(peer))
    held(dial(peer, address, "echo", bytes=MEBIBYTE))
    assert any(first & 0xF0 == RETRY for first, _ in forwarder.to_client)


@pytest.mark.parametrize("peer", ["p2pd", "lattica"])
def test_martlet_goes_on_with_a_client_whose_address_changes(through, martlet, peer):
    _, forwarder, address = through(martlet, network=network_with(peer))
    program = Program(peer, "dial", address, "--scenario", "echo", "--bytes", str(ECHO_BYTES[peer]))
    try:
        until(lambda: sum(size for _, size in forwarder.to_server) > ECHO_BYTES[peer] / 8, 60, "eighth of the echo")
        handshakes = sum(first & LONG == LONG for first, _ in forwarder.to_server)
        forwarder.rebind()
        held(program.line())
        # The same connection: nobody shook hands again.
        assert sum(first & LONG == LONG for first, _ in forwarder.to_server) == handshakes
    finally:
        program.finish()


@pytest.mark.parametrize("peer", ["pylibp2p"])  # Go's and Rust's servers do not go along with a change (docs/protocols/quic.md)
def test_martlet_as_a_client_goes_on_when_its_address_changes(through, martlet, peer):
    _, forwarder, address = through(peer, network=network_with(peer))
    program = Program(martlet, "dial", address, "--scenario", "echo", "--bytes", str(ECHO_BYTES[peer]), network=network_with(peer))
    try:
        until(lambda: sum(size for _, size in forwarder.to_server) > ECHO_BYTES[peer] / 8, 60, "eighth of the echo")
        forwarder.rebind()
        held(program.line())
    finally:
        program.finish()


def test_a_client_of_martlets_hears_at_once_that_martlet_has_restarted(martlet, tmp_path):
    port = free_port()
    options = ("--data-dir", str(tmp_path / "martlet"))
    first = Listener(martlet, place(port), *options, network=None)
    forwarder = Forwarder(port)
    program = Program("p2pd", "dial", f"{place(forwarder.port)}/p2p/{first.peer}", "--scenario", "echo", "--bytes", str(256 * MEBIBYTE))
    try:
        until(lambda: sum(size for _, size in forwarder.to_server) > MEBIBYTE, 60, "echo under way")
        first.process.kill()
        first.process.wait()
        second = Listener(martlet, place(port), *options, network=None)
        try:
            assert second.peer == first.peer
            # quic-go waits 30 s for a peer that says nothing.
            verdict = program.line(15)
            assert not verdict["ok"]
            # The last of what came was a reset (RFC 9000, 10.3): like a short packet, and small.
            assert any(first_byte & 0xC0 == 0x40 and 21 <= size <= 43 for first_byte, size in forwarder.to_client[-5:])
        finally:
            second.finish()
    finally:
        program.finish()
        forwarder.end()
