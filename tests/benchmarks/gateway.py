"""The real service, a real receiver and a real broker, each a process of its own, for benchmarks.

Their parts are those of the end-to-end tests; here nothing is logged at DEBUG, and time is taken by an observer at
the broker, so that nobody who is measured is asked anything meanwhile.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from agent.cli.client import Api, Refused, Unreachable
from agent.demo.fleet import DEVICE, FLEET
from sync.link import Tls
from sync.loopback_broker import free_port
from sync.topics import DeviceTopics
from tests.benchmarks.brokers import Mosquitto, beside_us
from tests.benchmarks.charging_records import fill
from tests.benchmarks.metered_proxy import MeteredProxy
from tests.end_to_end.premises import ROAMKEY, FleetOffice, Program, found_office, until
from tests.uplink.certificates import Authority

SOURCE = f"/fleets/{FLEET}/devices/{DEVICE}"
TOPICS = DeviceTopics(fleet=FLEET, device=DEVICE)
PATIENCE_S = 120.0
CODECS = ("zlib", "zstd")


@dataclass(slots=True, kw_only=True)
class Gateway:
    """One device's configuration and state, and the service that runs on them."""

    root: Path
    office: FleetOffice
    readers: dict[str, tuple[str, str]] = field(default_factory=dict)  # name: profile and port
    port: int | None = None
    tls: Tls | None = None
    codec: str = "zlib"
    bundle_folder: Path | None = None
    service: Program = field(init=False)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.service = Program(self.root / "agent.log", *ROAMKEY, "run", "--config", self.config, "--log", "info")

    @property
    def config(self) -> Path:
        return self.root / "roamkey.toml"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def api(self) -> Api:
        return Api(self.root / "api.sock")

    def write_config(self) -> None:
        files = self.office.device_files
        lines = ["[device]", f'fleet = "{FLEET}"', f'name = "{DEVICE}"', f'state = "{self.state}"']
        lines += ["[trust]", f'root = "{files / "root.json"}"', f'token_key = "{files / "token.key"}"']
        lines += ["[api]", f'socket = "{self.root / "api.sock"}"', "[time]", 'trust = "system"']
        if self.bundle_folder is not None:
            lines += ["[bundle]", f'folder = "{self.bundle_folder}"']
        if self.port is not None:
            lines += ["[mqtt]", 'host = "127.0.0.1"', f"port = {self.port}"]
            lines += ["backoff_base_s = 0.1", "backoff_cap_s = 0.2"]
            if self.codec != "zlib":
                lines += [f'codec = "{self.codec}"']
            if self.tls is None:
                lines += ["plain = true"]
            else:
                lines += [f'{name} = "{getattr(self.tls, name)}"' for name in ("cafile", "certfile", "keyfile")]
        for name, (profile, port) in self.readers.items():
            lines += ["[[reader]]", f'name = "{name}"', f'profile = "{profile}"', f'port = "{port}"', 'charger = "bay"']
        lines += ["[[charger]]", 'name = "bay"', 'evse = "DE*ABC*E1001*1"', 'network = "DE*ABC"', 'country = "DE"']
        self.config.write_text("\n".join(lines) + "\n")

    def begin(self) -> None:
        """Started; its local API, which is loaded when it is asked, is left alone."""
        self.write_config()
        self.service.start()

    def start(self) -> None:
        """Started and answering."""
        self.begin()
        until("the service answers", self.answers, within_s=PATIENCE_S)

    def answers(self) -> bool:
        if not self.service.runs:
            raise RuntimeError(f"the service ended: {self.service.said()[-2000:]}")
        with suppress(Unreachable, Refused):
            return bool(self.api.get("/v1/status"))
        return False

    def stop(self) -> None:
        if self.service.runs:
            self.service.stop(within_s=30)

    def status(self) -> dict[str, Any]:
        return self.api.get("/v1/status")

    def has_delivered(self) -> bool:
        return int(self.status()["journal"]["backlog"]) == 0

    def memory_kb(self, what: str = "VmRSS") -> int:
        """Of the service and of every process that it has started."""
        return sum(memory_kb(pid, what) for pid in family(self.service.process.pid))

    def copied_to(self, root: Path, **changes: Any) -> Gateway:
        """The same device with a copy of the state, for one run."""
        copy = Gateway(root=root, office=self.office, readers=self.readers, **changes)
        shutil.copytree(self.state, copy.state)
        return copy


def settled_gateway(root: Path, *, records: int = 0, tokens: int = 0) -> Gateway:
    """A device that has its policy and a journal with so many records that wait; not running."""
    office = found_office(root / "office")
    if tokens:
        add_tokens(office, tokens)
    gateway = Gateway(root=root / "gateway", office=office, bundle_folder=office.repository)
    gateway.start()
    until("a policy", lambda: gateway.status()["policy"] is not None, within_s=PATIENCE_S)
    gateway.stop()
    gateway.bundle_folder = None
    if records:
        fill(gateway.state / "journal", records, source=SOURCE)
    return gateway


def add_tokens(office: FleetOffice, count: int) -> None:
    table = office.source / "tokens.csv"
    with table.open("a") as file:
        for number in range(count):
            file.write(f"{0x05000000000000 + number * 7919:014X},card {number},vans,,,active\n")
    office.publish()


def family(pid: int) -> Iterator[int]:
    """The process and its children."""
    yield pid
    with suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def processor_s(pid: int) -> float:
    """What the process and its children have used so far."""
    ticks = 0
    for each in family(pid):
        with suppress(FileNotFoundError):
            told = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += int(told[11]) + int(told[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_kb(pid: int, what: str = "VmRSS") -> int:
    try:
        found = re.search(rf"^{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except FileNotFoundError:
        return 0
    return int(found[1]) if found else 0


@dataclass(slots=True)
class Seen:
    """A message that went through the broker, and when it did."""

    at: float
    topic: str
    payload: bytes

    @property
    def through(self) -> int:
        """How far an acknowledgement goes; nobody's signature is checked here."""
        claims = self.payload.split(b".")[1]
        return int(json.loads(base64.urlsafe_b64decode(claims + b"=" * (-len(claims) % 4)))["through"])


class Observer:
    """Listens to hellos and acknowledgements at the broker: a handful of small messages."""

    def __init__(self, port: int) -> None:
        self.seen: list[Seen] = []
        self._ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="observer")
        self._client.on_connect = lambda client, *_: client.subscribe([(TOPICS.hello, 0), (TOPICS.ack, 0)])
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda _c, _u, message: self.seen.append(
            Seen(time.monotonic(), message.topic, message.payload)
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        if not self._ready.wait(10):
            raise RuntimeError("the observer got no subscription")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def first(self, which: Callable[[Seen], bool], what: str) -> Seen:
        until(what, lambda: any(which(each) for each in list(self.seen)), within_s=PATIENCE_S)
        return next(each for each in self.seen if which(each))

    def hello(self) -> Seen:
        return self.first(lambda each: each.topic == TOPICS.hello, "the device says hello")

    def acknowledged(self, through: int) -> Seen:
        return self.first(
            lambda each: each.topic == TOPICS.ack and each.through >= through, f"acknowledged up to {through}"
        )


@dataclass(slots=True, kw_only=True)
class Backend:
    """A broker and a receiver, ready."""

    broker: Mosquitto
    database: Path
    receiver: Program
    tls_port: int | None
    device_tls: Tls | None
    receiver_link: MeteredProxy | None

    @property
    def device_port(self) -> int:
        return self.tls_port or self.broker.port

    def observer(self) -> Observer:
        return Observer(self.broker.port)


@contextmanager
def backend(root: Path, office: FleetOffice, *, tls: bool = False, metered: bool = False) -> Iterator[Backend]:
    """With TLS there is a second listener, which wants a client's certificate. `metered`: the receiver's connection
    is seen by a proxy."""
    root.mkdir(parents=True, exist_ok=True)
    options: list[str] = ["connection_messages true"]
    tls_port, device_tls = None, None
    access: tuple[str | Path, ...] = ("--plain",)
    if tls:
        authority, tls_port = Authority(root / "ca"), free_port()
        ours = authority.issue("broker")
        device_tls, receiver_tls = authority.issue(DEVICE), authority.issue("receiver-1")
        options += [f"listener {tls_port} 127.0.0.1", f"cafile {ours.cafile}", f"certfile {ours.certfile}"]
        options += [f"keyfile {ours.keyfile}", "require_certificate true"]
        files = (receiver_tls.cafile, receiver_tls.certfile, receiver_tls.keyfile)
        access = ("--cafile", str(files[0]), "--certfile", str(files[1]), "--keyfile", str(files[2]))
    with ExitStack() as stack:
        beside = stack.enter_context(beside_us())
        broker = Mosquitto(beside, root / "broker", options)
        broker.start()
        stack.callback(broker.stop)
        database = root / "backend.db"
        port = tls_port or broker.port
        receiver_link = stack.enter_context(MeteredProxy(port)) if metered else None
        receiver = Program(
            root / "receiver.log",
            *(
                *ROAMKEY,
                "receive",
                "--broker",
                f"127.0.0.1:{receiver_link.port if receiver_link else port}",
                "--retry-cap",
                "0.2",
            ),
            *("--fleet", FLEET, "--db", database, "--key", office.service_key, *access),
        )
        receiver.start()
        stack.callback(receiver.kill)
        made = Backend(
            broker=broker,
            database=database,
            receiver=receiver,
            tls_port=tls_port,
            device_tls=device_tls,
            receiver_link=receiver_link,
        )
        until_received(made)
        yield made


def until_received(made: Backend) -> None:
    """The receiver is connected; its subscription follows within the same round trip."""
    until("the receiver connects", lambda: " as receiver-1 " in made.broker.log.read_text(), within_s=PATIENCE_S)
    time.sleep(0.3)
