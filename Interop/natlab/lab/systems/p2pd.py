"""go-libp2p's daemon, from Interop/.venv: as a relay, and as a node behind a NAT.

A node starts to punch only once four observers at four addresses have seen it at the same one, and takes a relay at once only
if it has four to choose from: so there are four."""

import time

from ..topology import RELAY
from .system import PEERS, PYTHON, Outcome, System


class P2PDRelay(System):
    name = "p2pd"
    addresses = RELAY[:1]
    relay_options = ()

    @staticmethod
    def missing():
        return None if PYTHON.exists() else "p2pd is not installed: run Interop/setup.sh"

    def start_relay(self):
        relays = [self.program(self.lab.relay, [PYTHON, PEERS / "p2pd_relay.py", *self.listen_addresses(address), *self.relay_options],
                               f"relay-{address}")
                  for address in self.addresses]
        return relays[0], [each for relay in relays for each in relay.wait_for("ready", 20)["addrs"]]


class P2PD(P2PDRelay):
    addresses = RELAY

    def _pair(self, *words):
        return [PYTHON, PEERS / "p2pd_pair.py", *words, "--listen", *self.listen_addresses()]

    def start_node(self, site, relays, name="target"):
        node = self.program(site.host, self._pair("listen", *relays), name)
        return node, node.wait_for("ready", 60)["peer"]

    def dial(self, site, relays, peer, seconds):
        began = time.monotonic()
        dialing = self.program(site.host, self._pair("dial", *relays, "--target", peer, "--seconds", seconds), "dialer")
        outcome = Outcome()
        while line := dialing.next(began + seconds + 60):
            said = line[1]
            outcome.path, outcome.error = said.get("path"), said.get("error")
            outcome.first_answer_ms = said.get("answer_ms", outcome.first_answer_ms)
            outcome.upgrade_ms = said.get("direct_ms", outcome.upgrade_ms)
            outcome.answers = outcome.first_answer_ms is not None
            outcome.transport = {"udp": "quic", "tcp": "tcp"}[self.transports[0]]
        return outcome
