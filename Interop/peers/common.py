"""What every peer program of this folder shares: protocol names, the command line, the JSON lines (see ../README.md)."""

import argparse
import hashlib
import json
import os
import random
import sys
import time

ECHO = "/interop/echo/1.0.0"
HALF_CLOSE = "/interop/half-close/1.0.0"
RESET = "/interop/reset/1.0.0"
NOWHERE = "/interop/nowhere/1.0.0"  # what nobody serves
IDENTIFY = "/ipfs/id/1.0.0"
PING = "/ipfs/ping/1.0.0"

# The first byte on a RESET stream says what the serving side is to do.
RESET_YOURSELF = b"s"  # reset the stream at once
RESET_BY_DIALER = b"d"  # answer RESET_READY and note how the dialer ends the stream
RESET_READY = b"k"
RESET_HOW = b"?"  # answer with that note as text, then finish


class Unsupported(Exception):
    """This peer cannot do what the scenario asks: a fact about the peer, not a failure."""


def say(**fields):
    print(json.dumps(fields), flush=True)


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    modes = parser.add_subparsers(dest="mode", required=True)
    listen = modes.add_parser("listen", help="serve until standard input ends")
    listen.add_argument("--listen", default="/ip4/127.0.0.1/tcp/0", metavar="MULTIADDR")
    dial = modes.add_parser("dial", help="run one scenario against a listening peer")
    dial.add_argument("address", metavar="MULTIADDR")
    dial.add_argument("--scenario", required=True)
    dial.add_argument("--bytes", type=int, default=1 << 20)
    dial.add_argument("--count", type=int, default=10)
    for mode in (listen, dial):
        mode.add_argument("--network", default="/lattica/1.0.0", help="identify's protocolVersion, where it can be set")
    return parser.parse_args()


def peer_of(address):
    return address.rsplit("/p2p/", 1)[1]


def report(scenario, run):
    """Runs one scenario and prints its verdict as one JSON line. The exit status says whether it held."""
    began = time.monotonic()
    verdict = {"scenario": scenario}
    try:
        verdict.update(run() or {})
        verdict.setdefault("ok", True)
    except Unsupported as error:
        verdict.update(ok=False, unsupported=str(error))
    except Exception as error:  # whatever went wrong is the answer
        verdict.update(ok=False, error=f"{type(error).__name__}: {error}")
        if os.environ.get("INTEROP_TRACE"):
            raise
    verdict["seconds"] = round(time.monotonic() - began, 4)
    say(**verdict)
    sys.stdout.flush()
    return 0 if verdict["ok"] else 1


def pattern(count, seed=1):
    """`count` bytes that look random and are the same in every run."""
    block = random.Random(seed).randbytes(min(count, 1 << 20))
    return (block * (count // max(1, len(block)) + 1))[:count]


def digest(data):
    return hashlib.sha256(data).digest()


def microseconds(seconds):
    return round(seconds * 1e6)


# --- just enough protobuf for p2pd's control protocol and for reading an identify message ---


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def encode(*fields):
    """Protobuf from (number, value) pairs: int and bool as varint, str and bytes as length-delimited; None is left out."""
    out = bytearray()
    for number, value in fields:
        if value is None:
            continue
        if isinstance(value, int):
            out += varint(number << 3) + varint(int(value))
        else:
            value = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return bytes(out)


def decode(data):
    """{number: [values in order]}."""
    fields, at = {}, 0
    while at < len(data):
        key, at = read_varint(data, at)
        if key & 7 == 0:
            value, at = read_varint(data, at)
        elif key & 7 == 2:
            size, at = read_varint(data, at)
            value, at = data[at : at + size], at + size
            if len(value) < size:
                raise ValueError("truncated protobuf")
        else:
            raise ValueError(f"protobuf wire type {key & 7}")
        fields.setdefault(key >> 3, []).append(value)
    return fields


# --- Lattica's unary RPC: one bincode value each way on a stream of its own ---

LATTICA_UNARY = "/rpc/req-resp/1.0.0"


def bincode_bytes(data):
    data = data.encode() if isinstance(data, str) else data
    size = len(data)
    if size < 251:
        return bytes([size]) + data
    for tag, width in ((0xFB, 2), (0xFC, 4), (0xFD, 8)):
        if size < 1 << 8 * width:
            return bytes([tag]) + size.to_bytes(width, "little") + data


def bincode_read_bytes(data, at):
    size, at = data[at], at + 1
    if size > 250:
        width = {0xFB: 2, 0xFC: 4, 0xFD: 8}[size]
        size, at = int.from_bytes(data[at : at + width], "little"), at + width
    if at + size > len(data):
        raise ValueError("truncated bincode")
    return data[at : at + size], at + size


def rpc_request(method, data, identifier="1"):
    return b"\0" + bincode_bytes(identifier) + bincode_bytes(method) + bincode_bytes(data) + b"\0"


def rpc_serve(request):
    """The answer of the service `Interop` to a request's bytes."""
    if request[:1] != b"\0":
        raise ValueError("not a request")
    identifier, at = bincode_read_bytes(request, 1)
    method, at = bincode_read_bytes(request, at)
    data, at = bincode_read_bytes(request, at)
    methods = {b"Interop.echo": bytes, b"Interop.digest": digest}
    if method not in methods:
        return b"\2" + bincode_bytes(identifier) + bincode_bytes(f"no method {method.decode()}")
    return b"\1" + bincode_bytes(identifier) + bincode_bytes(methods[method](data)) + b"\0"


def rpc_answer(response):
    identifier, at = bincode_read_bytes(response, 1)
    data, at = bincode_read_bytes(response, at)
    if response[0] != 1:
        raise ValueError(f"the service answered: {data.decode(errors='replace')}")
    return data


def identify_fields(message):
    """The parts of an identify message that tests look at."""
    from multiaddr import Multiaddr

    fields = decode(message)
    text = lambda number: fields.get(number, [b""])[0].decode()
    return {
        "protocol_version": text(5),
        "agent_version": text(6),
        "protocols": sorted(each.decode() for each in fields.get(3, [])),
        "listen_addrs": [str(Multiaddr(each)) for each in fields.get(2, [])],
        "observed_addr": str(Multiaddr(fields[4][0])) if fields.get(4, [b""])[0] else "",
        "public_key": fields.get(1, [b""])[0].hex(),
        "signed_peer_record": bool(fields.get(8)),
    }
