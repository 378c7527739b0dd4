"""A rogue broker writes records in a device's name, well chained: real service, journal and backend."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from contextlib import closing

import pytest

from agent.demo.fleet import FLEET
from sync.backend.checkpoints import DeviceKeys
from sync.backend.store import Store, StreamAudit
from sync.batch import Codec, content_type, pack
from sync.link import open_link
from sync.topics import DeviceTopics
from tests.end_to_end.conftest import build, office  # noqa: F401 - fixtures
from tests.end_to_end.premises import Premises, until
from tests.uplink.closed_loop import link_settings

pytestmark = pytest.mark.slow


def invent(here: Premises, count: int) -> list[bytes]:
    """Records that continue the device's journal as the backend knows it."""
    assert here.broker is not None
    previous = here.stored()[-1]
    invented = []
    for _ in range(count):
        event = json.loads(previous)
        event["sequence"] = str(int(event["sequence"]) + 1)
        event["previous"] = hashlib.sha256(previous).hexdigest()
        event["id"] = f"019cad74-0000-7000-8000-{int(event['sequence']):012d}"
        event |= {"type": "io.roamkey.session.ended", "subject": "invented", "data": {"energy_wh": 10**6}}
        previous = json.dumps(event).encode()
        invented.append(previous)
    topic = DeviceTopics(fleet=FLEET, device=here.device).records

    async def publish() -> None:
        assert here.broker is not None
        async with open_link(link_settings(here.broker.port, "rogue")) as link:
            await link.publish(topic, pack(invented, Codec.PLAIN), content_type=content_type(Codec.PLAIN))

    asyncio.run(publish())
    return invented


def audits(here: Premises) -> list[StreamAudit]:
    keys = here.root / "keys"
    keys.mkdir(exist_ok=True)
    (keys / f"{here.device}.jwk").write_bytes((here.state / "vault" / "device.jwk").read_bytes())
    with closing(Store(here.database)) as store:
        return store.audit(DeviceKeys(keys).of)


def reason_of(here: Premises) -> str:
    """Why the journal that is written now was begun."""
    return str(here.events("journal.opened")[0]["data"]["reason"])


def test_invented_records_cost_time_and_are_never_taken_for_the_devices(build: Callable[..., Premises]) -> None:  # noqa: F811
    here = build(broker=True, bays=(), readers=("door",))
    here.start_ready()
    here.until_delivered()
    here.stop()
    invented = invent(here, 3)
    until("the backend has what was invented", lambda: here.stored()[-3:] == invented)

    here.start_ready()
    here.tap("door", bytes.fromhex("04A1B2C3"))
    until("it has noticed", lambda: {"fork", "backend-ahead", "diverged"} & set(here.status()["alarms"]))
    # Finding the last record in common takes a few greetings, and they are never in a hurry.
    until("it goes on under a new journal", lambda: reason_of(here) == "diverged", within_s=90)
    until("everything is delivered", lambda: here.status()["journal"]["backlog"] == 0, within_s=30)
    sealed_subjects = {each["subject"] for each in here.events("decision.made")}
    here.stop()

    old, *_, new = audits(here)
    assert old.unsigned is not None
    assert old.unsigned[-1][1] == old.last  # the invented ones are at the end, and nobody signs for them
    assert old.last - old.unsigned[-1][0] + 1 >= len(invented)
    assert new.journal != old.journal
    assert (new.chain_ok, new.gaps, new.forks) == (True, (), 0)
    assert sealed_subjects
    with closing(Store(here.database)) as store:
        delivered = {json.loads(body).get("subject") for body in store.bodies(here.device, new.journal)}
    assert sealed_subjects <= delivered
    here.assert_whole()
