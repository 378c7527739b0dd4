"""Kill agent and receiver, again and again, at every step of a record's way, over a bad link; then ask the oracle.

Real processes, a real broker, a bad link between. Each life is told to die at a named step, or is shot at any moment.
Every few kills both rest and the oracle reads their files; at the end everything must be delivered.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.cache.cache import PolicyCache, Refused
from agent.clock import SystemClock
from agent.demo.fleet import DEVICE, FLEET
from agent.vault import Vault
from sync.carriers import FolderCarrier
from sync.loopback_broker import Engine, LoopbackBroker, loopback_broker
from tests.crash import steps
from tests.crash.bad_link import BadLink, bad_link
from tests.crash.lives import Defect, Order
from tests.crash.oracle import Oracle

ROOT = Path(__file__).parents[2]
AGENT, RECEIVER = "agent", "receiver"
STEPS = {AGENT: steps.steps_of(steps.AGENT), RECEIVER: steps.steps_of(steps.RECEIVER)}
# Of the lives of each, so many are shot at any moment instead of dying at a step.
AT_RANDOM = 0.15
KILLS_BETWEEN_LOOKS = 24
BROKER_KILL_EVERY = 4  # looks
# A life that does not come to its step by then is shot.
LIFE_S = {AGENT: 2.0, RECEIVER: 2.0}
SHOT_WITHIN_S = 0.6
LONGEST_DURING_US = 4_000
DELIVERED_WITHIN_S = 60.0

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
version = "5"
[time]
trust = "system"
[sessions]
meter_record_every_s = 0.05
resume_timeout_s = 3
start_timeout_s = 3
stop_timeout_s = 3
"""
DEVICES = """\
[[reader]]
name = "{reader}"
profile = "readers/simulated"
port = "-"
charger = "{charger}"
[[charger]]
name = "{charger}"
evse = "DE*ABC*E1001*{number}"
network = "DE*ABC"
country = "DE"
site = "car park north"
"""


class CampaignFailed(Exception):
    """The campaign itself could not go on; the text says why and where to look."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """`by_step`: how many deaths at each; "any moment" are shots that were not asked for by a step."""

    kills: dict[str, int] = field(default_factory=lambda: {AGENT: 0, RECEIVER: 0})
    by_step: dict[str, int] = field(default_factory=dict)
    broker_kills: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    records: int = 0
    duplicates_on_wire: int = 0
    greens: int = 0
    sessions: int = 0
    looks: int = 0
    seconds: float = 0.0
    complaints: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.kills.values())


def missed_steps(tally: Tally) -> list[str]:
    """The steps at which nobody died."""
    return sorted({str(step) for steps_of_role in STEPS.values() for step in steps_of_role} - set(tally.by_step))


class Nursery:
    """A process that forks lives of one role, one at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._life: int | None = None

    async def begin(self, order: Order) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order.to_json()}\n".encode())
        word, pid = (await self._said()).split()
        assert word == "born"
        with contextlib.suppress(ProcessLookupError):
            self._life = os.pidfd_open(int(pid))  # a bare number may be somebody else's by the time it is shot

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._life is not None:
                signal.pidfd_send_signal(self._life, number)

    async def ended(self) -> int:
        word, code = (await self._said()).split()
        assert word == "ended"
        if self._life is not None:
            os.close(self._life)
            self._life = None
        return int(code)

    async def _said(self) -> str:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise CampaignFailed("the nursery died")
        return line.decode().strip()


@asynccontextmanager
async def nursery(folder: Path, role: str) -> AsyncIterator[Nursery]:
    with (folder / f"{role}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.crash.nursery"),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    made = Nursery(process)
    try:
        if await made._said() != "ready":
            raise CampaignFailed(f"the nursery did not start; see {folder / f'{role}.log'}")
        yield made
    finally:
        made.send(signal.SIGKILL)  # a life that still has our pipe would keep us waiting for ever
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@dataclass(slots=True, kw_only=True)
class Fleet:
    """One role's lives, one after the other."""

    role: str
    folder: Path
    port: int
    chance: random.Random
    nursery: Nursery
    oracle: Oracle
    tally: Tally
    number: int = 0
    defect: Defect | None = None
    # Only these phases; none means all.
    phases: tuple[str, ...] = ()
    _plan: list[steps.Step] = field(default_factory=list)

    async def die_at_all_steps(self, kills: int) -> None:
        for _ in range(kills):
            await self._live_and_die()
            self.oracle.listen()
            if self.oracle.complaints:
                return

    async def _live_and_die(self) -> None:
        self.number += 1
        order = self._order()
        await self.nursery.begin(order)
        ended = asyncio.ensure_future(self.nursery.ended())
        patience_s = LIFE_S[self.role] if order.step else self.chance.uniform(0.0, SHOT_WITHIN_S)
        await asyncio.wait([ended], timeout=patience_s)
        if not ended.done():
            self.nursery.send(signal.SIGKILL)
        code = await ended
        if code == -signal.SIGKILL:
            self.tally.kills[self.role] += 1
        elif code != 0 or order.stop_after_s is None:
            log = self.folder / f"{self.role}.log"
            self.oracle.complaints.append(f"{self.role} life {self.number} ended by itself with {code}: see {log}")

    def _order(self) -> Order:
        step = None if self.chance.random() < AT_RANDOM else self._next_step()
        stops = step is not None and step.phase == "stop"
        return Order(
            role=self.role,
            number=self.number,
            port=self.port,
            folder=self.folder,
            seed=self.chance.getrandbits(32),
            step=step,
            nth=1 if step is None else self.chance.choice(TIMES.get(step.phase, (1, 1, 1, 2, 3, 5))),
            delay_us=int(LONGEST_DURING_US ** self.chance.random()),
            stop_after_s=self.chance.uniform(0.1, 0.4) if stops else None,
            defect=self.defect,
        )

    def _next_step(self) -> steps.Step:
        """Each step comes once before any comes again."""
        if not self._plan:
            self._plan = [step for step in STEPS[self.role] if not self.phases or step.phase in self.phases]
            self._plan = self._plan or list(STEPS[self.role])
            self.chance.shuffle(self._plan)
        return self._plan.pop()


# The first time or a later one: some things happen once a life, some all the time.
TIMES = {"start": (1,), "stop": (1,), "receiver start": (1,), "append": (2, 3, 5, 7, 11, 13, 17)}


async def campaign(
    folder: Path,
    *,
    seed: int,
    kills: int,
    progress: Callable[[Tally], None],
    defect: Defect | None = None,
    phases: tuple[str, ...] = (),
) -> Tally:
    """Ends at the first complaint; the folder then shows why."""
    began = time.monotonic()
    chance = random.Random(seed)
    tally = Tally()
    oracle = Oracle(folder=folder, device=DEVICE)
    async with (
        loopback_broker(folder / "broker", engine=Engine.MOSQUITTO) as broker,
        bad_link(broker.port, random.Random(seed)) as link,
        nursery(folder, AGENT) as agents,
        nursery(folder, RECEIVER) as receivers,
    ):
        await found_fleet(folder, link.port)
        roles = [
            Fleet(role=role, folder=folder, port=link.port, chance=random.Random(f"{seed} {role}"), nursery=from_,
                  oracle=oracle, tally=tally, defect=defect, phases=phases)
            for role, from_ in ((AGENT, agents), (RECEIVER, receivers))
        ]  # fmt: skip
        rounds = max(1, -(-kills // KILLS_BETWEEN_LOOKS))
        each = -(-kills // (2 * rounds))
        for number in range(rounds):
            await asyncio.gather(*(role.die_at_all_steps(each) for role in roles))
            oracle.look()
            _report(tally, oracle, link, began)
            progress(tally)
            if oracle.complaints:
                return tally
            if number % BROKER_KILL_EVERY == BROKER_KILL_EVERY - 1:
                await _kill(broker, tally, loses_store=chance.random() < 0.5)
        await deliver_everything(folder, link, roles, oracle)
    oracle.look_at_the_end()
    _report(tally, oracle, link, began)
    progress(tally)
    return tally


async def deliver_everything(folder: Path, link: BadLink, roles: list[Fleet], oracle: Oracle) -> None:
    """The link is mended, nobody is killed: in the end both stop with everything delivered."""
    link.is_good = True
    link.drop_all()
    for role in roles:
        role.number += 1
        order = Order(role=role.role, number=role.number, port=link.port, folder=folder, seed=1, quiet=True)
        await role.nursery.begin(order)
    give_up = time.monotonic() + DELIVERED_WITHIN_S
    settled = 0
    while settled < 5:
        await asyncio.sleep(0.2)
        oracle.listen()
        settled = settled + 1 if oracle.agent.acknowledged == oracle.agent.sealed else 0
        if time.monotonic() > give_up:
            oracle.complaints.append(f"delivered {oracle.agent.acknowledged} of {oracle.agent.sealed} in time")
            break
    for role in roles:
        role.nursery.send(signal.SIGTERM)
        code = await role.nursery.ended()
        if code != 0:
            oracle.complaints.append(f"the last {role.role} stopped with {code}")


async def found_fleet(folder: Path, port: int) -> None:
    """Keys, one policy, already in force on the device; the receiver's key among them."""
    office = folder / "office"
    office.mkdir()
    await _publish(office, folder)
    (folder / "service.pem").write_bytes((office / "fleet" / "keys" / "service-ack.pem").read_bytes())
    parts = [
        DEVICES.format(reader=reader, charger=charger, number=number)
        for number, (reader, charger) in enumerate((("left", "bay-1"), ("right", "bay-2"), ("rear", "bay-3")), start=1)
    ]
    (folder / "roamkey.toml").write_text(CONFIG.format(fleet=FLEET, device=DEVICE, port=port) + "".join(parts))
    vault = Vault.open(folder / "state" / "vault", token_key=folder / "device" / "token.key")
    now = SystemClock(trusted=True).now()
    root = (folder / "device" / "root.json").read_bytes()
    cache = PolicyCache(folder / "state" / "policy", fleet=FLEET, root=root, key=vault.token_key, now=now)
    try:
        result = await cache.update(FolderCarrier(office / "fleet" / "repository"), now)
    finally:
        cache.close()
    if isinstance(result, Refused):
        raise CampaignFailed(f"the policy was refused: {result}")


async def _publish(office: Path, folder: Path) -> None:
    from agent.demo.fleet import DRIVERS, POLICY, TOKENS, VEHICLES, hours_from_now, verb

    source = office / "policy"
    source.mkdir()
    policy = POLICY.format(start=hours_from_now(6), end=hours_from_now(8))
    for name, text in (
        ("policy.toml", policy),
        ("drivers.toml", DRIVERS),
        ("vehicles.toml", VEHICLES),
        ("tokens.csv", TOKENS),
    ):
        (source / name).write_text(text)
    await verb("init", str(office / "fleet"), "--fleet", FLEET)
    await verb("publish", str(office / "fleet"), "--policy", str(source))
    await verb("device-files", str(office / "fleet"), "--out", str(folder / "device"))


async def _kill(broker: LoopbackBroker, tally: Tally, *, loses_store: bool) -> None:
    await broker.kill()
    if loses_store:
        (broker.folder / "mosquitto.db").unlink(missing_ok=True)
    await broker.start()
    tally.broker_kills += 1


def _report(tally: Tally, oracle: Oracle, link: BadLink, began: float) -> None:
    tally.by_step = {**oracle.agent.deaths, **oracle.receiver.deaths}
    named = sum(tally.by_step.values())
    tally.by_step["any moment"] = tally.total - named
    tally.faults = {str(fault): times for fault, times in link.faults.items()} | {"cut after": link.cuts}
    tally.looks = oracle.looks
    tally.greens = len(oracle.agent.greens)
    tally.sessions = len(oracle.agent.started)
    tally.seconds = time.monotonic() - began
    tally.complaints = oracle.complaints
    if oracle.audit is not None:
        tally.records = oracle.audit.stored
        tally.duplicates_on_wire = oracle.audit.duplicates_on_wire
