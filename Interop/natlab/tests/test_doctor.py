"""What `martlet doctor` finds out behind every kind of NAT, in the terms of RFC 4787, and what it says to people."""

import json

import pytest

from lab import upnp
from lab.moves import until
from lab.systems.martlet import BINARY, Martlet
from lab.topology import Lab

pytestmark = pytest.mark.skipif(Martlet.missing() is not None, reason=Martlet.missing() or "")

BOTH = ("udp", "tcp")
INDEPENDENT, ADDRESS, PORT = "endpointIndependent", "addressDependent", "addressAndPortDependent"

# kind: what UDP is found to be (mapping, filtering, allocation) and how strangers reach the node.
FOUND = {
    "none": ("none", INDEPENDENT, "preserving", "public"),
    "firewall": ("none", PORT, "preserving", "relayed"),
    "full-cone": (INDEPENDENT, INDEPENDENT, "preserving", "public"),
    "address-restricted": (INDEPENDENT, ADDRESS, "preserving", "relayed"),
    "port-restricted": (INDEPENDENT, PORT, "preserving", "relayed"),
    "port-restricted-random": (INDEPENDENT, PORT, "random", "relayed"),
    "symmetric-address": (ADDRESS, PORT, "random", "relayed"),
    "symmetric-seq": (PORT, PORT, "sequential, step 1", "relayed"),
    "symmetric": (PORT, PORT, "random", "relayed"),
    # What one peer sees is open to all while that peer is talked to.
    "symmetric-full-cone": (PORT, INDEPENDENT, "random", "public"),
}


def diagnose(lab, site, *words, seconds=9, status=0):
    """What `martlet doctor` says in a temporary node, to programs and in a run of its own to people."""
    with Martlet(lab, BOTH) as martlet:
        relay = martlet.usable(site, martlet.start_relay()[1])[0]
        command = [BINARY, "doctor", *words, "--data-dir", martlet.folder / "doctor.data", "--timeout", seconds]
        if not words:
            command += ["--relay", relay]
        done = site.host.run(*command, "--json")
        assert done.returncode == status, done.stderr
        martlet.forget_logs()
        return json.loads(done.stdout)


def ask(martlet, site, name, seconds=15):
    """What the node of that name says that runs at a site."""
    done = site.host.run(BINARY, "doctor", "--data-dir", martlet.folder / f"{name}.data", "--timeout", seconds, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def kind(found):
    nat = found["udp"]["nat"]
    return nat["mapping"], nat["filtering"], nat["allocation"], found["reachability"]


@pytest.mark.parametrize("name", FOUND)
def test_kind_is_found_and_named(lab, name):
    found = diagnose(lab, lab.site("site", name))
    assert found["udp"]["state"] == "open"
    assert kind(found) == FOUND[name], found
    assert found["udp"]["hairpin"] == ("unnecessary" if FOUND[name][0] == "none" else "no")
    assert found.get("outer_nat") is None
    if found["reachability"] == "public":
        assert found["remedies"] == [] and "directly" in found["verdict"]
        # From an address that the node had sent nothing to.
        assert any(each["strangers"] for each in found["addresses"] if each["reachability"] == "public")
    else:
        assert found["remedies"] and not any(each["reachability"] == "public" for each in found["addresses"])


@pytest.mark.parametrize("name", ["full-cone+hairpin", "port-restricted+hairpin"])
def test_hairpinning_is_found(lab, name):
    assert diagnose(lab, lab.site("site", name))["udp"]["hairpin"] == "yes"


def test_blocked_udp_is_named_with_what_to_open(lab):
    found = diagnose(lab, lab.site("site", "udp-blocked"), seconds=10)
    assert (found["udp"]["state"], found["reachability"]) == ("blocked", "relayed")
    assert found["reasons"][0].startswith("UDP does not get through")
    assert "11.7.1.1:4001" in found["remedies"][0]


@pytest.mark.parametrize("name", ["port-restricted+cgn", "full-cone+cgn-hairpin"])
def test_a_carriers_nat_is_recognised(lab, name):
    found = diagnose(lab, lab.site("site", name))
    assert found.get("outer_nat") == "carrier"
    assert any("provider" in each for each in found["remedies"])


def test_a_firewall_before_ipv6_is_found(lab):
    found = diagnose(lab, lab.site("site", "port-restricted+v6"), seconds=8)
    ways = {socket["listener"].split("/")[1]: socket for socket in found["sockets"] if "/quic-v1" in socket["listener"]}
    assert ways["ip4"]["nat"]["mapping"] == INDEPENDENT and ways["ip6"]["has_address"]


@pytest.mark.skipif(not upnp.is_installed(), reason="there is no miniupnpd: Scripts/setup.sh --natlab")
def test_a_mapped_port_is_reached_by_strangers_behind_a_nat_that_keeps_them_out(lab):
    found = diagnose(lab, lab.site("site", "port-restricted+upnp"))
    assert found["reachability"] == "public" and found["remedies"] == []
    assert [each["method"] for each in found["forwarded_ports"]] == ["pcp", "pcp"] * (len(found["forwarded_ports"]) // 2)


@pytest.mark.skipif(not upnp.is_installed(), reason="there is no miniupnpd: Scripts/setup.sh --natlab")
@pytest.mark.parametrize("option, method", [("pcp-only", "pcp"), ("upnp-only", "upnp")])
def test_pinholes_are_told_of_and_proved_by_a_stranger(lab, option, method):
    site = lab.site("site", f"symmetric+v6+{option}")
    with Martlet(lab, BOTH) as martlet:
        martlet.start_node(site, martlet.usable(site, martlet.start_relay()[1]), "node")
        found = {}

        def is_proved():
            found.update(ask(martlet, site, "node"))
            return all(each["reachability"] == "public" for each in found["addresses"] if each["address"].startswith("/ip6/"))

        # Each peer is asked about one address in six seconds.
        until(is_proved, 60, "both addresses by IPv6")
        assert {each["method"] for each in found["pinholes"]} == {method} and len(found["pinholes"]) == 2
        assert found["pinhole_failures"] == []
        ours = [each for each in found["addresses"] if each["address"].startswith("/ip6/")]
        assert len(ours) == 2 and {each["origin"] for each in ours} == {"mapped"}
        assert any(each["strangers"] for each in ours), found
        martlet.forget_logs()


def test_a_firewall_that_opens_no_pinholes_is_named(lab):
    found = diagnose(lab, lab.site("site", "port-restricted+v6"), seconds=25)
    assert found["pinholes"] == [] and len(found["pinhole_failures"]) == 2
    assert any("by IPv6" in each for each in found["remedies"]), found


@pytest.mark.parametrize("name, filtering, verdict", [("full-cone", INDEPENDENT, "public"), ("address-restricted", ADDRESS, "private")])
def test_a_second_peer_tells_what_one_with_a_single_address_cannot(lab, name, filtering, verdict):
    """Without a restart: the node meets the second when it has long given up asking the first."""
    site, first, second = lab.site("site", name), lab.site("first", "none"), lab.site("second", "none")
    with Martlet(lab, BOTH) as martlet:
        peers = {}
        for server in (first, second):
            listen = martlet.options("--listen", martlet.listen_addresses(server.wan))
            program = martlet.program(server.host, martlet.command(server.name, "node", *listen), server.name)
            peers[server.name] = f"/ip4/{server.wan}/udp/4001/quic-v1/p2p/{program.wait_for('ready', 20)['peer']}"
        listen = martlet.options("--listen", martlet.listen_behind(site))
        node = martlet.program(site.host, martlet.command("node", "node", *listen, "--peer", peers["first"]), "node")
        node.wait_for("ready", 20)

        until(lambda: ask(martlet, site, "node")["udp"]["state"] == "open", 30, "an answer by UDP")
        before = ask(martlet, site, "node")
        assert (before["udp"]["nat"]["mapping"], before["udp"]["nat"]["filtering"]) == ("unknown", "unknown")
        assert any("second peer" in each for each in before["remedies"]), before
        assert site.host.run(BINARY, "ping", peers["second"], "--count", "1", "--data-dir", martlet.folder / "node.data").returncode == 0
        until(lambda: ask(martlet, site, "node")["udp"]["nat"]["filtering"] == filtering, 60, "the filtering")
        assert ask(martlet, site, "node")["udp"]["nat"]["mapping"] == INDEPENDENT

        def is_judged():
            return any(
                each["reachability"] == verdict for each in ask(martlet, site, "node")["addresses"] if "/udp/4001" in each["address"])

        until(is_judged, 40, "whether strangers reach it")
        martlet.forget_logs()


def peer_report(lab, dialer, target):
    with Martlet(lab, BOTH) as martlet:
        here, there = lab.site("dialer", dialer), lab.site("target", target)
        relays = martlet.start_relay()[1]
        _, peer = martlet.start_node(there, martlet.usable(there, relays))
        found = diagnose_peer(martlet, here, f"{martlet.usable(here, relays)[0]}/p2p-circuit/p2p/{peer}")
        martlet.forget_logs()
        return found


def diagnose_peer(martlet, site, address):
    done = site.host.run(BINARY, "doctor", address, "--data-dir", martlet.folder / "doctor.data", "--timeout", 15, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["peer"]


def test_two_symmetric_nats_are_named_as_what_is_in_the_way(lab):
    found = peer_report(lab, "symmetric", "symmetric")
    assert {each["path"] for each in found["paths"]} == {"relayed"}
    assert found["reasons"][0].startswith("Both sides are behind symmetric NATs")
    assert found["remedies"][0].startswith("Forward a port to one of the two nodes")
    for side in ("local_nat", "remote_nat"):
        assert found["attempts"][-1][side]["mapping"] == PORT


def test_an_attempt_tells_whom_both_nats_let_in():
    """Once each side has found out about its own, which takes longer than the first attempt."""
    with Lab() as lab, Martlet(lab, BOTH) as martlet:
        dialer, target = lab.site("dialer", "symmetric"), lab.site("target", "symmetric-address")
        relays = martlet.start_relay()[1]
        _, peer = martlet.start_node(target, martlet.usable(target, relays))
        martlet.start_node(dialer, martlet.usable(dialer, relays), "doctor")
        circuit = f"{martlet.usable(dialer, relays)[0]}/p2p-circuit/p2p/{peer}"

        def are_told():
            attempt = (diagnose_peer(martlet, dialer, circuit)["attempts"] or [{}])[-1]
            return [attempt.get(side, {}).get("filtering") for side in ("local_nat", "remote_nat")] == [PORT, PORT]

        until(are_told, 40, "the filtering of both sides")
        martlet.forget_logs()


@pytest.mark.parametrize("dialer, target, side", [("udp-blocked", "symmetric", "this side"), ("symmetric", "udp-blocked", "the peer's side")])
def test_the_side_without_udp_is_named(lab, dialer, target, side):
    found = peer_report(lab, dialer, target)
    assert found["reasons"][0].startswith(f"UDP does not get through on {side}"), found
    assert side in found["remedies"][0]


def test_a_peer_that_is_not_there_is_told_by_the_status(lab):
    with Martlet(lab, BOTH) as martlet:
        site = lab.site("site", "port-restricted")
        done = site.host.run(BINARY, "doctor", "/ip4/11.7.5.1/tcp/9", "--data-dir", martlet.folder / "doctor.data", "--timeout", 2, "--json")
        assert done.returncode == 2, done.stderr
        assert json.loads(done.stdout)["peer"]["error"]
        martlet.forget_logs()
