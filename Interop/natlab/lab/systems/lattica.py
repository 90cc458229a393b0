"""Lattica nodes with go-libp2p's daemon as relay; both from Interop/.venv."""

import time

from .system import PEERS, PYTHON, Outcome, System


class Lattica(System):
    name = "lattica"

    @staticmethod
    def missing():
        return None if PYTHON.exists() else "Lattica is not installed: run Interop/setup.sh"

    def reach(self, dialer, target, seconds):
        relay = self.program(self.lab.relay, [PYTHON, PEERS / "p2pd_relay.py", *self.listen_addresses("11.7.1.1")], "relay")
        marks = {"udp": "/quic-v1/p2p", "tcp": "/tcp/4001/p2p"}
        addresses = [each for mark in (marks[way] for way in self.transports)
                     for each in relay.wait_for("ready", 20)["addrs"] if mark in each][:1]
        listen = ["--listen", *self.listen_addresses()]
        pair = [PYTHON, PEERS / "lattica_pair.py"]
        waiting = self.program(target.host, [*pair, "listen", *addresses, *listen], "target")
        peer = waiting.wait_for("ready", 20)["peer"]
        began = time.monotonic()
        dialing = self.program(dialer.host, [*pair, "dial", *addresses, "--target", peer, "--seconds", seconds, *listen], "dialer")
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
