"""The lab: an internet, public hosts on it, and sites behind routers of every kind.

    internet ── 11.7.1.1 … 11.7.4.1   relay      no delay
       │ ├───── 11.7.5.1 …            observer   no delay
       │ └───── 11.7.N.1   site: the host itself (kind none), or a router and 192.168.1.0/24 behind it
       └─────── 11.7.N.1   carrier, 100.64.0.0/24 behind it, homes' routers there

Every site's line has a delay (20 ms one way). All sites have the same private network, as homes do."""

import dataclasses

from .kind import Kind, rules
from .link import Link
from .namespace import Namespace
from .upnp import PortMappingDaemon

RELAY = ["11.7.1.1", "11.7.2.1", "11.7.3.1", "11.7.4.1"]
OBSERVER = ["11.7.5.1", "11.7.6.1"]
CARRIER = "100.64.0"


@dataclasses.dataclass
class Site:
    name: str
    kind: Kind
    number: int
    router: Namespace  # of kind none: the host
    hosts: list
    wan: str  # the address of the router's (or host's) interface `wan`
    addresses: list  # of the hosts
    line: Link = None
    port_mapping: PortMappingDaemon = None
    addresses6: list = dataclasses.field(default_factory=list)  # those of the hosts by IPv6, where there is any

    @property
    def host(self):
        return self.hosts[0]

    @property
    def address(self):
        return self.addresses[0]

    def refuse(self, peer):
        """From now on the router drops every packet from or to the address `peer`, without a word."""
        _drop(self.router, peer)

    def change_address(self):
        """The provider gives the router another address: every mapping is gone. For kinds whose rules do not name the address."""
        network, _, last = self.wan.rpartition(".")
        new = f"{network}.{int(last) + 1}"
        self.router.ip(f"address add {new}/24 dev wan", f"address delete {self.wan}/24 dev wan", f"address replace {new}/24 dev wan",
                       "route replace default dev wan")
        self.wan = new

    def take_in(self, guest, last=10):
        """The host of the site `guest` is unplugged there and plugged in here instead of this site's own, where it has the address
        that ends with `last`: by default the one that hosts have at every site."""
        self.unplug()
        guest.unplug()
        prefix = self.address.rpartition(".")[0]
        name, here = guest.host.name, f"{prefix}.{last}"
        self.router.ip(f"link add lan0 type veth peer name eth0 netns {name}", "link set dev lan0 master lan up")
        guest.host.ip("link set dev eth0 up", f"address add {here}/24 dev eth0", f"route add default via {prefix}.1")
        self.hosts[0], self.addresses[0] = guest.host, here

    def unplug(self):
        """The first host's cable is taken out, if it is in."""
        self.router.run("ip", "link", "delete", "lan0")

    def accept_again(self):
        self.router.nft("delete table inet cut")


def _drop(namespace, address):
    """Has a namespace that forwards lose every packet from or to an address, until its table `cut` is deleted."""
    namespace.nft(f"""table inet cut {{
        chain forward {{
            type filter hook forward priority filter - 5;
            ip saddr {address} drop
            ip daddr {address} drop
        }}
    }}""")


class Lab:
    """`with Lab() as lab:`; everything is gone at the end, as the process's own namespaces end with it (enter.sh)."""

    def __init__(self, delay=20, rate=1000, loss=0, queue=1024):
        self.line = {"delay": delay, "rate": rate, "loss": loss, "queue": queue}
        self.namespaces, self.links, self.daemons, self.sites = [], [], [], []
        self.internet = self._namespace("internet", forwards=True)
        self.relay = self._public("relay", 1, RELAY)
        self.observer = self._public("observer", 5, OBSERVER)
        self._carrier = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for daemon in self.daemons:
            daemon.close()
        for link in self.links:
            link.close()
        for namespace in self.namespaces:
            namespace.close()
        self.daemons, self.links, self.namespaces = [], [], []

    def cut(self, address):
        """From now on the internet loses every packet from or to this address, without a word."""
        _drop(self.internet, address)

    def _namespace(self, name, forwards=False):
        namespace = Namespace(f"natlab-{name}")
        self.namespaces.append(namespace)
        if forwards:
            namespace.setting("net/ipv4/ip_forward", 1)
            namespace.setting("net/ipv6/conf/all/forwarding", 1)
        return namespace

    def _public(self, name, number, addresses):
        """A host that is on the internet with several addresses (in different /24) and without delay."""
        host = self._namespace(name)
        self.internet.ip(
            f"link add up{number} type veth peer name wan netns {host.name}", f"link set dev up{number} up",
            f"address add 11.7.{number}.254/24 dev up{number}", f"address add 2600:7:{number}::fe/64 dev up{number} nodad",
            *[f"route add {address}/32 via {addresses[0]} dev up{number}" for address in addresses[1:]])
        host.ip("link set dev wan up", f"address add {addresses[0]}/24 dev wan", f"address add 2600:7:{number}::1/64 dev wan nodad",
                *[f"address add {address}/32 dev wan" for address in addresses[1:]],
                f"route add default via 11.7.{number}.254", f"route add ::/0 via 2600:7:{number}::fe")
        host.settle()
        return host

    def _line(self, router, number):
        """The interface `wan` of a router: 11.7.NUMBER.1, with the delay of the lab."""
        link = Link((self.internet, f"up{number}"), (router, "wan"), seed=number, **self.line)
        self.links.append(link)
        self.internet.ip(f"address add 11.7.{number}.254/24 dev up{number}", f"address add 2600:7:{number}::fe/64 dev up{number}")
        router.ip(f"address add 11.7.{number}.1/24 dev wan", "route add default dev wan")
        return link

    def _lan(self, name, router, prefix, count, v6=None):
        """A bridge `lan` at `prefix`.1 and `count` hosts from `prefix`.10 on."""
        router.ip("link add lan type bridge", "link set dev lan up", f"address add {prefix}.1/24 dev lan",
                  *([f"address add {v6}::1/64 dev lan", "address add fe80::1/64 dev lan"] if v6 else []))
        hosts = []
        for index in range(count):
            host = self._namespace(f"{name}-{index + 1}")
            router.ip(f"link add lan{index} type veth peer name eth0 netns {host.name}", f"link set dev lan{index} master lan up")
            host.ip("link set dev eth0 up", f"address add {prefix}.{10 + index}/24 dev eth0", f"route add default via {prefix}.1",
                    # As routers announce themselves: at their link-local address.
                    *([f"address add {v6}::{10 + index}/64 dev eth0", "route add ::/0 via fe80::1 dev eth0"] if v6 else []))
            hosts.append(host)
        return hosts, [f"{prefix}.{10 + index}" for index in range(count)]

    def site(self, name, kind, hosts=1):
        kind = Kind.parse(kind) if isinstance(kind, str) else kind
        number = 10 + len(self.sites)
        router = self._namespace(name if kind.name == "none" else f"{name}-router", forwards=kind.name != "none")
        link = None
        if kind.is_behind_carrier:
            carrier = self._carrier or self._start_carrier(kind.has("cgn-hairpin"))
            wan = f"{CARRIER}.{number}"
            carrier.ip(f"link add home{number} type veth peer name wan netns {router.name}", f"link set dev home{number} master lan up")
            router.ip("link set dev wan up", f"address add {wan}/24 dev wan", f"route add default via {CARRIER}.1")
        else:
            wan = f"11.7.{number}.1"
            link = self._line(router, number)
        if kind.name == "none":
            router.ip(f"address add 2600:7:{number}::1/64 dev wan", "route add ::/0 dev wan")
            made = Site(name, kind, number, router, [router], wan, [wan], link)
        else:
            made = self._behind(name, kind, number, router, wan, hosts, link)
        self.sites.append(made)
        for namespace in (router, *made.hosts, self.internet, *([self._carrier] if self._carrier else [])):
            namespace.settle()
        return made

    def _behind(self, name, kind, number, router, wan, hosts, link):
        prefix, v6 = "192.168.1", None
        if kind.name == "firewall":
            prefix = f"11.7.{100 + number}"
            self.internet.ip(f"route add {prefix}.0/24 dev up{number}")
        if kind.has("v6"):
            v6 = f"2600:7:{100 + number}"
            router.ip(f"address add 2600:7:{number}::1/64 dev wan", "route add ::/0 dev wan")
            self.internet.ip(f"route add {v6}::/64 dev up{number}")
        made, addresses = self._lan(name, router, prefix, hosts, v6)
        self._translate(router, kind, wan, f"{prefix}.0/24")
        site = Site(name, kind, number, router, made, wan, addresses, link,
                    addresses6=[f"{v6}::{10 + index}" for index in range(hosts)] if v6 else [])
        if kind.maps_ports:
            site.port_mapping = PortMappingDaemon(router, kind)
            self.daemons.append(site.port_mapping)
        return site

    def _start_carrier(self, has_hairpin):
        number = 90
        router = self._namespace("carrier", forwards=True)
        self._line(router, number)
        self._lan("carrier", router, CARRIER, 0)
        self._translate(router, Kind.parse("port-restricted-random" + ("+hairpin" if has_hairpin else "")), f"11.7.{number}.1",
                        f"{CARRIER}.0/24")
        self._carrier = router
        return router

    @staticmethod
    def _translate(router, kind, wan, lan):
        router.nft(rules(kind, wan, lan))
        if timeout := kind.value("udp-timeout", None):
            router.setting("net/netfilter/nf_conntrack_udp_timeout", timeout)
            router.setting("net/netfilter/nf_conntrack_udp_timeout_stream", timeout)
