"""The configurations that we ship, in a real mosquitto: what one device can do to another, judged by what arrives.

A granted subscription proves nothing (mosquitto with acl_file grants every one), and a good PUBACK neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sync.link import (
    CertificateRefused,
    Link,
    LinkError,
    Protocol,
    SubscribeRefused,
    Tls,
    open_link,
)
from sync.topics import FleetTopics
from tests.broker_security.shipped_broker import FLEET, Premises, add_device, shipped_broker
from tests.uplink.certificates import HOUR, Authority
from tests.uplink.closed_loop import a_fleet, eventually

pytestmark = pytest.mark.slow

TOPICS = FleetTopics(fleet=FLEET)
OURS, THEIRS = TOPICS.device("van-1"), TOPICS.device("van-2")
ACL_FILE, DYNAMIC = "mosquitto.conf", "dynamic-security.conf"


@asynccontextmanager
async def premises_of(folder: Path, configuration: str) -> AsyncIterator[Premises]:
    """The broker, with two devices let in."""
    async with shipped_broker(folder, configuration) as premises:
        if configuration == DYNAMIC:
            for name in ("van-1", "van-2"):
                await add_device(premises, name)
        yield premises


async def arrived(link: Link, canary: str) -> list[str]:
    """The payloads that a subscriber gets before the canary, which its publisher sent last."""
    payloads: list[str] = []
    async with asyncio.timeout(5):
        while True:
            payload = (await link.receive()).payload.decode()
            if payload == canary:
                return payloads
            payloads.append(payload)


async def tried(link: Link, topic: str) -> bool:
    """Whether the broker granted the subscription: either is fine, only what arrives counts."""
    try:
        await link.subscribe([topic])
    except SubscribeRefused:
        return False
    return True


@pytest.mark.parametrize("configuration", [ACL_FILE, DYNAMIC])
@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_device_can_publish_only_below_its_own_up(tmp_path: Path, configuration: str, protocol: Protocol) -> None:
    forbidden = [
        THEIRS.records,
        THEIRS.status,
        THEIRS.ack,
        OURS.ack,
        OURS.grant,
        TOPICS.policy("metadata/timestamp.json"),
        FleetTopics(fleet="other").device("van-1").records,
        "roamkey/v1/acme/van-1/upx",
        "$SYS/broker/version",
        "$CONTROL/dynamic-security/v1",
    ]

    async def story() -> None:
        async with (
            premises_of(tmp_path, configuration) as premises,
            open_link(premises.settings("receiver-1")) as receiver,
            open_link(premises.settings("van-2")) as neighbour,
            open_link(premises.settings("van-1"), protocol=protocol) as device,
        ):
            await receiver.subscribe([TOPICS.records, TOPICS.status, TOPICS.hello])
            await neighbour.subscribe([THEIRS.ack, THEIRS.grant, TOPICS.policy("metadata/timestamp.json")])
            for topic in forbidden:
                code = await device.publish(topic, b"forged")
                assert code == (0x87 if protocol is Protocol.MQTT_5 else 0), topic
            await device.publish(OURS.records, b"canary")
            await receiver.publish(THEIRS.ack, b"canary")

            assert await arrived(receiver, "canary") == []
            assert await arrived(neighbour, "canary") == []

    asyncio.run(story())


@pytest.mark.parametrize("configuration", [ACL_FILE, DYNAMIC])
def test_who_answers_questions_sees_no_records_and_the_publisher_sends_overrides(
    tmp_path: Path, configuration: str
) -> None:
    async def story() -> None:
        async with (
            premises_of(tmp_path, configuration) as premises,
            open_link(premises.settings("answers-1")) as answers,
            open_link(premises.settings("publisher-acme")) as publisher,
            open_link(premises.settings("van-1")) as device,
        ):
            await answers.subscribe([TOPICS.ask])
            await tried(answers, TOPICS.records)
            await device.subscribe([OURS.answer, OURS.override])
            await device.publish(OURS.records, b"a record")
            await device.publish(OURS.ask, b"a question")
            assert (await answers.receive()).payload == b"a question"

            assert await answers.publish(OURS.override, b"forged") == 0x87
            assert await publisher.publish(OURS.answer, b"forged") == 0x87
            await publisher.publish(OURS.override, b"an override", retain=True)
            assert (await device.receive()).payload == b"an override"
            await answers.publish(OURS.answer, b"an answer")
            assert (await device.receive()).payload == b"an answer"

    asyncio.run(story())


@pytest.mark.parametrize("configuration", [ACL_FILE, DYNAMIC])
def test_a_device_can_read_only_its_own_down_and_the_policy(tmp_path: Path, configuration: str) -> None:
    everything = [THEIRS.ack, THEIRS.grant, THEIRS.records, TOPICS.records, "#", f"roamkey/v1/{FLEET}/+/down/#"]
    policy = TOPICS.policy("metadata/timestamp.json")

    async def story() -> None:
        async with (
            premises_of(tmp_path, configuration) as premises,
            open_link(premises.settings("receiver-1")) as receiver,
            open_link(premises.settings("publisher-acme")) as publisher,
            open_link(premises.settings("van-2")) as neighbour,
            open_link(premises.settings("van-1")) as device,
        ):
            for topic in everything:
                granted = await tried(device, topic)
                assert granted == (configuration == ACL_FILE), topic
            await device.subscribe([OURS.ack, policy])
            await receiver.subscribe([TOPICS.records])

            await neighbour.publish(THEIRS.records, b"a neighbour's record")
            assert (await receiver.receive()).payload == b"a neighbour's record"
            await receiver.publish(THEIRS.ack, b"a neighbour's acknowledgement")
            await publisher.publish(policy, b"policy", retain=True)
            await receiver.publish(OURS.ack, b"canary")

            # Wide and narrow subscriptions of acl_file overlap: what is allowed may come more than once.
            assert set(await arrived(device, "canary")) <= {"policy"}

    asyncio.run(story())


@pytest.mark.parametrize("configuration", [ACL_FILE, DYNAMIC])
def test_records_and_acknowledgements_flow_under_these_rules(tmp_path: Path, configuration: str) -> None:
    fleet = a_fleet(tmp_path, name=FLEET, device="van-1")

    async def story() -> None:
        fleet.outbox.seal_many(200)
        async with premises_of(tmp_path, configuration) as premises:
            receiver, device = premises.authority.issue("receiver-1"), premises.authority.issue("van-1")
            async with (
                fleet.receiver(premises.port, tls=receiver),
                fleet.device(premises.port, tls=device, client_id="whatever"),
            ):
                await fleet.until_delivered()

    asyncio.run(story())
    assert fleet.assert_complete(200).duplicates_on_wire == 0
    assert fleet.alarms() <= {"no-receiver"}


@pytest.mark.parametrize("configuration", [ACL_FILE, DYNAMIC])
@pytest.mark.parametrize(
    ("stranger", "says"),
    [
        ("none", "none was sent"),
        ("rogue authority", "does not know the authority"),
        ("expired", "it has expired"),
        ("revoked", "it is revoked"),
    ],
)
def test_who_has_no_good_certificate_is_refused_and_told_why(
    tmp_path: Path, configuration: str, stranger: str, says: str
) -> None:
    rogue = Authority(tmp_path / "rogue")

    async def story() -> None:
        async with shipped_broker(tmp_path, configuration, revoked="van-1") as premises:
            ours = premises.authority
            tls = {
                "none": lambda: Tls(cafile=ours.cafile),
                "rogue authority": lambda: replace(rogue.issue("van-1"), cafile=ours.cafile),
                "expired": lambda: ours.issue("van-1", file="expired", valid=-HOUR),
                "revoked": lambda: premises.revoked,
            }[stranger]()
            with pytest.raises(CertificateRefused, match=says) as refusal:
                async with open_link(premises.settings("van-1", tls=tls)):
                    pass
            assert refusal.value.alarm == "certificate-refused"
            async with open_link(premises.settings("van-1")) as good:
                assert good.is_up

    asyncio.run(story())


def test_a_revocation_list_that_has_expired_keeps_everybody_out(tmp_path: Path) -> None:
    """Which is why docs/broker names its renewal as a duty."""

    async def story() -> None:
        async with shipped_broker(tmp_path, ACL_FILE, list_valid=-HOUR) as premises:
            with pytest.raises(CertificateRefused):
                async with open_link(premises.settings("van-1")):
                    pass

    asyncio.run(story())


@pytest.mark.parametrize("configuration", [ACL_FILE, DYNAMIC])
def test_the_client_id_of_another_device_can_not_be_taken_over(tmp_path: Path, configuration: str) -> None:
    async def story() -> None:
        async with (
            premises_of(tmp_path, configuration) as premises,
            open_link(premises.settings("van-1")) as device,
        ):
            await device.subscribe([OURS.ack])
            async with (
                open_link(premises.settings("van-2", client_id="van-1")) as intruder,
                open_link(premises.settings("receiver-1")) as receiver,
            ):
                assert intruder.is_up
                await receiver.publish(OURS.ack, b"canary")
                assert await arrived(device, "canary") == []
                assert device.is_up

    asyncio.run(story())


def test_a_name_with_wildcards_in_its_certificate_may_do_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with shipped_broker(tmp_path, ACL_FILE) as premises:
            tls = premises.authority.issue("van-1/../+/#", file="odd")
            async with (
                open_link(premises.settings("receiver-1")) as receiver,
                open_link(premises.settings("van-1")) as device,
            ):
                await receiver.subscribe([TOPICS.records])
                try:
                    async with open_link(premises.settings("odd", tls=tls)) as odd:
                        await odd.publish(OURS.records, b"forged")
                        await odd.publish("roamkey/v1/acme/van-1/../+/#/up/records", b"forged")
                except (LinkError, ValueError):
                    pass
                await device.publish(OURS.records, b"canary")
                assert await arrived(receiver, "canary") == []

    asyncio.run(story())


@pytest.mark.parametrize(("configuration", "stolen"), [(ACL_FILE, True), (DYNAMIC, False)])
def test_a_device_starves_a_shared_subscription_with_an_acl_file_but_not_with_dynamic_security(
    tmp_path: Path, configuration: str, stolen: bool
) -> None:
    """The thief reads nothing, but mosquitto hands it every second record and says Success to the sender."""
    shared = f"$share/receivers/{TOPICS.records}"

    async def story() -> int:
        async with (
            premises_of(tmp_path, configuration) as premises,
            open_link(premises.settings("receiver-1")) as receiver,
            open_link(premises.settings("van-2")) as thief,
            open_link(premises.settings("van-1")) as device,
        ):
            await receiver.subscribe([shared])
            assert await tried(thief, shared) == stolen
            for number in range(20):
                assert await device.publish(OURS.records, str(number).encode()) == 0
            await asyncio.sleep(0.3)
            return len(receiver.receive_waiting(100))

    assert asyncio.run(story()) == (10 if stolen else 20)


@pytest.mark.parametrize(
    ("fault", "alarm"),
    [
        ("another authority", "broker-untrusted"),
        ("another name", "broker-name-wrong"),
        ("expired", "broker-certificate-expired"),
    ],
)
def test_a_rogue_broker_hears_nothing_and_the_device_says_why(tmp_path: Path, fault: str, alarm: str) -> None:
    fleet = a_fleet(tmp_path, name=FLEET, device="van-1")
    rogue = Authority(tmp_path / "rogue")
    ours = Authority(tmp_path / "ours")

    async def story() -> None:
        fleet.outbox.seal_many(5)
        server = {
            "another authority": lambda: rogue.issue("broker"),
            "another name": lambda: ours.issue("broker", host="broker.example"),
            "expired": lambda: ours.issue("broker", valid=-HOUR),
        }[fault]()
        async with shipped_broker(tmp_path, ACL_FILE, server=server) as premises:
            async with fleet.device(premises.port, tls=ours.issue("van-1")):
                await eventually(lambda: alarm in fleet.alarms())
            assert "New client connected" not in premises.log

    asyncio.run(story())
