"""The plain reference puncher: what is possible between two NATs, without any of Martlet's code.

Both ends learn from servers where they are seen, exchange that (here: at once), and send at the same time. The time is from
the exchange until both have heard from the other."""

import dataclasses
import random
import select
import socket
import time

from .classify import Servers, allocation
from .sockets import PENDING, accept, connect, reset, source_seen

INTERVAL = 0.02  # between two packets to the same place, and between two attempts of TCP
GUESSING_SOCKETS = 256
GUESSES_PER_INTERVAL = 20
HELLO, ANSWER = b"natlab hello", b"natlab answer"


@dataclasses.dataclass
class End:
    """One end of a UDP punch."""

    sockets: list
    external: tuple  # where servers saw it
    is_guessed: bool = False  # whether its port is not the one that servers saw
    next_ports: list = dataclasses.field(default_factory=list)
    targets: set = dataclasses.field(default_factory=set)
    has_answer: bool = False


def punch_udp(lab, one, other, guesses=False, seconds=2.0):
    """Milliseconds, or None if there was no way within that time."""
    servers = Servers(lab)
    ends = [_udp_end(site, servers, guesses) for site in (one, other)]
    try:
        if None in ends:
            return None
        for end, peer in (ends, ends[::-1]):
            end.targets.add(peer.external)
        if guesses and ends[0].is_guessed != ends[1].is_guessed:
            hidden, open_end = ends if ends[0].is_guessed else ends[::-1]
            site = one if hidden is ends[0] else other
            hidden.sockets += [site.host.socket(socket.SOCK_DGRAM) for _ in range(GUESSING_SOCKETS - 1)]
            open_end.next_ports = hidden.next_ports + random.sample(range(1024, 65536), 64512)
            hidden.next_ports = []
        return _exchange(ends, seconds)
    finally:
        servers.close()
        for end in ends:
            for used in end.sockets if end else []:
                used.close()


def _udp_end(site, servers, guesses):
    own = site.host.socket(socket.SOCK_DGRAM)
    sources = [source_seen(own, server) for server in (servers.udp if guesses else servers.udp[:1])]
    if None in sources:
        own.close()
        return None
    end = End([own], sources[-1], len(set(sources)) > 1)
    if end.is_guessed and allocation(own.getsockname()[1], sources) == "sequential":
        end.next_ports = [sources[-1][1] + step for step in range(1, 600)]
    return end


def _exchange(ends, seconds):
    began = time.monotonic()
    due = began
    owner = {each: end for end in ends for each in end.sockets}
    while not all(end.has_answer for end in ends) and (now := time.monotonic()) < began + seconds:
        if now >= due:
            due += INTERVAL
            for end, peer in (ends, ends[::-1]):
                _send(end, peer)
        for ready in select.select(list(owner), [], [], max(0, due - time.monotonic()))[0]:
            _receive(ready, owner[ready])
    return round((time.monotonic() - began) * 1000) if all(end.has_answer for end in ends) else None


def _send(end, peer):
    # Of many sockets, each opens its own way once in ten intervals; they count as one sender.
    turn = end.sockets if len(end.sockets) == 1 else random.sample(end.sockets, GUESSING_SOCKETS // 4)
    for used in turn:
        for target in end.targets:
            _try_send(used, HELLO, target)
    for port in end.next_ports[:GUESSES_PER_INTERVAL]:
        _try_send(end.sockets[0], HELLO, (peer.external[0], port))
    end.next_ports = end.next_ports[GUESSES_PER_INTERVAL:]


def _receive(ready, end):
    try:
        datagram, source = ready.recvfrom(2048)
    except OSError:
        return
    if datagram == HELLO:
        if len(end.sockets) == 1:
            end.targets.add(source)
        _try_send(ready, ANSWER, source)
    elif datagram == ANSWER:
        end.has_answer = True
        _try_send(ready, ANSWER, source)


def _try_send(used, datagram, target):
    try:
        used.sendto(datagram, target)
    except OSError:
        pass  # a refusal that came back for an earlier one, or a full queue


class TCPEnd:
    def __init__(self, site, server):
        first = site.host.socket(socket.SOCK_STREAM, reuse=True)
        self.site, self.local = site, first.getsockname()
        if error := connect(first, server.getsockname(), 3.0):
            raise OSError(error)
        accepted, self.external = accept(server)
        self.kept = [first, accepted]
        self.listener = site.host.socket(socket.SOCK_STREAM, self.local, reuse=True)
        self.listener.listen(4)
        self.connecting, self.began, self.established, self.has_heard = None, 0, [], False

    def attempt(self, target):
        """Connects, at once again after a refusal, and anew when nothing came for a while."""
        now = time.monotonic()
        if self.connecting is not None:
            if now - self.began < 0.25:
                return
            self.connecting.close()
        self.connecting, self.began = self.site.host.socket(socket.SOCK_STREAM, self.local, reuse=True), now
        if self.connecting.connect_ex(target) not in PENDING:
            self._drop_attempt()

    def settle(self):
        """The attempt is over, well or not."""
        if self.connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            self._use(self.connecting)
            self.connecting = None
        else:
            self._drop_attempt()

    def _drop_attempt(self):
        self.connecting.close()
        self.connecting = None

    def take(self):
        try:
            self._use(self.listener.accept()[0])
        except OSError:
            pass

    def _use(self, connection):
        connection.setblocking(False)
        self.established.append(connection)
        try:
            connection.send(HELLO)
        except OSError:
            pass

    def close(self):
        for used in self.kept + self.established + [self.listener] + ([self.connecting] if self.connecting else []):
            reset(used)


def punch_tcp(lab, one, other, seconds=2.0):
    servers = Servers(lab)
    ends = []
    try:
        for site, server in ((one, servers.tcp[0]), (other, servers.tcp[0])):
            ends.append(TCPEnd(site, server))
        return _open_both(ends, seconds)
    finally:
        for end in ends:
            end.close()
        servers.close()


def _open_both(ends, seconds):
    began = time.monotonic()
    while not all(end.has_heard for end in ends) and time.monotonic() < began + seconds:
        for end, peer in (ends, ends[::-1]):
            if not end.established:
                end.attempt(peer.external)
        reading = {each: end for end in ends for each in end.established + [end.listener]}
        writing = {end.connecting: end for end in ends if end.connecting}
        readable, writable, _ = select.select(list(reading), list(writing), [], INTERVAL)
        for ready in writable:
            writing[ready].settle()
        for ready in readable:
            end = reading[ready]
            if ready is end.listener:
                end.take()
                continue
            try:
                end.has_heard = end.has_heard or ready.recv(64).startswith(HELLO)
            except OSError:
                end.established.remove(ready)
                ready.close()
    return round((time.monotonic() - began) * 1000) if all(end.has_heard for end in ends) else None
