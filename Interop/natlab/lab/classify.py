"""Finds out how a NAT behaves, as RFC 5780 does it: from two addresses with two ports each, filtering, ports, hairpinning,
lifetime of mappings. Proves the lab's NATs to be what their names say before anything else is measured behind them."""

import argparse
import json
import socket
import time

from .kind import BEHAVIOUR, Kind
from .sockets import accept, arrived, connect, gets_through, reset, source_seen
from .topology import RELAY, Lab

PORTS = (3478, 3479)


class Servers:
    """Sockets at two addresses of the relay with two ports each."""

    def __init__(self, lab):
        places = [(address, port) for address in RELAY[:2] for port in PORTS]
        self.udp = [lab.relay.socket(socket.SOCK_DGRAM, place) for place in places]
        self.tcp = [lab.relay.socket(socket.SOCK_STREAM, place, reuse=True) for place in places]
        for listener in self.tcp:
            listener.listen(16)

    def close(self):
        for server in self.udp + self.tcp:
            server.close()


def mapping(sources):
    """The kind of mapping, by the sources seen at (A, p), (A, q), (B, p), (B, q)."""
    if len(set(sources)) == 1:
        return "endpoint-independent"
    if sources[0] == sources[1] and sources[2] == sources[3]:
        return "address-dependent"
    return "address-and-port-dependent"


def allocation(local, sources):
    """How external ports are chosen: by the sources of two or more flows in order."""
    ports = [port for _, port in sources]
    if set(ports) == {local}:
        return "preserved"
    steps = [after - before for before, after in zip(ports, ports[1:])]
    return "sequential" if any(steps) and all(0 <= step <= 3 for step in steps) else "random"


def classify(lab, site, lifetime=None):
    """The behaviour of `site`'s router. With `lifetime`, in seconds, also whether mappings live half and twice as long."""
    servers = Servers(lab)
    try:
        found = {"udp": _udp(site, servers), "tcp": _tcp(lab, site, servers)}
        if found["udp"] is not None:
            found["hairpin"] = _hairpin(site, servers)
            if lifetime:
                found["lifetime"] = _lifetime(site, servers, lifetime)
        return found
    finally:
        servers.close()


def _udp(site, servers):
    first = site.host.socket(socket.SOCK_DGRAM)
    sources = [source_seen(first, server) for server in servers.udp]
    if None in sources:
        return None
    is_translated = sources[0][0] != site.address
    other = site.host.socket(socket.SOCK_DGRAM)
    filtered = _filtering(other, servers)
    local = first.getsockname()[1]
    for used in (first, other):
        used.close()
    return {"mapping": mapping(sources) if is_translated else "no translation", "ports": allocation(local, sources),
            "filtering": filtered, "external": [f"{address}:{port}" for address, port in sources]}


def _filtering(sender, servers):
    """Who may send to a mapping that was used to one server only."""
    external = source_seen(sender, servers.udp[0])
    if not gets_through(servers.udp[0], external, sender):
        return "everything"
    other_port, other_address = (gets_through(servers.udp[index], external, sender) for index in (1, 2))
    return {(True, True): "none", (True, False): "address", (False, False): "address and port"}.get(
        (other_port, other_address), "the other address only")


def _tcp(lab, site, servers):
    """Mapping of TCP, and what becomes of a SYN that nobody asked for."""
    own = site.host.socket(socket.SOCK_STREAM, reuse=True)
    local = own.getsockname()
    own.close()
    used, sources = [], []
    for server in servers.tcp:
        connecting = site.host.socket(socket.SOCK_STREAM, local, reuse=True)
        used.append(connecting)
        if error := connect(connecting, server.getsockname()):
            return {"error": error}
        accepted, source = accept(server)
        used.append(accepted)
        sources.append(source)
    listener = site.host.socket(socket.SOCK_STREAM, local, reuse=True)
    listener.listen(1)
    uninvited = _uninvited(lab, sources[-1])
    listener.close()
    for each in used:
        reset(each)
    return {"mapping": mapping(sources) if sources[0][0] != site.address else "no translation",
            "ports": allocation(local[1], sources), "uninvited": uninvited}


def _uninvited(lab, external):
    stranger = lab.observer.socket(socket.SOCK_STREAM)
    error = connect(stranger, external, 0.4)
    stranger.close()
    return {None: "let in", "ECONNREFUSED": "refused", "ETIMEDOUT": "dropped"}.get(error, error)


def _hairpin(site, servers):
    one, other = (site.host.socket(socket.SOCK_DGRAM) for _ in range(2))
    external = source_seen(one, servers.udp[0])
    source_seen(other, servers.udp[0])
    token = b"hairpin"
    other.sendto(token, external)
    came = [source for _, datagram, source in arrived([one], 0.3, lambda found: bool(found)) if datagram == token]
    one.close()
    other.close()
    return bool(came) and came[0][0] == external[0]


def _lifetime(site, servers, seconds):
    """Whether a server still gets through when a mapping was unused for half of `seconds`, and for twice as long."""
    kept = []
    for idle in (seconds / 2, seconds * 2):
        sender = site.host.socket(socket.SOCK_DGRAM)
        external = source_seen(sender, servers.udp[0])
        time.sleep(idle)
        kept.append(gets_through(servers.udp[0], external, sender))
        sender.close()
    return {"after_half": kept[0], "after_twice": kept[1]}


def expected(kind):
    """What `classify` has to find for a kind's UDP."""
    if BEHAVIOUR[kind.name] is None:
        return None
    wanted = dict(zip(("mapping", "ports", "filtering"), BEHAVIOUR[kind.name]))
    if kind.is_behind_carrier:
        wanted |= {"ports": "random", "filtering": "address and port"}
    return wanted


def agrees(kind, found):
    udp = found["udp"]
    wanted = expected(kind)
    return udp is None if wanted is None else udp is not None and all(udp[name] == value for name, value in wanted.items())


def main(words):
    parser = argparse.ArgumentParser(prog="natlab classify", description="Shows how NATs of the given kinds behave.")
    parser.add_argument("kinds", nargs="*", default=list(BEHAVIOUR), metavar="KIND")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(words)
    status = 0
    for text in options.kinds:
        kind = Kind.parse(text)
        with Lab() as lab:
            site = lab.site("site", kind)
            timeout = kind.value("udp-timeout", None)
            found = classify(lab, site, timeout)
        as_named = agrees(kind, found)
        status |= not as_named
        if options.json:
            print(json.dumps({"kind": text, "as_named": as_named, **found}), flush=True)
            continue
        udp = "no UDP passes" if found["udp"] is None else (
            f"{found['udp']['mapping']}, ports {found['udp']['ports']}, filters by {found['udp']['filtering']}")
        tcp = found["tcp"]
        print(f"{text}: {udp}; TCP {tcp.get('mapping', tcp)}, SYN uninvited {tcp.get('uninvited')}; "
              f"hairpin {'yes' if found.get('hairpin') else 'no'}{'' if as_named else ' — NOT what the name says'}", flush=True)
    return status
