"""The disk below the agent's state fills up at any moment and is freed again later, under load, with kills while full.

While it is full, drivers leave: the ends of their sessions must be recorded all the same. New sessions may be refused.
The oracle is that of the kill campaign; any death that was not ours is a complaint.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.demo.fleet import DEVICE
from sync.loopback_broker import Engine, loopback_broker
from tests.crash.bad_link import bad_link
from tests.crash.kill_campaign import AGENT, RECEIVER, Fleet, Nursery, deliver_everything, found_fleet, nursery
from tests.crash.kill_campaign import Tally as KillTally
from tests.crash.lives import Order
from tests.crash.oracle import Oracle
from tests.journal.small_disks import ext4, tmpfs

KIB, MIB = 1024, 1024 * 1024
# The service looks at what it could not store once a second.
RECORDED_WITHIN_S = 5.0
STARTED_WITHIN_S = 5.0
SOMEBODY_CHARGES_WITHIN_S = 3.0
FILLS_BETWEEN_LOOKS = 3


@dataclass(slots=True, kw_only=True)
class Tally:
    """`ends_while_full` sessions ended, and were recorded, while there was no room on the disk."""

    disk: str
    fills: int = 0
    ends_while_full: int = 0
    kills_while_full: int = 0
    starts_while_full: int = 0
    records: int = 0
    greens: int = 0
    seconds: float = 0.0
    complaints: list[str] = field(default_factory=list)


DISKS = {
    "tmpfs 2 MiB": lambda folder: tmpfs(folder, 2 * MIB),
    "ext4, 1 KiB blocks": lambda folder: ext4(folder, 6 * MIB, block_bytes=1024),
    "ext4, 4 KiB blocks": lambda folder: ext4(folder, 8 * MIB, block_bytes=4096),
}


async def campaign(folder: Path, *, disk: str, seed: int, fills: int, progress: Callable[[Tally], None]) -> Tally:
    """Raises small_disks.Unavailable when this machine cannot mount the disk."""
    with DISKS[disk](folder / "state") as state:
        return await _campaign(folder, state, Tally(disk=disk), seed, fills, progress)


async def _campaign(
    folder: Path, state: Path, tally: Tally, seed: int, fills: int, progress: Callable[[Tally], None]
) -> Tally:
    began = time.monotonic()
    chance = random.Random(seed)
    oracle = Oracle(folder=folder, device=DEVICE)

    def report() -> None:
        tally.seconds = time.monotonic() - began
        tally.greens, tally.complaints = len(oracle.agent.greens), oracle.complaints
        tally.records = oracle.audit.stored if oracle.audit else 0
        progress(tally)

    async with (
        loopback_broker(folder / "broker", engine=Engine.MOSQUITTO) as broker,
        bad_link(broker.port, random.Random(seed)) as link,
        nursery(folder, AGENT) as agents,
        nursery(folder, RECEIVER) as receivers,
    ):
        await found_fleet(folder, link.port)
        stage = Stage(folder=folder, state=state, port=link.port, chance=chance, oracle=oracle, tally=tally)
        for number in range(fills):
            if number % FILLS_BETWEEN_LOOKS == 0:
                await stage.begin(receivers, RECEIVER)
                await stage.begin(agents, AGENT)
            await stage.fill_and_free(agents)
            if number % FILLS_BETWEEN_LOOKS == FILLS_BETWEEN_LOOKS - 1 or number == fills - 1:
                await stage.end(agents)
                await stage.end(receivers)
                oracle.look()
                report()
            if oracle.complaints:
                report()
                return tally
        rest = [
            Fleet(role=role, folder=folder, port=link.port, chance=chance, nursery=from_, oracle=oracle,
                  tally=KillTally(), number=1000)
            for role, from_ in ((AGENT, agents), (RECEIVER, receivers))
        ]  # fmt: skip
        await deliver_everything(folder, link, rest, oracle)
    oracle.look_at_the_end()
    report()
    return tally


@dataclass(slots=True, kw_only=True)
class Stage:
    folder: Path
    state: Path
    port: int
    chance: random.Random
    oracle: Oracle
    tally: Tally
    number: int = 0

    async def begin(self, life: Nursery, role: str) -> None:
        self.number += 1
        order = Order(
            role=role, number=self.number, port=self.port, folder=self.folder, seed=self.chance.getrandbits(32)
        )
        lives = self.oracle.agent.openings
        await life.begin(order)
        if role == AGENT:
            await self._until("the agent starts", STARTED_WITHIN_S, lambda: self.oracle.agent.openings > lives)

    async def end(self, life: Nursery) -> None:
        life.send(signal.SIGKILL)
        code = await life.ended()
        if code != -signal.SIGKILL:
            self.oracle.complaints.append(f"a life ended by itself with {code}, its log is in {self.folder}")

    async def fill_and_free(self, agents: Nursery) -> None:
        """Full at any byte of any write; drivers leave; perhaps a kill and a start while full; then room again."""
        give_up = time.monotonic() + SOMEBODY_CHARGES_WITHIN_S
        while not self._somebody_charges() and time.monotonic() < give_up:
            await asyncio.sleep(0.01)
            self.oracle.listen()
        await asyncio.sleep(self.chance.choice((0.0, 0.0, self.chance.uniform(0.0, 0.3))))
        neighbour = self.state / "neighbour"
        take_room(neighbour, leave=self.chance.choice((0, 0, self.chance.randrange(64 * KIB))))
        self.tally.fills += 1
        await asyncio.sleep(self.chance.choice((0.0, 0.0, self.chance.uniform(0.0, 0.3))))
        take_room(neighbour, leave=0)
        before = set(self.oracle.agent.ended)
        agents.send(signal.SIGUSR1)
        await self._until("the ends of running sessions are recorded", RECORDED_WITHIN_S, self._left_have_ended)
        self.tally.ends_while_full += len((self.oracle.agent.ended - before) & self.oracle.agent.left)
        if self.chance.random() < 0.4:
            await self.end(agents)
            self.tally.kills_while_full += 1
            await self.begin(agents, AGENT)
            self.tally.starts_while_full += 1
        neighbour.unlink()
        agents.send(signal.SIGUSR2)

    def _somebody_charges(self) -> bool:
        return bool(self.oracle.agent.started - self.oracle.agent.ended)

    def _left_have_ended(self) -> bool:
        words = self.oracle.agent
        return not words.left - words.ended

    async def _until(self, what: str, within_s: float, claim: Callable[[], bool]) -> None:
        give_up = time.monotonic() + within_s
        await asyncio.sleep(0.1)
        while True:
            self.oracle.listen()
            if claim():
                return
            if time.monotonic() > give_up:
                missing = sorted(self.oracle.agent.left - self.oracle.agent.ended)
                self.oracle.complaints.append(f"{what}: not within {within_s:.0f} s; left and not ended: {missing}")
                return
            await asyncio.sleep(0.02)


def take_room(neighbour: Path, *, leave: int) -> None:
    """Write until nothing, or only so many bytes, are left."""
    with neighbour.open("ab", buffering=0) as greedy:
        for chunk in (64 * KIB, KIB, 1):
            with contextlib.suppress(OSError):
                while _free(neighbour.parent) > leave or not leave:
                    greedy.write(b"\xaa" * chunk)


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
