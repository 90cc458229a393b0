"""A UDP forwarder between a client and a server, which sees their packets and can give the client another address."""

import selectors
import socket
import threading


class Forwarder:
    """Clients send to `port`; `to_server` and `to_client` hold the first byte and the length of each packet that passed."""

    def __init__(self, server_port):
        self._server = ("127.0.0.1", server_port)
        self._front = self._open(0)
        self._back = self._open(0)
        self._client, self._is_over = None, False
        self.port = self._front.getsockname()[1]
        self.to_server, self.to_client = [], []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @staticmethod
    def _open(port):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            made.setsockopt(socket.SOL_SOCKET, option, 1 << 22)
        made.bind(("127.0.0.1", port))
        made.setblocking(False)
        return made

    def rebind(self):
        """From the client's next packet on, its packets come from another port, and what is sent to the old one is lost. (Were the
        old one closed before, a client that waits for the server could wait for ever: neither would know how to reach the other.)"""
        self._fresh = self._open(0)

    def end(self):
        self._is_over = True
        self._thread.join()

    _fresh = None

    def _run(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self._front, selectors.EVENT_READ)
            selector.register(self._back, selectors.EVENT_READ)
            while not self._is_over:
                for source in [key.fileobj for key, _ in selector.select(0.05)]:
                    if source is self._front and self._fresh:
                        selector.unregister(self._back)
                        self._back.close()
                        self._back, self._fresh = self._fresh, None
                        selector.register(self._back, selectors.EVENT_READ)
                    if source.fileno() >= 0:
                        self._forward(source)
        self._front.close()
        self._back.close()

    def _forward(self, source):
        for _ in range(64):
            try:
                packet, sender = source.recvfrom(65536)
                if source is self._front:
                    self._client = sender
                    self.to_server.append((packet[0], len(packet)))
                    self._back.sendto(packet, self._server)
                elif self._client:
                    self.to_client.append((packet[0], len(packet)))
                    self._front.sendto(packet, self._client)
            except BlockingIOError:
                return
            except ConnectionError:
                pass  # nobody is there at the moment
