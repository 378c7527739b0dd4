"""A gateway with all that is around it on one machine: the service as a process, broker, receiver, readers, chargers.

Nothing is patched: cards are laid on readers, cables plugged, processes killed. The parts are the demonstration's.
What happened is read over the local API while the service runs, and from its journal when it does not.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agent.cli.client import Api, Refused, Unreachable
from agent.demo.fleet import DEVICE, DRIVERS, FLEET, POLICY, TOKENS, VEHICLES, hours_from_now
from agent.journal.copies import contents, stopped_store
from agent.journal.verification import verify
from drivers.chargers.simulated import ChargerSimulator
from drivers.readers.pn532_simulator import Pn532Simulator
from drivers.readers.serial_ascii_simulator import SerialAsciiSimulator
from sync.backend.store import Store
from sync.loopback_broker import LoopbackBroker, end_with_parent, free_port, installed_engine

PROJECT = Path(__file__).parents[2]
ROAMKEY = (sys.executable, "-P", "-m", "agent.cli")
PATIENCE_S = 15.0
STOP_WITHIN_S = 5.0  # promised by the issue
CHARGER_SPEED = 900  # seconds of charging in one of ours
T = TypeVar("T")


def roamkey(*words: str | Path, timeout_s: float = 30, **env: str) -> subprocess.CompletedProcess[str]:
    """A verb, as a person or a script calls it."""
    command = [*ROAMKEY, *(str(word) for word in words)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, check=False, env={**os.environ, **env}
    )


def until(what: str, claim: Callable[[], object], *, within_s: float = PATIENCE_S) -> None:
    """Wait for it; with a sentence of what did not come."""
    give_up = time.monotonic() + within_s
    while not claim():
        if time.monotonic() > give_up:
            pytest.fail(f"{what}: not within {within_s:.0f} s")
        time.sleep(0.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOffice:
    """The fleet's folder and its sources, used with the real `roamkey fleet` verbs."""

    folder: Path
    source: Path
    device_files: Path

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    @property
    def service_key(self) -> Path:
        return self.folder / "keys" / "service-ack.pem"

    def publish(self, *, port: int | None = None) -> None:
        broker = () if port is None else ("--broker", f"127.0.0.1:{port}", "--plain")
        good(roamkey("fleet", "publish", self.folder, "--policy", self.source, *broker))

    def copied_to(self, root: Path) -> FleetOffice:
        shutil.copytree(self.folder, root / "fleet")
        shutil.copytree(self.source, root / "policy")
        shutil.copytree(self.device_files, root / "device")
        return office_at(root)


def office_at(root: Path) -> FleetOffice:
    return FleetOffice(folder=root / "fleet", source=root / "policy", device_files=root / "device")


def found_office(root: Path) -> FleetOffice:
    """A fleet with its first revision published into its folder."""
    office = office_at(root)
    office.source.mkdir(parents=True)
    policy = POLICY.format(start=hours_from_now(6), end=hours_from_now(8))
    texts = {"policy.toml": policy, "drivers.toml": DRIVERS, "vehicles.toml": VEHICLES, "tokens.csv": TOKENS}
    for name, text in texts.items():
        (office.source / name).write_text(text)
    good(roamkey("fleet", "init", office.folder, "--fleet", FLEET))
    office.publish()
    good(roamkey("fleet", "device-files", office.folder, "--out", office.device_files))
    return office


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, f"{done.args[3:]} ended with {done.returncode}: {done.stderr}{done.stdout}"
    return done.stdout


class Program:
    """One of our processes; what it says goes to a file."""

    def __init__(self, log: Path, *command: str | Path, **env: str) -> None:
        self.log = log
        self.command = [str(word) for word in command]
        self.env = env
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert not self.runs, "it runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.env},
                cwd=PROJECT,
                preexec_fn=end_with_parent,
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was never started"
        return self._process

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL: no last words, no flushing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self, *, within_s: float = STOP_WITHIN_S) -> int:
        """SIGTERM; the exit code. Not ending in time is a failure."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended(within_s=within_s)

    def ended(self, *, within_s: float = PATIENCE_S) -> int:
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.command[3:]} did not end within {within_s:.0f} s; it said:\n{self.said()[-2000:]}")

    def said(self) -> str:
        """All of it but the chatter of a library."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(line for line in lines if " tuf." not in line)


class Beside:
    """An event loop in a thread of its own, for the parts that live on one: broker and chargers."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="beside", daemon=True)
        self._thread.start()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def call(self, action: Callable[[], T]) -> T:
        async def act() -> T:
            return action()

        return self.wait(act())

    def keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self.call(lambda: self._loop.create_task(work))

    def end(self, task: asyncio.Task[None]) -> None:
        async def cancelled() -> None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

        self.wait(cancelled())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


class Bay:
    """A charging bay: the simulated charger on its pseudo-terminal, told what happens to it."""

    def __init__(self, beside: Beside, link: Path) -> None:
        self.link = link
        self._beside = beside
        self._charger = ChargerSimulator(link, speed=CHARGER_SPEED, meter_every_ms=100)

    def plug_in(self, demand_wh: int | None = None) -> None:
        self._beside.call(lambda: self._charger.plug_in(demand_wh))

    def unplug(self) -> None:
        self._beside.call(self._charger.unplug)

    def make_noise(self, noise: bytes) -> None:
        self._beside.call(lambda: self._charger.make_noise(noise))

    def cut_cable(self) -> None:
        self._beside.call(self._charger.cut_cable)

    def mend_cable(self) -> None:
        self._beside.call(self._charger.mend_cable)

    @property
    def meter_wh(self) -> int:
        return self._beside.call(lambda: self._charger.station.meter_wh)

    @property
    def session(self) -> str | None:
        return self._beside.call(lambda: self._charger.station.session)

    @contextmanager
    def working(self) -> Iterator[None]:
        task = None
        with self._charger:
            try:
                task = self._beside.keep(self._charger.run())
                yield
            finally:
                if task is not None:
                    self._beside.end(task)


class Broker:
    """A real broker on loopback that the test holds."""

    def __init__(self, beside: Beside, folder: Path, *, port: int | None = None) -> None:
        folder.mkdir()
        self._beside = beside
        self._broker = LoopbackBroker(folder, port or free_port(), installed_engine(), ())
        self.port = self._broker.port
        self.folder = folder

    def start(self) -> None:
        self._beside.wait(self._broker.start())

    def stop(self) -> None:
        self._beside.wait(self._broker.stop())

    def kill(self) -> None:
        self._beside.wait(self._broker.kill())

    def freeze(self, *, frozen: bool = True) -> None:
        """Half-open: its sockets accept and keep what is sent, and nobody answers."""
        process = self._broker._process
        assert process is not None
        process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)


READERS = {
    "left": ("readers/pn532_hsu", "bay-1"),
    "right": ("readers/rdm6300", "bay-2"),
    "door": ("readers/simulated", "yard"),
}


@dataclass(slots=True, kw_only=True)
class Premises:
    """One gateway. `left` is a PN532 at bay-1, `right` an RDM6300 at bay-2, `door` a simulated reader at the yard,
    whose charger reports over the local API."""

    root: Path
    office: FleetOffice
    beside: Beside
    broker: Broker | None = None
    device: str = DEVICE
    readers: tuple[str, ...] = ("left", "right", "door")
    state: Path = field(init=False)
    database: Path = field(init=False)
    port: int | None = None  # of what the device takes for the broker
    settings: str = ""
    bundle_folder: Path | None = None
    command: tuple[str | Path, ...] = ()
    service: Program = field(init=False)
    receiver: Program | None = None
    left: Pn532Simulator = field(init=False)
    right: SerialAsciiSimulator = field(init=False)
    bays: dict[str, Bay] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state = self.root / "state"
        self.database = self.root / "backend.db"
        self.service = Program(
            self.root / "agent.log", *(self.command or (*ROAMKEY, "run")), "--config", self.config, "--log", "debug"
        )

    @property
    def config(self) -> Path:
        return self.root / "roamkey.toml"

    @property
    def api(self) -> Api:
        return Api(self.root / "api.sock")

    def write_config(self) -> None:
        self.config.write_text(self.configuration())

    def configuration(self) -> str:
        lines = ["[device]", f'fleet = "{FLEET}"', f'name = "{self.device}"']
        lines += ['vehicle = "VAN-7"', f'state = "{self.state}"']
        lines += ["[trust]", 'root = "device/root.json"', 'token_key = "device/token.key"']
        lines += ["[api]", 'socket = "api.sock"']
        if self.bundle_folder is not None:
            lines += ["[bundle]", f'folder = "{self.bundle_folder}"', "every_s = 1"]
        if self.port is not None:
            lines += ["[mqtt]", 'host = "127.0.0.1"', f"port = {self.port}", "plain = true", "keepalive_s = 5"]
            lines += ["backoff_base_s = 0.1", "backoff_cap_s = 0.5"]
        if "[time]" not in self.settings:
            lines += ["[time]", 'trust = "system"']
        if "[sessions]" not in self.settings:
            lines += ["[sessions]", "meter_record_every_s = 0.2"]
        lines += [self.settings]
        for name in self.readers:
            profile, charger = READERS[name]
            port = self.root / "dev" / name
            lines += ["[[reader]]", f'name = "{name}"', f'profile = "{profile}"', f'port = "{port}"']
            lines += [f'charger = "{charger}"']
        for number, name in enumerate(sorted({READERS[each][1] for each in self.readers}), start=1):
            own = f'profile = "chargers/line"\nport = "{self.root}/dev/{name}"' if name in self.bays else ""
            lines += ["[[charger]]", f'name = "{name}"', own, f'evse = "DE*ABC*E1001*{number}"']
            lines += ['network = "DE*ABC"', 'country = "DE"', 'site = "car park north"']
        return "\n".join(lines) + "\n"

    def start(self) -> None:
        """Started and answering."""
        self.service.start()
        until("the service answers", self.answers)

    def answers(self) -> bool:
        if not self.service.runs:
            pytest.fail(f"the service ended with {self.service.process.returncode}:\n{self.service.said()[-3000:]}")
        with suppress(Unreachable, Refused):
            return bool(self.api.get("/v1/status"))
        return False

    def start_ready(self) -> None:
        """Started, with a policy in force and every device found."""
        self.start()
        until("a policy", lambda: self.status()["policy"] is not None)
        for name in self.readers:
            until(f"reader {name}", lambda name=name: self.reader_state(name) == "ready")
        for name in self.bays:
            until(f"charger {name}", lambda name=name: self.reachable(name))

    def stop(self) -> None:
        assert self.service.stop() == 0, self.service.said()[-2000:]

    def status(self) -> dict[str, Any]:
        return self.api.get("/v1/status")

    def open_sessions(self) -> list[dict[str, Any]]:
        return list(self.status()["open_sessions"])

    def reader_state(self, name: str) -> str | None:
        return self.status()["readers"].get(name, {}).get("state")

    def reachable(self, name: str) -> bool:
        return bool(self.status()["chargers"].get(name, {}).get("reachable"))

    def tap(self, reader: str, uid: bytes) -> dict[str, Any]:
        """As `roamkey tap` does it."""
        return self.api.post("/v1/taps", {"reader": reader, "uid": uid.hex()})

    def report(self, charger: str, event: str, **body: Any) -> None:
        self.api.post(f"/v1/chargers/{charger}/events", {"event": event, **body})

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Every record so far, of one kind ("session.ended") or of all; from the running service, else its journal."""
        bodies = list(self._pages()) if self.service.runs else self.sealed()
        found = [json.loads(body) for body in bodies]
        return [each for each in found if kind is None or each["type"] == f"io.roamkey.{kind}"]

    def has(self, kind: str, at_least: int = 1) -> Callable[[], bool]:
        return lambda: len(self.events(kind)) >= at_least

    def _pages(self) -> Iterator[bytes]:
        after = 0
        while records := self.api.get("/v1/journal", after=after, limit=500)["records"]:
            for record in records:
                after = record["sequence"]
                yield record["body"].encode()

    def sealed(self) -> list[bytes]:
        """The journal of the stopped or killed service, which does not notice that somebody looked."""
        with stopped_store(self.state / "journal") as database:
            return contents(database).bodies

    def stored(self) -> list[bytes]:
        """What the receiver has of this journal."""
        name = json.loads(self.sealed()[0])["journal"]
        with closing(Store(self.database)) as store:
            return list(store.bodies(self.device, name))

    def keys(self) -> dict[str, str]:
        public = json.loads((self.state / "vault" / "device.jwk").read_text())
        return {public["kid"]: json.dumps(public)}

    def until_delivered(self) -> None:
        until("everything is delivered", lambda: self.status()["journal"]["backlog"] == 0)

    def assert_nothing_lost(self) -> None:
        """With the service stopped: chain whole on both sides, and stored once what was sealed once."""
        sealed, stored = self.sealed(), self.stored()
        verdict = verify(sealed, keys=self.keys())
        assert verdict.ok, verdict
        assert stored == sealed[: len(stored)]
        with closing(Store(self.database)) as store:
            audits = [each for each in store.audit() if each.device == self.device]
        assert audits
        assert all(each.chain_ok and not each.gaps and not each.forks for each in audits), audits

    def assert_whole(self) -> None:
        verdict = verify(self.sealed(), keys=self.keys())
        assert verdict.ok, verdict


@contextmanager
def built_premises(
    root: Path, office: FleetOffice, *, broker: bool = False, bays: Sequence[str] = ("bay-1", "bay-2"), **changes: Any
) -> Iterator[Premises]:
    """Everything but the service is there and running; policy comes from the broker, else from the office's folder."""
    (root / "dev").mkdir(parents=True)
    own = office.copied_to(root)
    with ExitStack() as stack:
        beside = Beside()
        stack.callback(beside.close)
        here = Premises(root=root, office=own, beside=beside, **changes)
        stack.callback(here.service.kill)
        here.left = stack.enter_context(Pn532Simulator(link=root / "dev" / "left"))
        here.right = stack.enter_context(SerialAsciiSimulator.rdm6300(link=root / "dev" / "right"))
        for name in bays:
            here.bays[name] = Bay(beside, root / "dev" / name)
            stack.enter_context(here.bays[name].working())
        if broker:
            here.broker = Broker(beside, root / "broker")
            here.broker.start()
            stack.callback(here.broker.stop)
            own.publish(port=here.broker.port)
            here.port = here.port or here.broker.port
            here.receiver = a_receiver(here)
            here.receiver.start()
            stack.callback(here.receiver.kill)
        elif "bundle_folder" not in changes:
            here.bundle_folder = own.repository
        here.write_config()
        yield here


def a_receiver(here: Premises) -> Program:
    assert here.broker is not None
    return Program(
        here.root / "receiver.log",
        *(*ROAMKEY, "receive", "--plain", "--broker", f"127.0.0.1:{here.broker.port}", "--retry-cap", "0.5"),
        *("--fleet", FLEET, "--db", here.database, "--key", here.office.service_key),
    )
