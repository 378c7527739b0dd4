"""One connection: what it announces, how it is protected, and that its end is always told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from sync.carriers import CarrierError, FolderCarrier
from sync.link import (
    AnswerMissing,
    BrokerRefused,
    BrokerSilent,
    BrokerUnreachable,
    BrokerUntrusted,
    CertificateRefused,
    Dialect,
    LinkError,
    LinkLost,
    LinkMisconfigured,
    LinkSettings,
    Protocol,
    SubscribeRefused,
    Tls,
    Will,
    open_link,
)
from sync.loopback_broker import free_port
from tests.uplink.certificates import Authority
from tests.uplink.closed_loop import DEVICE, FLEET, Fleet, link_settings, mosquitto
from tests.uplink.strict_broker import strict_broker


def test_mqtt_5_is_tried_first_and_the_version_that_works_is_kept() -> None:
    dialect = Dialect()
    assert dialect.next is Protocol.MQTT_5
    silent = dialect.failed(BrokerSilent("no CONNACK"))
    assert silent.next is Protocol.MQTT_3_1_1
    assert silent.failed(BrokerSilent("no CONNACK")).next is Protocol.MQTT_5
    assert silent.worked().failed(BrokerSilent("cut")).next is Protocol.MQTT_3_1_1


@pytest.mark.parametrize(
    ("error", "tries_the_other"),
    [
        (BrokerRefused(0x84, "unsupported protocol version"), True),
        (BrokerRefused(0x87, "not authorized"), False),
        (BrokerUnreachable("refused"), False),
        (LinkLost("cut"), False),
    ],
)
def test_only_signs_of_a_foreign_version_change_it(error: LinkError, tries_the_other: bool) -> None:
    assert (Dialect().failed(error).next is Protocol.MQTT_3_1_1) == tries_the_other
    assert Dialect(wanted=Protocol.MQTT_5).failed(error).next is Protocol.MQTT_5


def test_the_brokers_limits_are_read() -> None:
    async def story() -> None:
        async with (
            strict_broker(receive_maximum=3, maximum_packet_size=4096) as broker,
            open_link(link_settings(broker.port, "a")) as link,
        ):
            assert (link.receive_maximum, link.maximum_packet_size) == (3, 4096)
            assert link.is_up
            assert not link.encrypted

    asyncio.run(story())


def test_a_will_is_given_when_the_link_dies_and_not_when_it_is_closed() -> None:
    will = Will(topic="t/status", payload=b"gone")

    async def story() -> None:
        async with strict_broker() as broker:
            async with open_link(link_settings(broker.port, "a"), will=will):
                pass
            assert broker.wills == []
            async with open_link(link_settings(broker.port, "a"), will=will) as link:
                broker.cut_everyone()
                with pytest.raises(LinkLost):
                    await link.receive()
            assert broker.wills == [("t/status", b"gone")]

    asyncio.run(story())


def test_everything_that_waits_ends_with_the_link() -> None:
    async def story() -> None:
        async with (
            strict_broker(withhold_pubacks=True) as broker,
            open_link(link_settings(broker.port, "a")) as link,
        ):
            waiting = [asyncio.ensure_future(link.publish("t", b"x")) for _ in range(30)]
            waiting.append(asyncio.ensure_future(link.receive()))
            await asyncio.sleep(0.05)
            assert not link.has_room
            broker.cut_everyone()
            results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 2)
            assert {type(result) for result in results} == {LinkLost}
            assert "lost" in await link.ended()

    asyncio.run(story())


def test_a_missing_puback_is_an_error_and_no_wait_for_ever() -> None:
    async def story() -> None:
        async with strict_broker(withhold_pubacks=True) as broker:
            settings = replace(link_settings(broker.port, "a"), answer_timeout_s=0.05)
            async with open_link(settings) as link:
                with pytest.raises(AnswerMissing, match="t/x"):
                    await link.publish("t/x", b"")

    asyncio.run(story())


def test_nobody_there_is_said_with_the_address() -> None:
    port = free_port()

    async def story() -> None:
        async with open_link(link_settings(port, "a")):
            pytest.fail("connected to nothing")

    with pytest.raises(BrokerUnreachable, match=f"127.0.0.1:{port}"):
        asyncio.run(story())


def test_a_subscription_with_a_bad_filter_ends_the_wait() -> None:
    async def story() -> None:
        async with strict_broker() as broker, open_link(link_settings(broker.port, "a")) as link:
            with pytest.raises((SubscribeRefused, LinkError, ValueError)):
                await link.subscribe(["a/#/b"])

    asyncio.run(story())


def test_certificate_files_that_are_missing_are_named(tmp_path: Path) -> None:
    settings = LinkSettings(host="127.0.0.1", port=1, client_id="a", tls=Tls(cafile=tmp_path / "nowhere.crt"))

    async def story() -> None:
        async with open_link(settings):
            pass

    with pytest.raises(LinkMisconfigured, match=r"nowhere\.crt"):
        asyncio.run(story())


@pytest.mark.slow
def test_delivery_with_client_certificates_and_access_rules(fleet: Fleet) -> None:
    """The configuration that docs recommend: names from certificates, one device cannot touch another's topics."""
    authority = Authority(fleet.folder / "ca")
    rogue = Authority(fleet.folder / "rogue")
    server = authority.issue("broker")
    rules = fleet.folder / "acl"
    rules.write_text(
        f"user receiver-1\n"
        f"topic write roamkey/v1/{FLEET}/+/down/#\n"
        f"topic read roamkey/v1/{FLEET}/+/up/#\n"
        f"pattern write roamkey/v1/{FLEET}/%u/up/#\n"
        f"pattern read roamkey/v1/{FLEET}/%u/down/#\n"
        f"pattern read roamkey/v1/{FLEET}/policy/#\n"
    )
    rules.chmod(0o600)
    options = (
        f"cafile {server.cafile}",
        f"certfile {server.certfile}",
        f"keyfile {server.keyfile}",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        f"acl_file {rules}",
    )

    async def story() -> None:
        fleet.outbox.seal_many(100)
        async with mosquitto(fleet.folder, *options) as broker:
            device, receiver = authority.issue(DEVICE), authority.issue("receiver-1")
            async with fleet.receiver(broker.port, tls=receiver), fleet.device(broker.port, tls=device):
                await fleet.until_delivered()
            settings = replace(link_settings(broker.port, DEVICE), tls=device)
            async with open_link(settings) as link:
                assert link.encrypted
                assert await link.publish(f"roamkey/v1/{FLEET}/gw-2/up/records", b"x") == 0x87
                assert await link.publish(f"roamkey/v1/{FLEET}/{DEVICE}/down/ack", b"x") == 0x87
            wrong_ca = replace(device, cafile=rogue.cafile)
            stranger = rogue.issue(DEVICE)
            stranger = replace(stranger, cafile=authority.cafile)
            for tls in (wrong_ca, stranger, Tls(cafile=authority.cafile)):
                with pytest.raises((BrokerUntrusted, CertificateRefused)):
                    async with open_link(replace(settings, tls=tls)):
                        pass

    asyncio.run(story())
    fleet.assert_complete(100)


def test_a_folder_carries_the_same_names(tmp_path: Path) -> None:
    digest = "ab" * 32
    (tmp_path / "metadata").mkdir()
    (tmp_path / "targets").mkdir()
    (tmp_path / "metadata" / "timestamp.json").write_bytes(b"{}")
    (tmp_path / "targets" / digest).write_bytes(b"x" * 100)
    carrier = FolderCarrier(tmp_path)

    async def story() -> None:
        assert await carrier.fetch("metadata/timestamp.json", 10) == b"{}"
        assert await carrier.fetch(f"targets/{digest}", 100) == b"x" * 100
        assert await carrier.fetch("metadata/2.root.json", 10) is None
        for name, limit, says in (
            (f"targets/{digest}", 99, "larger than 99"),
            ("metadata/../targets", 10, "names no document"),
            ("/etc/passwd", 10, "names no document"),
        ):
            with pytest.raises(CarrierError, match=says):
                await carrier.fetch(name, limit)
        with pytest.raises(CarrierError, match="is gone"):
            await FolderCarrier(tmp_path / "pulled").fetch("metadata/timestamp.json", 10)

    asyncio.run(story())
