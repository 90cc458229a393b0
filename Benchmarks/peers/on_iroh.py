"""iroh (QUIC), its Python binding, no relays and no discovery: the address is given."""

import asyncio
import ctypes
import sys
import time

import iroh

from measure import Stopwatch, arguments, say

ALPN, SINK = b"bench/1", b"bench/sink/1"


def write_at_once(builder, value):
    """The binding copies every byte by a step of Python, 60 times slower than the network: this is its place taken."""
    with builder._reserve(len(value)):
        target = ctypes.addressof(builder.rbuf.data.contents) + builder.rbuf.len
        ctypes.memmove(target, bytes(value), len(value))


iroh.iroh_ffi._UniffiRustBufferBuilder.write = write_at_once


class Echo(iroh.ProtocolHandler):
    def __init__(self):
        self.tasks = set()

    async def accept(self, connection):
        while True:
            try:
                stream = await connection.accept_bi()
            except iroh.IrohError:
                return  # the dialer closed
            task = asyncio.ensure_future(self.echo(stream))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def echo(self, stream):
        sender, receiver = stream.send(), stream.recv()
        try:
            while data := await receiver.read(1 << 16):
                await sender.write_all(data)
            await sender.finish()
        except iroh.IrohError:
            pass

    async def shutdown(self):
        pass


class Sink(Echo):
    """Reads to the end, then answers with one byte."""

    async def echo(self, stream):
        while await stream.recv().read(1 << 20):
            pass
        await stream.send().write_all(b"k")
        await stream.send().finish()


class Creator(iroh.ProtocolCreator):
    def __init__(self, kind):
        self.kind = kind

    def create(self, endpoint):
        return self.kind()


async def endpoint(options, protocols=None):
    return await iroh.Endpoint.bind(
        iroh.EndpointOptions(
            preset=iroh.preset_minimal(), bind_addr=f"{options.host}:0", relay_mode=iroh.RelayMode.disabled(), protocols=protocols
        )
    )


async def main(options):
    iroh.iroh_ffi.uniffi_set_event_loop(asyncio.get_running_loop())
    if options.mode == "serve":
        server = await endpoint(options, {ALPN: Creator(Echo), SINK: Creator(Sink)})
        port = next(each for each in server.bound_sockets() if each.startswith(f"{options.host}:"))
        say(address=f"{port}#{server.id()}")
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await server.close()
        return
    where, name = options.address.split("#")
    target = iroh.EndpointAddr(iroh.EndpointId.from_string(name), None, [where])
    client = await endpoint(options)

    async def open_stream(protocol=ALPN):
        connection = await client.connect(target, protocol)
        return connection, await connection.open_bi()

    async def exchange(stream, payload):
        began = time.perf_counter()
        await stream.send().write_all(payload)
        await stream.recv().read_exact(len(payload))
        return time.perf_counter() - began

    times = []
    if options.mode == "stream":
        _, stream = await open_stream(SINK)
        piece = bytes(1 << 20)
        watch = Stopwatch()
        for at in range(0, options.bytes, len(piece)):
            await stream.send().write_all(piece[: options.bytes - at])
        await stream.send().finish()
        await stream.recv().read_exact(1)
        watch.throughput(options.bytes)
    elif options.mode == "ping":
        _, stream = await open_stream()
        watch = Stopwatch()
        for _ in range(options.count):
            times.append(await exchange(stream, bytes(options.size)))
        watch.latencies(times[options.count // 10 :])
    elif options.mode == "dial":
        watch = Stopwatch()
        for _ in range(options.count):
            began = time.perf_counter()
            connection, stream = await open_stream()
            await exchange(stream, b"?")
            times.append(time.perf_counter() - began)
            connection.close(0, b"")
        watch.latencies(times)
    await client.close()


asyncio.run(main(arguments()))
