"""go-libp2p's daemon `p2pd` (taken from hivemind's wheel) and its control protocol over a Unix socket.

Control: varint-length-delimited protobuf, one request and one response a connection. A connection that opened a stream
becomes that stream's bytes; for an incoming stream the daemon connects to the socket its handler named, and sends one
StreamInfo message before the stream's bytes.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import base58
from multiaddr import Multiaddr

from common import decode, encode, peer_of, read_varint, varint

# Request.type
IDENTIFY, CONNECT, STREAM_OPEN, STREAM_HANDLER, LIST_PEERS, DISCONNECT = 0, 1, 2, 3, 5, 7


class DaemonError(Exception):
    pass


def daemon_binary():
    package = Path(importlib.util.find_spec("hivemind").origin).parent
    return package / "hivemind_cli" / "p2pd"


def unix_multiaddr(path):
    # Go keeps the path's leading slash in the binary form, which the Python library leaves out.
    return varint(400) + varint(len(str(path))) + str(path).encode()


def receive_exactly(connection, count):
    data = bytearray()
    while len(data) < count:
        chunk = connection.recv(min(count - len(data), 1 << 20))
        if not chunk:
            raise EOFError(f"ended after {len(data)} of {count} bytes")
        data += chunk
    return bytes(data)


def receive_message(connection):
    prefix = b""
    while not prefix or prefix[-1] >= 0x80:
        prefix += receive_exactly(connection, 1)
    return decode(receive_exactly(connection, read_varint(prefix, 0)[0]))


class Daemon:
    """A running p2pd. `listen` None makes one that only dials."""

    def __init__(self, listen=None, options=()):
        self.folder = Path(tempfile.mkdtemp(prefix="p2pd-"))
        self.control = self.folder / "control"
        self.log_path = self.folder / "log"
        hosts = ["-hostAddrs", listen] if listen else ["-noListenAddrs"]
        command = [str(daemon_binary()), "-listen", f"/unix{self.control}", *hosts, "-natPortMap=false", "-relay=false"]
        # The daemon says only in its debug log whether a stream ended or was reset.
        levels = os.environ.get("P2PD_LOG", "error,p2pd=debug")
        environment = dict(os.environ, GOLOG_LOG_LEVEL=levels, GOLOG_LOG_FMT="nocolor")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command + list(options), stdout=log, stderr=log, env=environment)
        self._await_control()
        identity = self._identity()
        self.peer = base58.b58encode(identity[1][0]).decode()
        self.addresses = self.current_addresses()

    def _identity(self):
        return decode(self._request((1, IDENTIFY))[4][0])

    def current_addresses(self):
        """Those that it announces now; relays come and go."""
        return [str(Multiaddr(each)) for each in self._identity().get(2, [])]

    def _await_control(self):
        for _ in range(500):
            if self.process.poll() is not None:
                raise DaemonError(f"p2pd stopped: {self.log()[-500:]}")
            try:
                self._dial_control().close()
                return
            except OSError:
                time.sleep(0.01)
        raise DaemonError("p2pd did not open its control socket")

    def _dial_control(self):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.control))
        return connection

    def _ask(self, connection, *fields):
        message = encode(*fields)
        connection.sendall(varint(len(message)) + message)
        response = receive_message(connection)
        if response[1][0] != 0:
            raise DaemonError(decode(response[2][0])[1][0].decode())
        return response

    def _request(self, *fields):
        with self._dial_control() as connection:
            return self._ask(connection, *fields)

    def connect(self, address, timeout=10):
        transport, peer = Multiaddr(address.rsplit("/p2p/", 1)[0]), base58.b58decode(peer_of(address))
        self._request((1, CONNECT), (2, encode((1, peer), (2, transport.to_bytes()), (3, timeout))))

    def disconnect(self, peer):
        self._request((1, DISCONNECT), (7, encode((1, base58.b58decode(peer)))))

    def _listed(self):
        return [decode(each) for each in self._request((1, LIST_PEERS)).get(6, [])]

    def peers(self):
        return [base58.b58encode(each[1][0]).decode() for each in self._listed()]

    def addresses_of(self, peer):
        """The remote address of each connection with the peer."""
        return [str(Multiaddr(each[2][0])) for each in self._listed() if base58.b58encode(each[1][0]).decode() == peer]

    def open_stream(self, peer, *protocols, timeout=10):
        """A socket that is the stream. Closing its writing end closes the whole stream: see ../README.md."""
        connection = self._dial_control()
        fields = [(1, base58.b58decode(peer))] + [(2, each) for each in protocols] + [(3, timeout)]
        try:
            self._ask(connection, (1, STREAM_OPEN), (3, encode(*fields)))
        except BaseException:
            connection.close()
            raise
        return connection

    def handle(self, protocol, handler):
        """Calls handler(socket, remote peer) on a thread of its own for every incoming stream."""
        path = self.folder / protocol.strip("/").replace("/", "-")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(1024)

        def serve(connection):
            try:
                info = receive_message(connection)
                handler(connection, base58.b58encode(info[1][0]).decode())
            except (OSError, EOFError):
                pass
            finally:
                connection.close()

        def accept():
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        self._request((1, STREAM_HANDLER), (4, encode((1, unix_multiaddr(path)), (2, protocol), (3, False))))

    def log(self):
        return self.log_path.read_text(errors="replace")

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
