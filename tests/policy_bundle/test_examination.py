"""The examination in a process of its own says what the one in here says, and its death changes nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from agent.cache import examination
from agent.cache.cache import Activated, PolicyCache, Refused, Unchanged, Update
from sync.carriers import CarrierError

pytestmark = pytest.mark.slow


class APolicyCache:
    """As the service opens it."""

    def __init__(self, folder: Path, fleet: Any, make: Any) -> None:
        self.make = make
        self.cache = PolicyCache(
            folder, fleet=fleet.name, root=fleet.root, key=make.KEY, now=make.at(), examine=examination.in_a_process
        )

    def updates(self, carrier: Any, *, hours: float = 0) -> Update:
        return asyncio.run(self.cache.update(carrier, self.make.at(hours)))


@pytest.fixture
def apart(tmp_path: Path, fleet: Any, make: Any) -> Any:
    made = APolicyCache(tmp_path / "apart", fleet, make)
    yield made
    made.cache.close()


def test_a_bundle_becomes_active(apart: Any, fleet: Any, make: Any) -> None:
    assert isinstance(apart.updates(fleet.publishes()), Activated)

    assert apart.cache.lookup(make.ref("04A1B2C3D4E5F6")) is not None


def test_a_refusal_has_the_same_name_and_text(apart: Any, device: Any, fleet: Any) -> None:
    stick = fleet.publishes(key_check="0" * 16)
    spoilt = stick.spoilt("metadata/timestamp.json", lambda body: body.replace(b'"version"', b'"Version"'))

    for bad in (stick, spoilt, stick.without(stick.parts()[0]), stick.without("metadata/timestamp.json")):
        refused = apart.updates(bad)

        assert isinstance(refused, Refused)
        assert refused == device.updates(bad)


def test_a_carrier_that_fails_is_told_by_its_own_name(apart: Any) -> None:
    class Unplugged:
        async def fetch(self, name: str, max_bytes: int) -> bytes | None:
            raise CarrierError("folder is gone: is the stick still plugged in?")

    refused = apart.updates(Unplugged())

    assert refused == Refused(
        error="CarrierError", detail="folder is gone: is the stick still plugged in?", transient=True
    )


def test_an_examiner_that_is_killed_leaves_the_good_policy_and_the_next_one_succeeds(
    apart: Any, fleet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = apart.updates(fleet.publishes())
    assert isinstance(first, Activated)
    second = fleet.publishes(hours=1)
    start = asyncio.create_subprocess_exec

    async def doomed(*words: Any, **settings: Any) -> asyncio.subprocess.Process:
        process = await start(*words, **settings)
        os.kill(process.pid, signal.SIGKILL)
        return process

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "create_subprocess_exec", doomed)
        refused = apart.updates(second, hours=1)

    assert refused == Refused(error="ExaminationFailed", detail="the examiner ended with -9", transient=True)
    assert apart.cache.active.policy.revision == first.policy.revision
    assert isinstance(apart.updates(second, hours=1), Activated)


def test_what_is_in_force_already_is_not_examined_again(
    apart: Any, fleet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stick = fleet.publishes()
    apart.updates(stick)

    async def never(*words: Any, **settings: Any) -> asyncio.subprocess.Process:
        pytest.fail("an examiner was started")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", never)
    stick.fetched.clear()

    assert isinstance(apart.updates(stick, hours=1), Unchanged)
    assert stick.fetched == ["metadata/2.root.json", "metadata/timestamp.json"]


def test_the_same_timestamp_is_examined_again_once_it_has_expired(apart: Any, fleet: Any) -> None:
    stick = fleet.publishes()
    apart.updates(stick)

    refused = apart.updates(stick, hours=24 * 400)

    assert isinstance(refused, Refused)
    assert refused.error == "ExpiredMetadataError"


def test_a_part_that_was_damaged_on_the_disk_is_fetched_again_from_an_unchanged_offer(
    apart: Any, fleet: Any, tmp_path: Path
) -> None:
    stick = fleet.publishes()
    apart.updates(stick)
    damaged = next(path for path in (tmp_path / "apart" / "parts").rglob("*") if path.is_file())
    damaged.write_bytes(b"x")
    stick.fetched.clear()

    assert isinstance(apart.updates(stick, hours=1), Unchanged)
    assert f"targets/{damaged.name}" in stick.fetched
    assert damaged.read_bytes() != b"x"
