"""Every kind of NAT behaves as it is named, by the classifier (RFC 5780's questions)."""

import pytest

from lab.classify import agrees, classify
from lab.kind import BEHAVIOUR, Kind
from lab.topology import Lab


def behaviour(text, lifetime=None):
    with Lab() as lab:
        return classify(lab, lab.site("site", text), lifetime)


@pytest.mark.parametrize("name", BEHAVIOUR)
def test_kind_is_as_named(name):
    found = behaviour(name)
    assert agrees(Kind.parse(name), found), found
    assert found.get("hairpin", False) == (name in ("none", "firewall"))


def test_tcp_is_mapped_as_udp_is():
    found = {name: behaviour(name)["tcp"]["mapping"] for name in ("port-restricted-random", "symmetric-address", "symmetric")}
    assert found == {"port-restricted-random": "endpoint-independent", "symmetric-address": "address-dependent",
                     "symmetric": "address-and-port-dependent"}


@pytest.mark.parametrize("name", ["port-restricted", "full-cone", "port-restricted-random"])
def test_hairpin(name):
    found = behaviour(f"{name}+hairpin")
    assert found["hairpin"] and agrees(Kind.parse(name), found), found


@pytest.mark.parametrize("option, expected", [("", "dropped"), ("+tcp-in-rst", "refused"), ("+tcp-syn-drop", "dropped"),
                                              ("+tcp-syn-rst", "refused")])
def test_a_syn_that_nobody_asked_for(option, expected):
    assert behaviour(f"port-restricted{option}")["tcp"]["uninvited"] == expected


def test_an_unused_mapping_is_forgotten_after_its_timeout():
    assert behaviour("full-cone+udp-timeout=2", lifetime=2)["lifetime"] == {"after_half": True, "after_twice": False}


@pytest.mark.parametrize("option", ["cgn", "cgn-hairpin"])
def test_behind_a_carrier_the_carriers_nat_shows(option):
    found = behaviour(f"full-cone+{option}")
    assert agrees(Kind.parse(f"full-cone+{option}"), found), found
    assert found["udp"]["external"][0].startswith("11.7.90.1:")


def test_a_name_that_is_no_kind_is_refused():
    for text in ("open", "symmetric+upnp=1", "port-restricted+udp-timeout", "full-cone+fast"):
        with pytest.raises(ValueError):
            Kind.parse(text)
