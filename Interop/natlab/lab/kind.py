"""What a NAT does, as a name with options ("port-restricted+hairpin+udp-timeout=10"), and the nftables rules that do it.

Terms are RFC 4787's: mapping (which destinations share one external port) and filtering (whose packets come in)."""

import dataclasses

# name: (mapping, external port, filtering), as the classifier has to find them. None: no UDP passes at all.
BEHAVIOUR = {
    "none": ("no translation", "preserved", "none"),
    "firewall": ("no translation", "preserved", "address and port"),
    "full-cone": ("endpoint-independent", "preserved", "none"),
    "address-restricted": ("endpoint-independent", "preserved", "address"),
    "port-restricted": ("endpoint-independent", "preserved", "address and port"),
    "port-restricted-open": ("endpoint-independent", "preserved", "address and port"),
    "port-restricted-random": ("endpoint-independent", "random", "address and port"),
    "symmetric-address": ("address-dependent", "random", "address and port"),
    "symmetric-seq": ("address-and-port-dependent", "sequential", "address and port"),
    "symmetric": ("address-and-port-dependent", "random", "address and port"),
    "symmetric-full-cone": ("address-and-port-dependent", "random", "none"),
    "udp-blocked": None,
}

# Those of the table in the README, in its order.
COMMON = ["none", "full-cone", "address-restricted", "port-restricted", "port-restricted-random", "symmetric-seq", "symmetric",
          "udp-blocked"]
# Those of the table of what systems reach: behind a carrier's NAT and behind a firewall without translation, too.
MATRIX = COMMON + ["port-restricted+cgn", "firewall+v6"]

# option: what it is; those with a default take a value.
OPTIONS = {
    "hairpin": "packets from inside to an own external port come back in",
    "tcp-in-rst": "a SYN that nobody asked for is refused; without it, dropped",
    "tcp-syn-drop": "drops every SYN from outside, also one that crosses our own",
    "tcp-syn-rst": "refuses every SYN from outside, also one that crosses our own",
    "udp-timeout": "seconds after which an unused mapping is forgotten",
    "upnp": "the router maps ports on request: UPnP, NAT-PMP and PCP",
    "upnp-only": "only by UPnP",
    "natpmp-only": "only by NAT-PMP",
    "pcp-only": "only by PCP",
    "v6": "IPv6 without translation, behind a firewall that lets in what belongs to flows from inside",
    "cgn": "behind a carrier's NAT without hairpinning, too; sites of one lab share it",
    "cgn-hairpin": "behind a carrier's NAT with hairpinning, too",
}


@dataclasses.dataclass(frozen=True)
class Kind:
    name: str
    options: tuple = ()  # pairs (option, value or None), in the order given

    @classmethod
    def parse(cls, text):
        name, *words = text.split("+")
        if name not in BEHAVIOUR:
            raise ValueError(f"there is no NAT kind {name!r}: {', '.join(BEHAVIOUR)}")
        options = []
        for word in words:
            option, _, value = word.partition("=")
            if option not in OPTIONS or bool(value) != (option == "udp-timeout"):
                raise ValueError(f"{word!r} is no option of a NAT kind: {', '.join(OPTIONS)} (udp-timeout=SECONDS)")
            options.append((option, int(value) if value else None))
        return cls(name, tuple(options))

    def __str__(self):
        return "+".join([self.name] + [option if value is None else f"{option}={value}" for option, value in self.options])

    def has(self, *options):
        return any(option in options for option, _ in self.options)

    def value(self, option, otherwise):
        return dict(self.options).get(option, otherwise)

    @property
    def is_translated(self):
        return self.name not in ("none", "firewall")

    @property
    def is_behind_carrier(self):
        return self.has("cgn", "cgn-hairpin")

    @property
    def mapping_depends(self):
        """Whether an external port that one server sees says nothing of the port that another peer will see."""
        return "symmetric" in self.name

    @property
    def filtering(self):
        return "address and port" if self.is_behind_carrier else BEHAVIOUR[self.name][2]

    @property
    def maps_ports(self):
        return self.has("upnp", "upnp-only", "natpmp-only", "pcp-only")


def rules(kind, wan, lan):
    """The ruleset of a router with the interfaces `wan` and `lan`, whose addresses (`lan` with its prefix) are given."""
    return "\n".join([_filter(kind), _refusals(kind)] + ([_translation(kind, wan, lan)] if kind.is_translated else []))


def _filter(kind):
    extra = 'iifname "wan" meta l4proto tcp tcp flags & (syn|ack) == syn reject with tcp reset' if kind.has("tcp-in-rst") else ""
    return f"""
table inet filter {{
    chain input {{
        type filter hook input priority filter; policy {"accept" if kind.name == "port-restricted-open" else "drop"};
        {'iifname "lan" udp dport 5351 @th,64,8 2 drop' if kind.has("natpmp-only") else ""}
        {'iifname "lan" udp dport 5351 @th,64,8 0 drop' if kind.has("pcp-only") else ""}
        {'iifname "lan" udp dport 5351 drop' if kind.has("upnp-only") else ""}
        {'iifname "lan" udp dport 1900 drop' if kind.has("natpmp-only", "pcp-only") else ""}
        ct state established,related accept
        iifname != "wan" accept
        icmp type echo-request accept
        icmpv6 type {{ echo-request, nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert }} accept
        {extra}
    }}
    chain forward {{
        type filter hook forward priority filter; policy drop;
        {"meta l4proto udp drop" if kind.name == "udp-blocked" else ""}
        ct state established,related accept
        iifname != "wan" accept
        meta nfproto ipv6 icmpv6 type {{ destination-unreachable, packet-too-big, time-exceeded, echo-request }} accept
        ct status dnat accept
        jump pinholes
    }}
    # What miniupnpd lets in by IPv6: to accept in a table of its own would not keep this one from dropping it.
    chain pinholes {{ }}
}}"""


def _refusals(kind):
    if not kind.has("tcp-syn-drop", "tcp-syn-rst"):
        return ""
    verdict = "drop" if kind.has("tcp-syn-drop") else "reject with tcp reset"
    return f"""
table inet refusals {{
    chain prerouting {{
        type filter hook prerouting priority mangle;
        iifname "wan" tcp flags & (syn|ack) == syn {verdict}
    }}
}}"""


# What a packet that leaves is translated to.
_ports = "meta l4proto { tcp, udp }"
_masquerade = {
    # The port is kept while it is free.
    "port-restricted": 'oifname "wan" masquerade',
    # An inside endpoint that has a mapping within the range keeps it, so mapping does not depend on the destination; two
    # ranges, because a port that lies within the range would be kept.
    "port-restricted-random": f'oifname "wan" {_ports} th sport 10000-30000 masquerade to :40000-60000\n'
                              f'oifname "wan" {_ports} masquerade to :10000-30000\noifname "wan" masquerade',
    # This flag also makes every flow get a mapping of its own.
    "symmetric": 'oifname "wan" masquerade fully-random',
}
_masquerade |= dict.fromkeys(["full-cone", "address-restricted", "port-restricted-open", "udp-blocked"],
                             _masquerade["port-restricted"])
_masquerade["symmetric-full-cone"] = _masquerade["symmetric"]


def _source(kind, wan):
    if kind.name in _masquerade:
        return _masquerade[kind.name]
    ports = ", ".join(f"{number} : {wan} . {20000 + number}" for number in range(4096))
    if kind.name == "symmetric-seq":
        return f'oifname "wan" {_ports} snat ip to numgen inc mod 4096 map {{ {ports} }}\noifname "wan" masquerade'
    assert kind.name == "symmetric-address"
    return "\n".join(f'oifname "wan" meta l4proto {protocol} snat ip to jhash ip saddr . {protocol} sport . ip daddr mod 4096 '
                     f'seed 0x6d61 map {{ {ports} }}' for protocol in ("udp", "tcp")) + '\noifname "wan" masquerade'


def _translation(kind, wan, lan):
    """Mappings are kept in `cone` where packets may come in by them: from outside (only UDP) or, with hairpinning, from
    inside. `seen` has the outside addresses that a mapping was used for."""
    timeout = kind.value("udp-timeout", 120)
    lets_in = kind.name in ("full-cone", "address-restricted", "symmetric-full-cone")
    into, after, hairpin = "", "", ""
    if lets_in:
        known = "meta l4proto . th dport . ip saddr @seen " if kind.name == "address-restricted" else ""
        into = (f'iifname "wan" ip daddr {wan} meta l4proto udp {known}'
                "dnat ip to meta l4proto . th dport map @cone")
    if kind.has("hairpin"):
        into += f'\niifname != "wan" ip daddr {wan} {_ports} dnat ip to meta l4proto . th dport map @cone'
        hairpin = f'oifname != "wan" ct status dnat ip saddr {lan} snat ip to {wan}'
    if lets_in or kind.has("hairpin"):
        protocols = _ports if kind.has("hairpin") else "meta l4proto udp"
        after = "\n".join(
            f'oifname "wan" {protocols} ct direction {direction} update @cone '
            f"{{ meta l4proto . th sport : ct {direction} ip saddr . ct {direction} proto-src }}"
            for direction in ("original", "reply"))
        after += f'\noifname "wan" {protocols} update @seen {{ meta l4proto . th sport . ip daddr }}'
    return f"""
table ip translation {{
    map cone {{
        type inet_proto . inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout {timeout}s; size 65535;
    }}
    set seen {{ type inet_proto . inet_service . ipv4_addr; flags dynamic,timeout; timeout {timeout}s; size 65535; }}
    chain prerouting {{
        type nat hook prerouting priority dstnat;
        {into}
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        {hairpin}
        {_source(kind, wan)}
    }}
    chain after {{
        type filter hook postrouting priority srcnat + 10;
        {after}
    }}
}}"""
