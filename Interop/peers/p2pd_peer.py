"""go-libp2p's `p2pd` as a peer of the interop tests (see ../README.md)."""

import os
import sys
import threading
import time

import common
from common import Unsupported
from p2pd_control import Daemon, DaemonError, receive_exactly

NO_HALF_CLOSE = "p2pd closes both directions of a stream as soon as one of them ends"


def copy_in_background(stream, data):
    """Writes while the caller reads: an echo of more than the windows hold would stop otherwise."""
    thread = threading.Thread(target=stream.sendall, args=(data,), daemon=True)
    thread.start()
    return thread


class Listener:
    def __init__(self, daemon):
        self.daemon = daemon
        self.last_end, self.ended = "none", threading.Event()
        daemon.handle(common.ECHO, self.echo)
        daemon.handle(common.RESET, self.reset)

    def echo(self, stream, peer):
        while data := stream.recv(1 << 18):
            stream.sendall(data)

    def reset(self, stream, peer):
        # Looked at but left unread: closing a socket over unread bytes is what makes the daemon reset its stream.
        order = stream.recv(1, 2)  # MSG_PEEK
        if order == common.RESET_YOURSELF:
            return
        stream.recv(1)
        if order == common.RESET_BY_DIALER:
            mark = len(self.daemon.log())
            self.ended.clear()
            stream.sendall(common.RESET_READY)
            while stream.recv(1):
                pass
            self.last_end = how_it_ended(self.daemon, mark)
            self.ended.set()
        elif order == common.RESET_HOW:
            self.ended.wait(5)
            stream.sendall(self.last_end.encode())
            # Closing makes the daemon reset the stream, and over QUIC the reset overtakes the answer: the dialer closes first,
            # or has had time to read when it waits for the end.
            stream.settimeout(1)
            try:
                stream.recv(1)
            except TimeoutError:
                pass


def how_it_ended(daemon, mark):
    """A stream's end reaches the client as end of file in either case: only the daemon's debug log tells them apart."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        tail = daemon.log()[mark:]
        if '"error": "stream reset"' in tail:
            return "reset"
        if "use of closed network connection" in tail:
            return "eof"
        time.sleep(0.01)
    return "unknown"


def wait_for(daemon, peer):
    """The peer may think itself connected a moment before the daemon does."""
    deadline = time.monotonic() + 5
    while peer not in daemon.peers() and time.monotonic() < deadline:
        time.sleep(0.01)


def read_identify(daemon, peer):
    with daemon.open_stream(peer, common.IDENTIFY) as stream:
        message = b""
        while data := stream.recv(1 << 16):
            message += data
    size, at = common.read_varint(message, 0)
    return common.identify_fields(message[at : at + size])


class Dialer:
    def __init__(self, daemon, options):
        self.daemon, self.options = daemon, options
        self.peer = common.peer_of(options.address)
        daemon.connect(options.address)

    def handshake(self):
        return {"ok": self.peer in self.daemon.peers()}

    def identify(self):
        return read_identify(self.daemon, self.peer)

    def ping(self):
        times = []
        with self.daemon.open_stream(self.peer, common.PING) as stream:
            for _ in range(self.options.count):
                payload = os.urandom(32)
                began = time.monotonic()
                stream.sendall(payload)
                if receive_exactly(stream, 32) != payload:
                    raise ValueError("another payload came back")
                times.append(time.monotonic() - began)
        return {"rtt_us": common.microseconds(sorted(times)[len(times) // 2])}

    def echo(self, count=None):
        data = common.pattern(count or self.options.bytes)
        with self.daemon.open_stream(self.peer, common.ECHO) as stream:
            writer = copy_in_background(stream, data)
            answer = receive_exactly(stream, len(data))
            writer.join()
        if common.digest(answer) != common.digest(data):
            raise ValueError("other bytes came back")
        return {"bytes": len(data)}

    def streams(self):
        failures = []

        def one():
            try:
                self.echo(1024)
            except Exception as error:
                failures.append(repr(error))

        threads = [threading.Thread(target=one) for _ in range(self.options.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise RuntimeError(f"{len(failures)} of {len(threads)} streams failed, first {failures[0]}")
        return {"streams": len(threads)}

    def half_close(self):
        raise Unsupported(NO_HALF_CLOSE)

    def reset_by_listener(self):
        mark = len(self.daemon.log())
        with self.daemon.open_stream(self.peer, common.RESET) as stream:
            stream.sendall(common.RESET_YOURSELF)
            stream.recv(1)
        ended = how_it_ended(self.daemon, mark)
        return {"ended": ended, "ok": ended == "reset"}

    def reset_by_dialer(self):
        stream = self.daemon.open_stream(self.peer, common.RESET)
        stream.sendall(common.RESET_BY_DIALER)
        # The ready byte is left unread and the socket closed over it, so that the daemon resets the stream.
        stream.recv(1, 2)
        stream.close()
        with self.daemon.open_stream(self.peer, common.RESET) as stream:
            stream.sendall(common.RESET_HOW)
            seen = stream.recv(64).decode()
        return {"ended": seen, "ok": seen == "reset"}

    def wait(self):
        common.say(event="connected", peer=self.daemon.peer)
        sys.stdin.read()
        return {}

    def refused(self):
        try:
            self.daemon.open_stream(self.peer, common.NOWHERE).close()
        except DaemonError as error:
            return {"refusal": str(error)}
        raise ValueError("a protocol that nobody serves was accepted")


def main():
    options = common.arguments("go-libp2p's p2pd")
    extra = os.environ.get("P2PD_OPTIONS", "").split()
    if options.mode == "listen":
        with Daemon(options.listen, extra) as daemon:
            Listener(daemon)
            common.say(event="ready", peer=daemon.peer, addrs=[f"{each}/p2p/{daemon.peer}" for each in daemon.addresses])
            for line in sys.stdin:
                command, peer = line.split()
                if command == "identify":
                    wait_for(daemon, peer)
                    common.report("identify", lambda: read_identify(daemon, peer))
        return 0

    def run():
        with Daemon(options=extra) as daemon:
            return getattr(Dialer(daemon, options), options.scenario.replace("-", "_"))()

    return common.report(options.scenario, run)


if __name__ == "__main__":
    sys.exit(main())
