"""Small helpers over sockets of several namespaces that are used in one process."""

import errno
import select
import socket
import struct
import time

PENDING = (0, errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK)


def arrived(sockets, seconds, until=lambda found: False):
    """What arrives within that time: a list of (socket, datagram, sender). Ends early once `until(list)` holds."""
    found, deadline = [], time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and not until(found):
        for ready in select.select(sockets, [], [], left)[0]:
            try:
                found.append((ready, *ready.recvfrom(2048)))
            except OSError:
                pass  # an ICMP error of something sent before
    return found


def source_seen(sender, server, seconds=1.0):
    """Sends a datagram to `server` (a socket here), again if need be, and says from where it came, or None if none did."""
    token = b"natlab %d" % time.monotonic_ns()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        sender.sendto(token, server.getsockname())
        for _, datagram, source in arrived([server], 0.25, lambda found: any(each[1] == token for each in found)):
            if datagram == token:
                return source
    return None


def gets_through(sender, destination, receiver, seconds=0.4):
    """Whether a datagram that `sender` sends to `destination` arrives at `receiver`, both sockets here."""
    token = b"natlab %d" % time.monotonic_ns()
    try:
        sender.sendto(token, destination)
    except OSError:
        return False
    return any(each[1] == token for each in arrived([receiver], seconds, lambda found: any(each[1] == token for each in found)))


def connect(connecting, address, seconds=1.0):
    """Connects a socket that does not block: None once connected, else what failed ("timed out", "Connection refused", …)."""
    result = connecting.connect_ex(address)
    if result not in PENDING:
        return errno.errorcode[result]
    if not select.select([], [connecting], [], seconds)[1]:
        return "ETIMEDOUT"
    result = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return None if result == 0 else errno.errorcode[result]


def accept(listener, seconds=1.0):
    """The next connection of a listener and its source; the connecting side is done a little before this one."""
    if not select.select([listener], [], [], seconds)[0]:
        raise TimeoutError("no connection arrived")
    return listener.accept()


def reset(used):
    """Closes a TCP socket so that nothing of it stays: no FIN, no waiting for late segments."""
    used.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    used.close()
