"""From the start of the process to the first possible decision, with a large fleet's tokens in the cache."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing

from drivers.readers.serial_ascii_simulator import SerialAsciiSimulator
from tests.benchmarks.gateway import Gateway, settled_gateway
from tests.benchmarks.measurement import Bench, Benchmark, Pairs, Row, load, spread

TOKENS = 100_000
# What any daemon in this language with these needs starts with: event loop, TLS, SQLite, MQTT client.
BARE = "import asyncio, ssl, sqlite3, paho.mqtt.client"


def measure(bench: Bench) -> Sequence[Row]:
    runs, tokens = bench.runs(11), bench.size(TOKENS, 100)
    home = bench.fresh("start")
    gateway = settled_gateway(home, tokens=tokens)
    (home / "dev").mkdir()
    pairs = Pairs()
    with SerialAsciiSimulator.rdm6300(link=home / "dev" / "serial"):
        gateway.readers = {"front": ("readers/rdm6300", str(home / "dev" / "serial"))}
        gateway.port = 9  # nobody listens there: the network is not waited for
        gateway.write_config()
        seconds_to_ready(gateway)  # the first one finds nothing in the page cache
        for _ in range(runs):
            pairs.add(seconds_to_ready(gateway), seconds_of_bare_python())
    return [
        Row(
            name=f"ready to decide after start, {tokens} tokens",
            value=pairs.value,
            unit="s",
            peer="Python that imports asyncio, ssl, sqlite3, paho and ends",
            peer_value=pairs.peer_value,
            ratio=pairs.ratio,
            runs=runs,
            note=f"until READY=1, which is said when a tap would be decided; {spread(pairs.ours, 2)} s; {load()}",
            target="<= 0.7 s",
        )
    ]


def seconds_to_ready(gateway: Gateway) -> float:
    path = gateway.root / "notify"
    path.unlink(missing_ok=True)
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as told:
        told.bind(str(path))
        told.settimeout(60)
        gateway.service.env["NOTIFY_SOCKET"] = str(path)
        started = time.monotonic()
        gateway.service.start()
        while b"READY=1" not in told.recv(4096):
            pass
        taken = time.monotonic() - started
    gateway.stop()
    return taken


def seconds_of_bare_python() -> float:
    started = time.monotonic()
    subprocess.run([sys.executable, "-P", "-c", BARE], check=True)
    return time.monotonic() - started


BENCHMARK = Benchmark(name="start", about="from process start to the first possible decision", measure=measure)
