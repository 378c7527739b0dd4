"""The rounds in which a device asks its carriers: what is told of a bundle that revokes and is not complete."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from agent.cache.cache import PolicyCache
from agent.core.facts import PolicyRejected
from agent.core.observations import Noted, Observation, PolicyActivated
from agent.updates import PolicyUpdates
from sync.carriers import CarrierError

pytestmark = pytest.mark.slow

UID = "04A1B2C3D4E5F6"


class Clock:
    """What the rounds ask of the clock."""

    def __init__(self, make: Any) -> None:
        self.hours = 0.0
        self._make = make

    def now(self) -> Any:
        return self._make.at(self.hours)

    def raise_floor(self, moment: Any) -> None:
        """Not looked at here."""


class Broken:
    """A carrier that has everything but shards."""

    def __init__(self, stick: Any, shards: set[str]) -> None:
        self._stick, self._shards = stick, shards

    async def fetch(self, name: str, max_bytes: int) -> bytes | None:
        if name in self._shards:
            raise CarrierError("the link is gone")
        body: bytes | None = await self._stick.fetch(name, max_bytes)
        return body


def told_by(cache: PolicyCache, carrier: Any, clock: Clock) -> list[Observation]:
    """One round."""
    told: list[Observation] = []
    updates = PolicyUpdates(
        cache=cache,
        carriers={"stick": carrier},
        clock=clock,  # type: ignore[arg-type]
        tell=told.append,
        activated=lambda: None,
        every_s=3600,
    )

    async def once() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.4):
                await updates.run()

    asyncio.run(once())
    return told


def test_the_machine_hears_of_revocations_before_the_bundle_is_whole(fleet: Any, device: Any, make: Any) -> None:
    clock = Clock(make)
    device.updates(fleet.publishes())
    bodies = make.documents(revision=3, tokens=[make.a_token(UID, label="new")])
    bodies["revoked.json"] = json.dumps({"schema": 1, "revoked": [make.ref(UID)]}).encode()
    stick = fleet.publishes(hours=1, bodies=bodies)
    shards = {name for name, body in stick.files.items() if b'"tokens"' in body and name.startswith("targets/")}
    clock.hours = 1

    told = told_by(device.cache, Broken(stick, shards), clock)

    (activated,) = told
    assert isinstance(activated, PolicyActivated)
    assert (activated.policy.revision, activated.policy.revoked, activated.announce) == (2, {make.ref(UID)}, False)
    assert told_by(device.cache, Broken(stick, shards), clock) == []  # no news a second time
    (whole,) = told_by(device.cache, stick, clock)
    assert isinstance(whole, PolicyActivated)
    assert (whole.policy.revision, whole.policy.revoked, whole.announce) == (3, {make.ref(UID)}, True)


def test_an_unfit_bundle_that_revokes_is_recorded_as_refused_too(fleet: Any, device: Any, make: Any) -> None:
    clock = Clock(make)
    device.updates(fleet.publishes())
    bodies = make.documents(revision=3, groups={"fleet": {"of_a_later_edition": 1}})
    bodies["revoked.json"] = json.dumps({"schema": 1, "revoked": [make.ref(UID)]}).encode()
    clock.hours = 1

    activated, noted = told_by(device.cache, fleet.publishes(hours=1, bodies=bodies), clock)

    assert isinstance(activated, PolicyActivated)
    assert activated.policy.revoked == {make.ref(UID)}
    assert isinstance(noted, Noted)
    assert isinstance(noted.fact, PolicyRejected)
    assert (noted.fact.error, noted.fact.kept_revision) == ("DocumentUnfit", 2)
