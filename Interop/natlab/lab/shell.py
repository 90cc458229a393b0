"""`natlab.sh shell KIND…`: a shell beside a lab with a site of each kind."""

import argparse
import os
import subprocess

from .topology import RELAY, Lab


def main(words):
    parser = argparse.ArgumentParser(prog="natlab shell", description="A shell beside a lab with a site of each given kind.")
    parser.add_argument("kinds", nargs="+", metavar="KIND")
    parser.add_argument("--delay", type=float, default=20, help="of each site's line, one way, in milliseconds (20)")
    options = parser.parse_args(words)
    with Lab(options.delay) as lab:
        print(f"relay ({', '.join(RELAY)}): nsenter --net={lab.relay.path} COMMAND")
        for index, kind in enumerate(options.kinds):
            site = lab.site(f"site{index + 1}", kind)
            print(f"{kind}, seen as {site.wan}: nsenter --net={site.host.path} COMMAND; its router: --net={site.router.path}")
        return subprocess.run([os.environ.get("SHELL", "bash")]).returncode
