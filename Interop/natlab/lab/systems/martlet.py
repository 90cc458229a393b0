"""Martlet: `martlet relay` on the relay, `martlet node --relay` on the target, `martlet ping --until direct` on the dialer."""

import os
import pathlib
import time

from .system import ROOT, Outcome, System

BINARY = pathlib.Path(os.environ.get("MARTLET", ROOT / ".build" / "release" / "martlet"))


class Martlet(System):
    name = "martlet"
    network = ()
    relay_options = ()

    @staticmethod
    def missing():
        return None if BINARY.exists() else f"there is no {BINARY}: run make build"

    def command(self, name, *words):
        return [BINARY, *words, "--data-dir", self.folder / f"{name}.data", "--json", "--log-level", "debug"]

    def options(self, option, addresses):
        return [word for address in addresses for word in (option, address)]

    def start_relay(self, name="relay"):
        """A second start has the same identity and so the same addresses."""
        listen = self.options("--listen", self.listen_addresses("11.7.1.1"))
        relay = self.program(self.lab.relay, self.command(name, "relay", *listen, *self.relay_options, *self.network), name)
        relay.wait_for("ready", 20)
        return relay, [said["address"] for said in relay.heard if said.get("event") == "listening"]

    def start_node(self, site, relays, name="target", host=None):
        node = self.program(host or site.host, self.command(
            name, "node", *self.options("--listen", self.listen_behind(site)), *self.options("--relay", relays),
            *self.network), name)
        peer = node.wait_for("ready", 20)["peer"]
        # A public node is ready without a relay; here everybody is dialed through one.
        if not any(said.get("event") == "reserved" for said in node.heard):
            node.wait_for("reserved", 20)
        return node, peer

    def dial(self, site, relays, peer, seconds, name="dialer"):
        before = self.waited()
        began = time.monotonic()
        listen = self.options("--listen", self.listen_behind(site, port=0))
        dialing = self.program(site.host, self.command(
            name, "ping", f"{relays[0]}/p2p-circuit/p2p/{peer}", "--until", "direct", "--timeout", seconds, *listen, *self.network), name)
        outcome, was_relayed = Outcome(), False
        while line := dialing.next(began + seconds + 20):
            at, said = line
            if "error" in said:
                outcome.error = said["error"].get("message")
            if outcome.first_answer_ms is None and "rtt_us" in said:
                outcome.first_answer_ms = round((at - began) * 1000)
                outcome.waited_ms = {each: waited - before.get(each, 0) for each, waited in self.waited().items()}
            if "path" in said:
                outcome.path = said["path"]
                outcome.transport = said.get("transport", outcome.transport)
                was_relayed = was_relayed or said["path"] == "relayed"
                if said.get("direct_ms") is not None and was_relayed:
                    outcome.upgrade_ms = round(said["direct_ms"] - said["connect_ms"])
            outcome.answers = outcome.path is not None
        return outcome


class MartletBesideLattica(Martlet):
    """Lattica nodes talk to nothing that does not name their network."""

    network = ("--network", "/lattica/1.0.0")
