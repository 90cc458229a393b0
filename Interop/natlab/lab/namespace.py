"""A network namespace: commands, sockets and settings inside it."""

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
import time

DIRECTORY = "/run/netns"
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
_lock = threading.RLock()


def _set_namespace(descriptor):
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")


class Namespace:
    def __init__(self, name):
        self.name = name
        self.path = f"{DIRECTORY}/{name}"
        subprocess.run(["ip", "netns", "add", name], check=True)
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self.ip("link set lo up")
        # IP hooks of nftables must not see what the bridge of a LAN only passes on; the LAN would not be one.
        self.setting("net/bridge/bridge-nf-call-iptables", 0, may_lack=True)
        self.setting("net/bridge/bridge-nf-call-ip6tables", 0, may_lack=True)
        self.setting("net/ipv6/conf/all/accept_dad", 0)
        self.setting("net/ipv6/conf/default/accept_dad", 0)

    def close(self):
        os.close(self._descriptor)
        subprocess.run(["ip", "netns", "delete", self.name], check=False)

    @contextlib.contextmanager
    def entered(self):
        """This thread is in the namespace meanwhile: what it opens there (sockets, files of /proc/sys/net) stays there."""
        with _lock:
            _set_namespace(self._descriptor)
            try:
                yield
            finally:
                _set_namespace(_home)

    def setting(self, name, value, may_lack=False):
        with self.entered():
            try:
                with open(f"/proc/sys/{name}", "w") as file:
                    file.write(str(value))
            except FileNotFoundError:
                if not may_lack:
                    raise

    def ip(self, *lines):
        self._fed(["ip", "-batch", "-"], "\n".join(lines) + "\n")

    def nft(self, rules):
        self._fed(["nft", "-f", "-"], rules)

    def settle(self, seconds=5):
        """Waits until all devices are up: they come up a little after they are told to, and drop what is sent before."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            listed = self.run("ip", "-oneline", "link", "show", check=True).stdout
            if not any(word in listed for word in ("state DOWN", "NO-CARRIER", "state LOWERLAYERDOWN")):
                return
            time.sleep(0.005)
        raise RuntimeError(f"{self.name}: devices do not come up: {listed}")

    def _fed(self, command, text):
        done = subprocess.run(self.command(*command), input=text, text=True, capture_output=True)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(command)}: {done.stderr.strip()}\n{text}")

    def command(self, *words):
        return ["nsenter", f"--net={self.path}", "--", *map(str, words)]

    def run(self, *words, **options):
        return subprocess.run(self.command(*words), text=True, capture_output=True, **options)

    def start(self, *words, **options):
        return subprocess.Popen(self.command(*words), **options)

    def socket(self, kind, address=("", 0), reuse=False):
        """A bound IPv4 socket that does not block."""
        with self.entered():
            made = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        if reuse:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(address)
        return made
