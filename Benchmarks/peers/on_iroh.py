"""iroh (QUIC), its Python binding, no relays and no discovery: the address is given."""

import asyncio
import sys
import time

import iroh

from measure import Stopwatch, arguments, say

ALPN = b"bench/1"


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


class Creator(iroh.ProtocolCreator):
    def create(self, endpoint):
        return Echo()


async def endpoint(protocols=None):
    return await iroh.Endpoint.bind(
        iroh.EndpointOptions(
            preset=iroh.preset_minimal(), bind_addr="127.0.0.1:0", relay_mode=iroh.RelayMode.disabled(), protocols=protocols
        )
    )


async def main(options):
    iroh.iroh_ffi.uniffi_set_event_loop(asyncio.get_running_loop())
    if options.mode == "serve":
        server = await endpoint({ALPN: Creator()})
        port = next(each for each in server.bound_sockets() if each.startswith("127."))
        say(address=f"{port}#{server.id()}")
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await server.close()
        return
    where, name = options.address.split("#")
    target = iroh.EndpointAddr(iroh.EndpointId.from_string(name), None, [where])
    client = await endpoint()

    async def open_stream():
        connection = await client.connect(target, ALPN)
        return connection, await connection.open_bi()

    async def exchange(stream, payload):
        began = time.perf_counter()
        await stream.send().write_all(payload)
        await stream.recv().read_exact(len(payload))
        return time.perf_counter() - began

    times = []
    if options.mode == "ping":
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
