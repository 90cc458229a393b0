"""The floor: iperf3, clear text over one loopback TCP connection."""

import json
import subprocess

from measure import arguments, say, serve_until_told

options = arguments()
if options.mode == "serve":
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(["iperf3", "--server", "--port", str(port)], stdout=subprocess.DEVNULL)
    serve_until_told(str(port))
    server.terminate()
else:
    command = ["iperf3", "--client", "127.0.0.1", "--port", options.address, "--bytes", str(options.bytes), "--json"]
    for _ in range(50):
        answer = subprocess.run(command, capture_output=True, text=True)
        if answer.returncode == 0:
            break
    end = json.loads(answer.stdout)["end"]
    seconds = end["sum_received"]["seconds"]
    cpu = end["cpu_utilization_percent"]["host_total"] * seconds / 100
    say(mb_per_s=end["sum_received"]["bytes"] / seconds / 1e6, cpu_s=cpu, bytes=options.bytes, seconds=seconds)
