"""Many py-libp2p hosts in one process, each with one idle connection to an address: who serves them is what is measured.

Prints {"connected": N} when all are there and have been identified, and holds them until its standard input ends."""

import logging
import sys
from contextlib import AsyncExitStack

import trio

from measure import arguments, say

from libp2p import new_host
from libp2p.identity.identify import identify
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr


async def ignore(stream):
    try:
        while await stream.read(1 << 16):
            pass
    except Exception:
        pass


async def main(options):
    identify.PROTOCOL_VERSION = "/lattica/1.0.0"  # or a Lattica node would send everybody away
    info = info_from_p2p_addr(Multiaddr(options.address))
    async with AsyncExitStack() as stack:
        for _ in range(options.count):
            host = new_host()
            host.set_stream_handler("/ipfs/bitswap/1.2.0", ignore)
            await stack.enter_async_context(host.run(listen_addrs=[]))
            await host.connect(info)
        await trio.sleep(2)
        say(connected=options.count)
        await trio.to_thread.run_sync(sys.stdin.read)


logging.disable(logging.CRITICAL)
trio.run(main, arguments())
