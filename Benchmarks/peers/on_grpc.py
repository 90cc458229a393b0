"""gRPC's C++ core, blocking API: one client stream of 1 MiB messages, and unary calls. Over TLS, unless the way is `clear`."""

import datetime
import ipaddress
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from measure import Stopwatch, arguments, calls, serve_until_told

SETTINGS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
PIECE = 1 << 20


class Bench(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/bench/sink":
            return grpc.stream_unary_rpc_method_handler(lambda pieces, _: str(sum(map(len, pieces))).encode())
        if details.method == "/bench/echo":
            return grpc.unary_unary_rpc_method_handler(lambda data, _: data)
        if details.method == "/bench/small":
            return grpc.unary_unary_rpc_method_handler(lambda data, _: b"k")


def certificate():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return secret, builder.sign(key, hashes.SHA256()).public_bytes(pem)


def connect(options):
    address, path = options.address.split("#")
    if not path:
        return grpc.insecure_channel(address, SETTINGS + [("grpc.use_local_subchannel_pool", 1)])
    credentials = grpc.ssl_channel_credentials(Path(path).read_bytes())
    # Without this, one process's channels to an address share one connection.
    return grpc.secure_channel(address, credentials, SETTINGS + [("grpc.use_local_subchannel_pool", 1)])


options = arguments()
if options.mode == "serve" and options.way == "clear":
    server = grpc.server(ThreadPoolExecutor(4), [Bench()], options=SETTINGS)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    serve_until_told(f"127.0.0.1:{port}#")
    server.stop(0)
elif options.mode == "serve":
    secret, public = certificate()
    server = grpc.server(ThreadPoolExecutor(4), [Bench()], options=SETTINGS)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(secret, public)]))
    server.start()
    path = Path(f"/tmp/grpc-bench-{port}.pem")
    path.write_bytes(public)
    serve_until_told(f"127.0.0.1:{port}#{path}")
    path.unlink()
    server.stop(0)
elif options.mode == "stream":
    with connect(options) as channel:
        channel.unary_unary("/bench/echo")(b"warm")
        piece, watch = bytes(PIECE), Stopwatch()
        count = channel.stream_unary("/bench/sink")(piece for _ in range(options.bytes // PIECE))
        assert int(count) == options.bytes
        watch.throughput(options.bytes)
elif options.mode == "ping":
    with connect(options) as channel:
        call, data, times = channel.unary_unary("/bench/echo"), bytes(options.size), []
        watch = Stopwatch()
        for _ in range(options.count):
            began = time.perf_counter()
            call(data)
            times.append(time.perf_counter() - began)
        watch.latencies(times[options.count // 10 :])
elif options.mode == "rpc":
    with connect(options) as channel:
        call, data = channel.unary_unary("/bench/echo" if options.reply is None else "/bench/small"), bytes(options.size)
        calls(options, lambda: call.future(data), channel.unary_unary("/bench/small").future)
elif options.mode == "dial":
    times, watch = [], Stopwatch()
    for _ in range(options.count):
        began = time.perf_counter()
        with connect(options) as channel:
            channel.unary_unary("/bench/echo")(b"?")
            times.append(time.perf_counter() - began)
    watch.latencies(times)
else:
    sys.exit("gRPC has no such thing")
