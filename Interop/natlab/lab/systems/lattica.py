"""Lattica nodes; from Interop/.venv."""

import time

from .system import PEERS, PYTHON, Outcome, System


class Lattica(System):
    name = "lattica"

    @staticmethod
    def missing():
        return None if PYTHON.exists() else "Lattica is not installed: run Interop/setup.sh"

    def _pair(self, *words):
        return [PYTHON, PEERS / "lattica_pair.py", *words, "--listen", *self.listen_addresses()]

    def start_node(self, site, relays, name="target"):
        node = self.program(site.host, self._pair("listen", relays[0]), name)
        return node, node.wait_for("ready", 20)["peer"]

    def dial(self, site, relays, peer, seconds):
        began = time.monotonic()
        dialing = self.program(site.host, self._pair("dial", relays[0], "--target", peer, "--seconds", seconds), "dialer")
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
