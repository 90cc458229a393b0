"""Lattica's RPC as its own applications use it: decorated methods, pickled arguments (see ../README.md)."""

import os
import sys
import tempfile
import threading
import time

import lattica_peer  # first: it keeps standard output for the JSON lines
from lattica import ConnectionHandler, rpc_method, rpc_stream, rpc_stream_iter

import common

# What pickles can carry between the two.
VALUES = [
    None,
    True,
    0,
    -1,
    2**31,
    -(2**63),
    2**64 - 1,
    -(2**200),
    1.5,
    float("inf"),
    "",
    "grüße 😀\n\0",
    b"\0\xff",
    [],
    [1, [2, "three"], []],
    (),
    (1,),
    (1, 2, 3, 4),
    {},
    {"node_id": "12D3", "rtts": {"a": 0.25}, "layers": (0, 15), "ready": True, "parent": None},
    {1: "one", (2, "b"): [None]},
    list(range(3000)),
    "x" * 100_000,
]

cancelled = threading.Semaphore(0)


class Calls(ConnectionHandler):
    @rpc_method
    def echo(self, value):
        return value

    @rpc_method
    def pair(self, a, b):
        return {"a": a, "b": b}

    @rpc_method
    def nothing(self):
        return None

    @rpc_method
    def fail(self, value):
        raise ValueError(f"no model called {value}")

    @rpc_method
    def was_cancelled(self):
        """Whether a call of `endless` was, within a few seconds."""
        return cancelled.acquire(timeout=5)

    @rpc_stream
    def echo_stream(self, value):
        return value

    @rpc_stream
    def fail_stream(self, value):
        raise ValueError(f"no model called {value}")

    @rpc_stream_iter
    def count(self, number):
        for index in range(number):
            yield f"item {index}"

    @rpc_stream_iter
    def endless(self):
        try:
            while True:
                yield b"x" * 1000
        finally:
            cancelled.release()


class Scenarios:
    """What a Lattica node does with the service `Calls` of another."""

    def __init__(self, node, options):
        dialer = lattica_peer.Dialer(node, options)  # waits until the peer has passed the gate
        self.options = options
        self.client = dialer.client
        self.stub = Calls(node).get_stub(dialer.peer)

    def rpc_values(self):
        for value in VALUES:
            for method in (self.stub.echo, self.stub.echo_stream):
                answer = method(value).result(timeout=30)
                if answer != value or type(answer) is not type(value):
                    raise ValueError(f"{value!r:.80} came back as {answer!r:.80}")
        if self.stub.nothing().result(timeout=30) is not None:
            raise ValueError("nothing came back as something")
        return {"values": len(VALUES)}

    def rpc_arguments(self):
        expected = {"a": 1, "b": [2]}
        for answer in (self.stub.pair(1, [2]), self.stub.pair(a=1, b=[2]), self.stub.pair(b=[2], a=1)):
            if answer.result(timeout=30) != expected:
                raise ValueError("arguments were mixed up")
        return {}

    def rpc_large(self):
        data = common.pattern(self.options.bytes)
        for method in (self.stub.echo, self.stub.echo_stream):
            if method(data).result(timeout=80) != data:
                raise ValueError("other bytes came back")
        return {"bytes": len(data)}

    def rpc_items(self):
        items = [bytes(item) for item in self.stub.count(self.options.count)]
        return {"items": len(items), "ok": items == [b"item %d" % index for index in range(self.options.count)]}

    def rpc_slow_items(self):
        """A reader that sleeps: Lattica's own client keeps 512 items and then drops the call."""
        items = iter(self.stub.count(self.options.count))
        received = [bytes(next(items))]
        time.sleep(2)
        received += [bytes(item) for item in items]
        in_order = received == [b"item %d" % index for index in range(len(received))]
        # The connection must have come through it.
        return {"items": len(received), "ok": in_order and self.stub.echo(1).result(timeout=30) == 1}

    def rpc_errors(self):
        texts = {}
        for name, call in {
            "handler": lambda: self.stub.fail("m1"),
            "method": lambda: self.client.call("Calls.nix", b""),
            "service": lambda: self.client.call("Nix.echo", b""),
            "format": lambda: self.client.call("echo", b""),
            "stream": lambda: self.stub.fail_stream("m1"),
        }.items():
            try:
                call().result(timeout=60)
            except Exception as error:
                texts[name] = str(error)
        return {"texts": texts, "ok": len(texts) == 5}

    def rpc_cancel(self):
        items = self.stub.endless()
        for _ in range(3):
            next(items)
        items.cancel()
        return {"ok": self.stub.was_cancelled().result(timeout=30) and self.stub.echo_stream(1).result(timeout=30) == 1}

    def rpc_many(self):
        for index in range(self.options.count):
            if self.stub.echo_stream(index).result(timeout=30) != index:
                raise ValueError("another answer")
        return {"calls": self.options.count}


def main():
    options = common.arguments("Lattica's RPC")
    with tempfile.TemporaryDirectory() as folder:
        if options.mode == "listen":
            node, listen = lattica_peer.start(folder, options.network, options.listen)
            Calls(node)
            common.say(event="ready", peer=node.peer_id(), addrs=[f"{listen}/p2p/{node.peer_id()}"])
            sys.stdin.read()
            status = 0
        else:
            node = None

            def run():
                nonlocal node
                node, _ = lattica_peer.start(folder, options.network, "/ip4/127.0.0.1/tcp/0", [options.address])
                return getattr(Scenarios(node, options), options.scenario.replace("-", "_"))()

            status = common.report(options.scenario, run)
    sys.stdout.flush()
    os._exit(status)  # its threads do not always end


if __name__ == "__main__":
    main()
