"""The peer of a drain: mosquitto's own store and bridge, moving the same records one message each.

Recipe and traps: the local broker queues for a persistent bridge session with the remote down (default limits would
drop nearly all in silence, so they are lifted), then the remote starts; the bridge needs 5 to 11 s to notice. Its
producer got a PUBACK for every message; nothing is durable but what the broker last saved.

Three subscribers take what arrives: a backend in Python that stores each record before it acknowledges it, which is
the same end as ours; one that only counts; and `mosquitto_sub`, which shows what the two brokers alone can do.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sync.loopback_broker import free_port
from tests.benchmarks.brokers import Mosquitto, beside_us

Sink = Callable[[int, int], tuple[float, float]]

TOPIC = "bench/records"
PORTION = 20_000
NOTICED_WITHIN_S = 60.0
LOCAL = (
    "max_queued_messages 0",
    "max_queued_bytes 0",
    "connection bridge",
    "address 127.0.0.1:{port}",
    "topic bench/# out 1",
    "cleansession false",
    "restart_timeout 1",
    "notifications false",
)
REMOTE = ("max_queued_messages 0", "max_queued_bytes 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    records: int
    seconds: float
    noticed_s: float

    @property
    def per_second(self) -> float:
        return self.records / self.seconds


def drain(folder: Path, lines: Sequence[bytes], *, sink: Sink) -> Drained:
    """From the first message that arrives at the remote's subscriber to the last."""
    remote_port = free_port()
    with ExitStack() as stack:
        beside = stack.enter_context(beside_us())
        local = Mosquitto(beside, folder / "local", [line.format(port=remote_port) for line in LOCAL])
        remote = Mosquitto(beside, folder / "remote", REMOTE, port=remote_port)
        local.start()
        stack.callback(local.stop)
        publish(local.port, lines)
        remote.start()
        stack.callback(remote.stop)
        started = time.monotonic()
        first, last = sink(remote_port, len(lines))
        return Drained(records=len(lines), seconds=last - first, noticed_s=first - started)


def publish(port: int, lines: Sequence[bytes]) -> None:
    """Ends when the last PUBACK is here. In portions: mosquitto_pub has no more than 65,535 packet ids."""
    for at in range(0, len(lines), PORTION):
        subprocess.run(
            ["mosquitto_pub", "-p", str(port), "-q", "1", "-t", TOPIC, "-l"],
            input=b"".join(line + b"\n" for line in lines[at : at + PORTION]),
            check=True,
            timeout=300,
        )


def storing(folder: Path) -> Sink:
    """A subscriber in Python: what has arrived is committed together (SQLite FULL), then acknowledged."""
    return partial(_python, STORER, str(folder / "sink.db"))


def counting() -> Sink:
    """A subscriber in Python that keeps nothing."""
    return partial(_python, COUNTER, "")


def _python(program: str, database: str, port: int, records: int) -> tuple[float, float]:
    """When the first message came and the last one was dealt with."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(port), TOPIC, str(records), database],
        capture_output=True,
        timeout=NOTICED_WITHIN_S + records / 1000,
        check=True,
    )
    first, last = (float(each) for each in done.stdout.split())
    return first, last


COUNTER = """
import sys, time
import paho.mqtt.client as paho
port, topic, wanted = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
count, first = 0, 0.0
def on_message(client, userdata, message):
    global count, first
    first = first or time.monotonic()
    count += 1
    if count == wanted:
        print(first, time.monotonic())
        client.disconnect()
client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="sink")
client.on_connect = lambda client, *_: client.subscribe(topic, 1)
client.on_message = on_message
client.connect("127.0.0.1", port)
client.loop_forever()
"""


STORER = """
import queue, sqlite3, sys, threading, time
import paho.mqtt.client as paho
port, topic, wanted, path = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
arrived = queue.SimpleQueue()
client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="sink", manual_ack=True)
client.on_connect = lambda client, *_: client.subscribe(topic, 1)
client.on_message = lambda client, userdata, message: arrived.put(message)
database = sqlite3.connect(path, isolation_level=None)
database.execute("PRAGMA journal_mode = WAL")
database.execute("PRAGMA synchronous = FULL")
database.execute("CREATE TABLE record (sequence INTEGER PRIMARY KEY, body BLOB)")
client.connect("127.0.0.1", port)
client.loop_start()
count, first = 0, 0.0
while count < wanted:
    group = [arrived.get()]
    first = first or time.monotonic()
    while not arrived.empty() and len(group) < 100:
        group.append(arrived.get())
    database.execute("BEGIN IMMEDIATE")
    database.executemany("INSERT INTO record (body) VALUES (?)", [(each.payload,) for each in group])
    database.execute("COMMIT")
    for each in group:
        client.ack(each.mid, each.qos)
    count += len(group)
print(first, time.monotonic())
client.disconnect()
client.loop_stop()
"""


def mosquitto_sub(port: int, records: int) -> tuple[float, float]:
    """By its own clock, a line a message."""
    command = ["mosquitto_sub", "-p", str(port), "-q", "1", "-t", TOPIC, "-i", "sink", "-C", str(records), "-F", "%U"]
    offset = time.monotonic() - time.time()
    done = subprocess.run(command, capture_output=True, timeout=NOTICED_WITHIN_S + records / 1000, check=True)
    times = [float(line) + offset for line in done.stdout.split()]
    if len(times) != records:
        raise RuntimeError(f"the bridge moved {len(times)} of {records} records")
    return times[0], times[-1]
