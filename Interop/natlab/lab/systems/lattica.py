"""Lattica nodes with go-libp2p's daemon as relay; both from Interop/.venv."""

import time

from .system import PEERS, PYTHON, Outcome, System


class Lattica(System):
    name = "lattica"

    @staticmethod
    def missing():
        return None if PYTHON.exists() else "Lattica is not installed: run Interop/setup.sh"

    def start_relay(self):
        relay = self.program(self.lab.relay, [PYTHON, PEERS / "p2pd_relay.py", *self.listen_addresses("11.7.1.1")], "relay")
        return relay, relay.wait_for("ready", 20)["addrs"]

    def _pair(self, *words):
        return [PYTHON, PEERS / "lattica_pair.py", *words, "--listen", *self.listen_addresses()]

    def start_node(self, site, relay, name="target"):
        node = self.program(site.host, self._pair("listen", relay), name)
        return node, node.wait_for("ready", 20)["peer"]

    def dial(self, site, relay, peer, seconds):
        began = time.monotonic()
        dialing = self.program(site.host, self._pair("dial", relay, "--target", peer, "--seconds", seconds), "dialer")
        outcome, relayed_at = Outcome(), None
        while line := dialing.next(began + seconds + 20):
            at, said = line
            if "answered" in said:
                outcome.path, outcome.answers = said["path"], said["answered"]
                outcome.error = (said["error"] or "").split("\\n")[0].strip('"') or None
                break
            outcome.transport = said["transport"]
            if said["path"] == "relayed":
                relayed_at = at
                outcome.first_answer_ms = said["ms"]
            elif relayed_at:
                outcome.upgrade_ms = round((at - relayed_at) * 1000)
        return outcome
