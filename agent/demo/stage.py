"""The demonstration's stage: real parts, each where it would be in the field. The story played on it is story.py.

A broker, the receiver and the service are processes of their own. The card readers and the chargers are simulators at
the other ends of pseudo-terminals; they live in this process, so that they outlast the service when it is killed.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from agent.cli.client import Api, Refused, Unreachable
from agent.demo.fleet import DEVICE, FLEET, FleetFiles, StageError, found_fleet
from drivers.chargers.simulated import ChargerSimulator
from drivers.readers.pn532_simulator import Pn532Simulator
from drivers.readers.serial_ascii_simulator import SerialAsciiSimulator
from sync.loopback_broker import Engine, LoopbackBroker, end_with_parent, loopback_broker

CHARGER_SPEED = 900  # seconds of charging in one of ours: a long stop becomes a short scene
PATIENCE_S = 20.0
LOOK_EVERY_S = 0.1

CONFIG = """\
[device]
fleet = "{fleet}"
name = "{device}"
vehicle = "VAN-7"
state = "state"

[trust]
root = "device/root.json"
token_key = "device/token.key"

[mqtt]
host = "127.0.0.1"
port = {port}
plain = true
version = "{mqtt}"
backoff_base_s = 0.2
backoff_cap_s = 1.0

[api]
socket = "api.sock"

[time]
trust = "system"

[sessions]
meter_record_every_s = 0.5

[[reader]]
name = "left"
profile = "readers/pn532_hsu"
port = "{root}/dev/pn532"
charger = "bay-1"

[[reader]]
name = "right"
profile = "readers/rdm6300"
port = "{root}/dev/rdm6300"
charger = "bay-2"

[[charger]]
name = "bay-1"
profile = "chargers/line"
port = "{root}/dev/bay-1"
evse = "DE*ABC*E1001*1"
network = "DE*ABC"
country = "DE"
site = "car park north"

[[charger]]
name = "bay-2"
profile = "chargers/line"
port = "{root}/dev/bay-2"
evse = "DE*ABC*E1001*2"
network = "DE*ABC"
country = "DE"
site = "car park north"
"""


class Process:
    """One of our own programs, run as `roamkey VERB ...`; what it logs goes to a file on the stage."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self._log = log
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "agent.cli",
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,
            )

    async def kill(self) -> None:
        """SIGKILL: no last words, no flushing."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        return await self._end(signal.SIGTERM)

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines() if self._log.exists() else []
        return " | ".join(lines[-3:]) or "it said nothing"

    async def _end(self, how: signal.Signals) -> int:
        if self._process is None:
            return 0
        if self._process.returncode is None:
            self._process.send_signal(how)
        return await self._process.wait()


def version_of(broker: LoopbackBroker) -> str:
    """amqtt keeps silent when it is spoken to in MQTT 5, and finding that out takes a while."""
    return "3.1.1" if broker.engine is Engine.AMQTT else "auto"


class Stage:
    """`seen` is every record of the device so far, in sequence, read over the local API as they are sealed."""

    def __init__(self, root: Path, broker: LoopbackBroker, fleet: FleetFiles) -> None:
        self.root = root
        self.broker = broker
        self.fleet = fleet
        self.api = Api(root / "api.sock")
        self.database = root / "backend.db"
        self.config = root / "roamkey.toml"
        (root / "dev").mkdir()
        mqtt = version_of(broker)
        text = CONFIG.format(fleet=FLEET, device=DEVICE, port=broker.port, mqtt=mqtt, root=root)
        self.config.write_text(text, encoding="utf-8")
        self.agent = Process(root / "agent.log", "run", "--config", str(self.config))
        self.receiver = Process(
            root / "receiver.log",
            *("receive", "--plain", "--broker", f"127.0.0.1:{broker.port}", "--mqtt", mqtt),
            *("--retry-cap", "1", "--fleet", FLEET, "--db", str(self.database), "--key", str(fleet.service_key)),
        )
        self.left = Pn532Simulator(link=root / "dev" / "pn532")
        self.right = SerialAsciiSimulator.rdm6300(link=root / "dev" / "rdm6300")
        self.bays = tuple(
            ChargerSimulator(root / "dev" / name, speed=CHARGER_SPEED, meter_every_ms=250)
            for name in ("bay-1", "bay-2")
        )
        self.seen: list[dict[str, Any]] = []

    async def until(self, what: str, done: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Wait for the journal to say so."""
        await self.wait(what, lambda: done(self.seen))

    async def wait(self, what: str, done: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not done():
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError as error:
            raise StageError(
                f"{what}: not within {PATIENCE_S:.0f} s; the service said: {self.agent.last_words()}"
            ) from error

    async def close_down(self) -> None:
        """A clean end of the service and then of the receiver, as at the end of a shift."""
        code = await self.agent.stop()
        if code != 0:
            raise StageError(f"the service ended with {code} instead of 0: {self.agent.last_words()}")
        await self.receiver.stop()

    async def status(self) -> dict[str, Any] | None:
        """None while no service answers."""
        try:
            return await asyncio.to_thread(self.api.get, "/v1/status")
        except (Unreachable, Refused):
            return None

    async def follow(self, tell: Callable[[dict[str, Any]], None]) -> None:
        """For ever: each new record of the journal once, also across a restart of the service."""
        while True:
            after = int(self.seen[-1]["sequence"]) if self.seen else 0
            try:
                page = await asyncio.to_thread(self.api.get, "/v1/journal", after=after, limit=200)
            except (Unreachable, Refused):
                page = {"records": []}
            for record in page["records"]:
                event = json.loads(record["body"])
                self.seen.append(event)
                tell(event)
            await asyncio.sleep(LOOK_EVERY_S)


@asynccontextmanager
async def built_stage(
    root: Path, tell: Callable[[dict[str, Any]], None], engine: Engine | None = None
) -> AsyncIterator[Stage]:
    """Everything made and started; everything ended again when left, also in the middle of the story."""
    (root / "broker").mkdir()
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(loopback_broker(root / "broker", engine=engine))
        stage = Stage(root, broker, await found_fleet(root, broker.port, version_of(broker)))
        stack.enter_context(stage.left)
        stack.enter_context(stage.right)
        for bay in stage.bays:
            stack.enter_context(bay)
        background = [asyncio.create_task(work) for work in (*(bay.run() for bay in stage.bays), stage.follow(tell))]
        try:
            await stage.receiver.start()
            await stage.agent.start()
            yield stage
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await stage.agent.kill()
            await stage.receiver.stop()
