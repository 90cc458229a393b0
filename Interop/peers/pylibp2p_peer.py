"""py-libp2p as a peer of the interop tests (see ../README.md)."""

import logging
import os
import sys
import time
from contextlib import AsyncExitStack

import trio
from libp2p import new_host
from libp2p.identity.identify import identify
from libp2p.network.stream.exceptions import StreamEOF, StreamError, StreamReset
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.relay.circuit_v2.config import RelayConfig
from libp2p.relay.circuit_v2.protocol import CircuitV2Protocol
from libp2p.relay.circuit_v2.resources import RelayLimits
from libp2p.relay.circuit_v2.transport import CircuitV2Transport
from libp2p.stream_muxer.exceptions import MuxedStreamEOF
from libp2p.tools.anyio_service import background_trio_service
from libp2p.transport.quic.config import QUICTransportConfig
from libp2p.transport.quic.exceptions import QUICStreamClosedError
from libp2p.transport.quic.stream import QUICStream, _QUICStreamEOF
from multiaddr import Multiaddr

import common


quic_read = QUICStream.read


async def read_whole(self, n=None):
    """An end that comes while a read begins hides what came with it, and the end of a stream that this side has finished too is
    raised as if the stream could not be read."""
    try:
        return await quic_read(self, n)
    except (MuxedStreamEOF, QUICStreamClosedError):
        if self.is_reset() or not self._read_closed:
            raise
        if self._receive_buffer:
            return self._extract_data_from_buffer(-1 if n is None else n)
        raise _QUICStreamEOF() from None


QUICStream.read = read_whole


async def read_some(stream, limit):
    """b"" at the end of the stream; a reset raises StreamReset."""
    try:
        return await stream.read(limit)
    except StreamEOF:
        # A reset that arrives while a read waits is raised as an end of file; the stream underneath knows better.
        if getattr(stream.muxed_stream, "reset_received", False):
            raise StreamReset() from None
        return b""


async def read_exactly(stream, count):
    data = bytearray()
    while len(data) < count:
        chunk = await read_some(stream, min(count - len(data), 1 << 18))
        if not chunk:
            raise EOFError(f"ended after {len(data)} of {count} bytes")
        data += chunk
    return bytes(data)


async def read_to_end(stream):
    data = bytearray()
    while chunk := await read_some(stream, 1 << 18):
        data += chunk
    return bytes(data)


async def write_all(stream, data):
    for at in range(0, len(data), 1 << 16):
        await stream.write(data[at : at + (1 << 16)])


async def read_identify(host, peer):
    stream = await host.new_stream(peer, [common.IDENTIFY])
    message = await read_to_end(stream)
    await stream.close()
    size, at = common.read_varint(message, 0)
    return common.identify_fields(message[at : at + size])


class Listener:
    def __init__(self, host):
        self.last_end, self.ended = "none", trio.Event()
        host.set_stream_handler(common.ECHO, self.echo)
        host.set_stream_handler(common.HALF_CLOSE, self.half_close)
        host.set_stream_handler(common.RESET, self.reset)
        host.set_stream_handler(common.LATTICA_UNARY, self.lattica_unary)
        # A Lattica node asks for bitswap again at once, some 1,300 times a second, until it is accepted.
        host.set_stream_handler("/ipfs/bitswap/1.2.0", read_to_end)

    async def echo(self, stream):
        try:
            while data := await read_some(stream, 1 << 18):
                await stream.write(data)
            await stream.close()
        except StreamReset:
            pass

    async def half_close(self, stream):
        data = await read_to_end(stream)
        await stream.write(common.digest(data))
        await stream.close()

    async def lattica_unary(self, stream):
        await write_all(stream, common.rpc_serve(await read_to_end(stream)))
        await stream.close()

    async def reset(self, stream):
        order = await read_exactly(stream, 1)
        if order == common.RESET_YOURSELF:
            await stream.reset()
        elif order == common.RESET_BY_DIALER:
            self.ended = trio.Event()
            await stream.write(common.RESET_READY)
            try:
                await read_to_end(stream)
                self.last_end = "eof"
                await stream.close()
            except StreamReset:
                self.last_end = "reset"
            self.ended.set()
        elif order == common.RESET_HOW:
            with trio.move_on_after(5):
                await self.ended.wait()
            await stream.write(self.last_end.encode())
            await stream.close()


class Dialer:
    def __init__(self, host, options, peer):
        self.host, self.options, self.peer = host, options, peer

    async def handshake(self):
        connection = self.host.get_network().get_connections(self.peer)[0]
        return {"muxer": type(connection.muxed_conn).__name__.lower()}

    async def identify(self):
        return await read_identify(self.host, self.peer)

    async def ping(self):
        times = []
        stream = await self.host.new_stream(self.peer, [common.PING])
        for _ in range(self.options.count):
            payload = os.urandom(32)
            began = time.monotonic()
            await stream.write(payload)
            if await read_exactly(stream, 32) != payload:
                raise ValueError("another payload came back")
            times.append(time.monotonic() - began)
        await stream.close()
        return {"rtt_us": common.microseconds(sorted(times)[len(times) // 2])}

    async def echo(self, count=None):
        data = common.pattern(count or self.options.bytes)
        stream = await self.host.new_stream(self.peer, [common.ECHO])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_all, stream, data)
            answer = await read_exactly(stream, len(data))
        await stream.close()
        if common.digest(answer) != common.digest(data):
            raise ValueError("other bytes came back")
        return {"bytes": len(data)}

    async def streams(self):
        async with trio.open_nursery() as nursery:
            for _ in range(self.options.count):
                nursery.start_soon(self.echo, 1024)
        return {"streams": self.options.count}

    async def half_close(self):
        data = common.pattern(self.options.bytes)
        stream = await self.host.new_stream(self.peer, [common.HALF_CLOSE])
        await write_all(stream, data)
        await stream.close_write()
        answer = await read_to_end(stream)
        return {"bytes": len(data), "ok": answer == common.digest(data)}

    async def lattica_unary(self):
        """Against a Lattica node: its RPC is one request, half-close, one answer."""
        data = common.pattern(self.options.bytes)
        stream = await self.host.new_stream(self.peer, [common.LATTICA_UNARY])
        await write_all(stream, common.rpc_request("Interop.echo", data))
        await stream.close_write()
        answer = common.rpc_answer(await read_to_end(stream))
        return {"bytes": len(data), "ok": answer == data}

    async def reset_by_listener(self):
        stream = await self.host.new_stream(self.peer, [common.RESET])
        await stream.write(common.RESET_YOURSELF)
        try:
            await read_to_end(stream)
            ended = "eof"
        except (StreamReset, StreamError):
            ended = "reset"
        return {"ended": ended, "ok": ended == "reset"}

    async def reset_by_dialer(self):
        stream = await self.host.new_stream(self.peer, [common.RESET])
        await stream.write(common.RESET_BY_DIALER)
        await read_exactly(stream, 1)
        await stream.reset()
        stream = await self.host.new_stream(self.peer, [common.RESET])
        await stream.write(common.RESET_HOW)
        seen = (await read_to_end(stream)).decode()
        return {"ended": seen, "ok": seen == "reset"}

    async def wait(self):
        common.say(event="connected", peer=self.host.get_id().to_string())
        await trio.to_thread.run_sync(sys.stdin.read)
        return {}

    async def refused(self):
        try:
            await self.host.new_stream(self.peer, [common.NOWHERE])
        except Exception as error:
            return {"refusal": f"{type(error).__name__}: {error.__cause__ or error}"}
        raise ValueError("a protocol that nobody serves was accepted")


def make_host(address, **arguments):
    if "/quic-v1" not in address:
        return new_host(**arguments)
    # It grants the sender more whether or not anybody reads, and drops without a word what arrives beyond this many bytes.
    config = QUICTransportConfig(MAX_STREAM_RECEIVE_BUFFER=1 << 30)
    return new_host(enable_quic=True, quic_transport_opt=config, **arguments)


def set_network(options):
    identify.PROTOCOL_VERSION = options.network  # what a Lattica node looks at


async def connected_peer(host, name):
    """The peer may think itself connected a moment before this host does."""
    with trio.fail_after(5):
        while True:
            for peer in host.get_connected_peers():
                if peer.to_string() == name:
                    return peer
            await trio.sleep(0.01)


def circuits(host, serves):
    """Its circuit relay, as server or client. Not on by itself."""
    limits = RelayLimits(duration=3600, data=1 << 30, max_circuit_conns=64, max_reservations=64)
    return CircuitV2Protocol(host, limits, allow_hop=serves)


async def listen(options):
    set_network(options)
    host = make_host(options.listen, listen_addrs=[Multiaddr(options.listen)])
    async with host.run(listen_addrs=[Multiaddr(options.listen)]), AsyncExitStack() as stack:
        Listener(host)
        if os.environ.get("PYLIBP2P_RELAY"):
            await stack.enter_async_context(background_trio_service(circuits(host, serves=True)))
        addresses = [str(each) for each in host.get_transport_addrs()]
        peer = host.get_id().to_string()
        common.say(event="ready", peer=peer, addrs=[f"{each}/p2p/{peer}" for each in addresses])
        async for line in trio.wrap_file(sys.stdin):
            command, name = line.split()
            if command == "identify":
                try:
                    peer_id = await connected_peer(host, name)
                    fields = await read_identify(host, peer_id)
                    common.say(scenario="identify", ok=True, **fields)
                except Exception as error:
                    common.say(scenario="identify", ok=False, error=repr(error))
    return 0


async def dial(options):
    """The verdict as (fields, error): trio wraps what happens inside of a nursery in an exception group."""
    set_network(options)
    host = make_host(options.address)
    host.set_stream_handler("/ipfs/bitswap/1.2.0", read_to_end)
    async with host.run(listen_addrs=[]):
        relay, is_circuit, _ = options.address.partition("/p2p-circuit")
        await host.connect(info_from_p2p_addr(Multiaddr(relay)))
        info = info_from_p2p_addr(Multiaddr(options.address))
        if is_circuit:
            # Its host dials no such address by itself; its transport does.
            protocol = circuits(host, serves=False)
            async with background_trio_service(protocol):
                await protocol.event_started.wait()
                transport = CircuitV2Transport(host, protocol, RelayConfig())
                await transport.dial(Multiaddr(options.address))
                return await getattr(Dialer(host, options, info.peer_id), options.scenario.replace("-", "_"))()
        return await getattr(Dialer(host, options, info.peer_id), options.scenario.replace("-", "_"))()


def innermost(error):
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def main():
    logging.disable(logging.ERROR)  # what goes wrong is in the verdict
    options = common.arguments("py-libp2p")
    if options.mode == "listen":
        return trio.run(listen, options)

    def run():
        try:
            return trio.run(dial, options)
        except BaseExceptionGroup as group:
            raise innermost(group) from group

    return common.report(options.scenario, run)


if __name__ == "__main__":
    sys.exit(main())
