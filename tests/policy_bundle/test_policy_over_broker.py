"""`roamkey fleet publish --broker` to a device through a real broker's retained topics."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.cache.cache import Activated, Unchanged, Update
from agent.cli import main
from sync.backend.publisher import Publisher
from sync.link import LinkSettings, open_link
from sync.retained import RetainedCarrier
from sync.topics import FleetTopics
from tests.uplink.closed_loop import mosquitto

pytestmark = pytest.mark.slow


async def _updates(device: Any, port: int, make: Any) -> Update:
    carrier = RetainedCarrier(FleetTopics(fleet="meadow"), silence_s=0.3)
    settings = LinkSettings(host="127.0.0.1", port=port, client_id="device-1", tls=None)
    async with open_link(settings) as link:

        async def listen() -> None:
            while True:
                message = await link.receive()
                carrier.offer(message)
                link.acknowledge(message)

        listening = asyncio.create_task(listen())
        carrier.attach(link)
        try:
            result: Update = await device.cache.update(carrier, make.replace(make.at(), utc=datetime.now(UTC)))
        finally:
            carrier.detach()
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening
    return result


def test_published_bundle_reaches_a_device_over_retained_topics(tmp_path: Path, make: Any) -> None:
    office, source = tmp_path / "office", tmp_path / "source"
    source.mkdir()
    (source / "policy.toml").write_text("[groups.fleet]\n")
    (source / "drivers.toml").write_text("")
    (source / "vehicles.toml").write_text("")
    (source / "tokens.csv").write_text("uid,label,group\n04A1B2C3D4E5F6,Anna,fleet\n")
    assert main(["fleet", "init", str(office), "--fleet", "meadow"]) == 0
    key = bytes.fromhex((office / "keys/token.key").read_text())
    root = (office / "repository/metadata/1.root.json").read_bytes()
    device = make.ADevice(tmp_path / "device", "meadow", root, key)

    async def story() -> list[Update]:
        async with mosquitto(tmp_path) as broker:
            to_broker = ["--broker", f"127.0.0.1:{broker.port}", "--plain"]
            publish = ["fleet", "publish", str(office), "--policy", str(source), *to_broker]
            results = []
            revoke = ["fleet", "revoke", str(office), "Anna", *to_broker]
            for verb in (publish, ["fleet", "refresh", str(office), *to_broker], publish, publish, revoke):
                assert await asyncio.to_thread(main, verb) == 0
                results.append(await _updates(device, broker.port, make))
            return results

    first, confirmed, second, third, revoked = asyncio.run(story())

    assert isinstance(first, Activated)
    assert isinstance(confirmed, Unchanged)
    assert isinstance(second, Activated)
    assert isinstance(third, Activated)
    assert third.policy.revision == 4
    assert device.cache.lookup(make.ref("04A1B2C3D4E5F6", key)) is not None
    assert isinstance(revoked, Activated)
    assert revoked.policy.revoked == {make.ref("04A1B2C3D4E5F6", key)}
    device.stops()


def test_broker_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    office = tmp_path / "office"
    main(["fleet", "init", str(office), "--fleet", "meadow"])

    assert main(["fleet", "refresh", str(office), "--broker", "127.0.0.1:1", "--plain"]) == 69

    assert "broker did not take it" in capsys.readouterr().err


def test_a_broker_is_handed_what_it_lacks_and_all_when_it_lost_its_store(tmp_path: Path, make: Any) -> None:
    fleet = make.AFleet(tmp_path / "fleet")
    fleet.publishes(tokens=[make.a_token(f"04A1B2C3D4E5{n:02X}") for n in range(20)])
    had: dict[str, bytes] = {}
    handed: list[str] = []

    async def publish(name: str, body: bytes) -> None:
        handed.append(name)
        had[name] = body

    def announced(known: set[str]) -> list[str]:
        handed.clear()
        asyncio.run(fleet.publisher.announce(publish, known=known))
        return [name for name in handed if name.startswith("targets/")]

    everything = announced(set())
    assert len(everything) > 20
    known = set(everything)
    fleet.publishes(hours=1, tokens=[make.a_token(f"04A1B2C3D4E5{n:02X}", label="new" if n == 3 else "x") for n in [3]])
    assert len([name for name in announced(known) if had[name]]) == 2  # one shard, and what carries the revision
    assert len(announced(set())) > 2


def test_a_second_broker_is_freed_of_what_is_outdated_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of them is told first: each is known by what it took."""
    from agent.cli import fleet as verb

    kept: dict[int, dict[str, bytes]] = {1: {}, 2: {}}

    class Kept:
        def __init__(self, port: int) -> None:
            self.messages = kept[port]

        async def __call__(self, topic: str, body: bytes) -> None:
            self.messages.pop(topic, None)
            if body:
                self.messages[topic] = body

        async def holds(self, topic: str) -> bool:
            return topic in self.messages

    async def with_broker(publisher: Any, broker: Any, announce: Any) -> int:
        count: int = await announce(Kept(broker.port))
        return count

    monkeypatch.setattr(verb, "_with_broker", with_broker)
    office, source = tmp_path / "office", tmp_path / "source"
    source.mkdir()
    for name in ("drivers.toml", "vehicles.toml"):
        (source / name).write_text("")
    (source / "policy.toml").write_text("[groups.fleet]\n")
    main(["fleet", "init", str(office), "--fleet", "meadow"])
    for number in range(5):
        (source / "tokens.csv").write_text(f"uid,label,group\n04A1B2C3D4E5F6,card {number},fleet\n")
        for port in (1, 2):
            to_broker = ["--broker", f"here:{port}", "--plain"]
            assert main(["fleet", "publish", str(office), "--policy", str(source), *to_broker]) == 0

    for port in (1, 2):
        assert main(["fleet", "refresh", str(office), "--broker", f"here:{port}", "--plain"]) == 0
    documents = {FleetTopics(fleet="meadow").policy(name) for name in Publisher(office).documents()}
    assert set(kept[1]) == set(kept[2]) == documents

    kept[2].clear()  # it lost its store
    assert main(["fleet", "refresh", str(office), "--broker", "here:2", "--plain"]) == 0
    assert set(kept[2]) == documents
