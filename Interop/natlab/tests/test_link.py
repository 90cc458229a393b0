"""The links of the lab: delay, loss and rate are those asked for."""

import socket
import time

import pytest

from lab.link import Link
from lab.namespace import Namespace
from lab.sockets import arrived


@pytest.fixture
def ends():
    """Makes two namespaces with a link of the given properties and a UDP socket at each end."""
    made = []

    def make(**properties):
        one, other = Namespace("natlab-one"), Namespace("natlab-other")
        link = Link((one, "wire"), (other, "wire"), **properties)
        made.extend([link, one, other])
        one.ip("address add 11.7.0.1 peer 11.7.0.2 dev wire")
        other.ip("address add 11.7.0.2 peer 11.7.0.1 dev wire")
        return [end.socket(socket.SOCK_DGRAM, (address, 5000)) for end, address in ((one, "11.7.0.1"), (other, "11.7.0.2"))]

    yield make
    for each in made:
        each.close()


def one_way(sender, receiver):
    began = time.monotonic()
    sender.sendto(b"x", receiver.getsockname())
    assert arrived([receiver], 2, bool), "nothing arrived"
    return (time.monotonic() - began) * 1000


def test_delay_is_never_less_and_acts_both_ways(ends):
    near, far = ends(delay=30)
    for sender, receiver in ((near, far), (far, near)):
        times = [one_way(sender, receiver) for _ in range(10)]
        assert 30 <= min(times) < 45  # the least, as the machine also does other things


def test_loss_is_near_what_was_asked_for_and_the_same_in_each_run(ends):
    near, far = ends(loss=20)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    for number in range(1000):
        near.sendto(b"%d" % number, far.getsockname())
    count = len(arrived([far], 2, lambda found: len(found) == 1000))
    assert 740 <= count <= 860


def test_rate_and_queue(ends):
    # 1 Mbit/s is 125 packets of 1,000 octets a second, and 16 KiB of queue hold some 16 of them.
    near, far = ends(rate=1, queue=16)
    for _ in range(200):
        near.sendto(bytes(972), far.getsockname())
    began = time.monotonic()
    found = arrived([far], 3, lambda found: time.monotonic() > began + 1)
    assert 14 <= len(found) <= 40
    assert time.monotonic() - began >= 0.1
