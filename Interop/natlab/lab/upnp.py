"""miniupnpd on a router: UPnP IGD, NAT-PMP and PCP."""

import pathlib
import shutil
import subprocess
import tempfile
import time

RULES = """
table inet miniupnpd {
    chain prerouting { type nat hook prerouting priority dstnat - 10; jump mapped; }
    chain postrouting { type nat hook postrouting priority srcnat - 10; jump answered; }
    chain mapped { }
    chain answered { }
}
"""

CONFIGURATION = """
ext_ifname=wan
{v6}
listening_ip=lan
http_port=5000
enable_natpmp={natpmp}
enable_upnp={upnp}
secure_mode=yes
min_lifetime=20
max_lifetime=86400
uuid=6f7c2bd4-0f5e-4d55-9b5c-6d6172746c65
upnp_table_name=filter
upnp_nat_table_name=miniupnpd
upnp_forward_chain=pinholes
upnp_nat_chain=mapped
upnp_nat_postrouting_chain=answered
lease_file={directory}/leases
allow 1024-65535 0.0.0.0/0 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


def is_installed():
    return shutil.which("miniupnpd") is not None


class PortMappingDaemon:
    def __init__(self, router, kind):
        self.router, self.kind = router, kind
        self.directory = tempfile.mkdtemp(prefix="natlab-upnp-")
        router.nft(RULES)
        with open(f"{self.directory}/configuration", "w") as file:
            v6 = "ext_ifname6=wan" if kind.has("v6") else "ipv6_disable=yes"
            file.write(CONFIGURATION.format(v6=v6, directory=self.directory, upnp="no" if kind.has("natpmp-only", "pcp-only") else "yes",
                                            natpmp="no" if kind.has("upnp-only") else "yes"))
        self.start()

    def start(self):
        self.log = open(f"{self.directory}/log", "ab")
        self._process = self.router.start("miniupnpd", "-d", "-f", f"{self.directory}/configuration", "-P", f"{self.directory}/pid",
                                          stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        time.sleep(0.2)
        if self._process.poll() is not None:
            raise RuntimeError(f"miniupnpd: {open(f'{self.directory}/log').read()}")

    def stop(self):
        self._process.terminate()
        self._process.wait()
        self.log.close()

    def lose_state(self):
        """As a router that loses power."""
        self.stop()
        for table, chain in (("miniupnpd", "mapped"), ("filter", "pinholes"), ("miniupnpd", "answered")):
            self.router.run("nft", "flush", "chain", "inet", table, chain, check=True)
        pathlib.Path(f"{self.directory}/leases").unlink(missing_ok=True)
        assert self.mappings() == [] and self.pinholes() == []
        self.start()

    def close(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def pinholes(self):
        """The rules by which packets come in to IPv6 addresses now."""
        listed = self.router.run("nft", "list", "chain", "inet", "filter", "pinholes", check=True).stdout
        return [line.strip() for line in listed.splitlines() if "@nh,192,128" in line]

    def mappings(self):
        """The rules by which packets come in now, as nftables prints them."""
        listed = self.router.run("nft", "list", "chain", "inet", "miniupnpd", "mapped", check=True).stdout
        return [line.strip() for line in listed.splitlines() if "dnat" in line]
