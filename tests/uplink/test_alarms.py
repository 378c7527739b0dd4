"""What a log and a board look like when the same thing goes wrong again and again: one line a change."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from sync.alarms import Alarms
from sync.link import Tls
from sync.loopback_broker import free_port
from sync.ports import Alarm, AlarmOver, Connected, Disconnected
from sync.repeats import Repeats
from tests.uplink.certificates import HOUR, Authority
from tests.uplink.closed_loop import Fleet, eventually, mosquitto
from tests.uplink.strict_broker import strict_broker


def failures(fleet: Fleet) -> int:
    return sum(isinstance(event, Disconnected) for event in fleet.events)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What an operator reads: everything from INFO."""
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.INFO and "uplink" in each.message]


def test_a_broker_that_is_away_for_long_takes_one_line(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    port = free_port()

    async def story() -> None:
        async with fleet.device(port):
            await eventually(lambda: failures(fleet) >= 5)
        async with strict_broker(port=port), fleet.device(port):
            await eventually(lambda: any(isinstance(event, Connected) for event in fleet.events))

    asyncio.run(story())
    refused = [line for line in lines(caplog) if "refused" in line]
    assert len(refused) == 1
    assert str(port) in refused[0]


def test_another_cause_is_another_line(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def story() -> None:
        async with strict_broker(silent=True) as broker, fleet.device(broker.port, connect_timeout_s=0.1):
            await eventually(lambda: failures(fleet) >= 3)
            broker.silent, broker.junk = False, b"HTTP/1.1 400 Bad Request\r\n\r\n"
            broker.speaks_mqtt_5 = False
            before = failures(fleet)
            await eventually(lambda: failures(fleet) >= before + 3)

    asyncio.run(story())
    said = lines(caplog)
    assert 2 <= len(said) <= 5, said
    assert len(set(said)) == len(said)


def test_the_same_text_is_said_again_when_it_lasts_and_at_once_when_it_begins_anew() -> None:
    repeats = Repeats(say_again_s=3600)
    assert repeats.level("away", logging.WARNING) == logging.WARNING
    assert repeats.level("away", logging.WARNING) == logging.DEBUG
    assert repeats.level("away", logging.WARNING, about="another story") == logging.WARNING
    assert repeats.level("silent", logging.WARNING) == logging.WARNING
    assert repeats.level("away", logging.WARNING) == logging.DEBUG
    repeats.forget()
    assert repeats.level("away", logging.WARNING) == logging.WARNING
    assert [Repeats(say_again_s=0).level("away", logging.INFO) for _ in range(2)] == [logging.INFO] * 2


def test_an_alarm_is_told_once_in_a_while_and_its_end_once() -> None:
    told: list[Alarm | AlarmOver] = []
    alarms = Alarms(told.append, same_alarm_s=60)
    for _ in range(100):
        alarms.tell("no-receiver", "nobody there")
    alarms.over("no-receiver")
    alarms.over("no-receiver")
    alarms.over("never told")
    alarms.tell("no-receiver", "nobody there")
    assert told == [
        Alarm(code="no-receiver", text="nobody there"),
        AlarmOver(code="no-receiver"),
        Alarm(code="no-receiver", text="nobody there"),
    ]


FAULTS = {
    "our certificate has expired": "certificate-refused",
    "the broker's certificate has expired": "broker-certificate-expired",
    "the broker's certificate is new and of another authority": "broker-untrusted",
    "the broker's certificate is for another name": "broker-name-wrong",
    "a file is missing": "tls-files",
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_certificate_that_fails_gives_an_alarm_with_what_to_do_and_ends_it_when_mended(
    fleet: Fleet, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """The files are mended in place: the running service reads them at its next attempt."""
    caplog.set_level(logging.DEBUG)
    authority, other = Authority(fleet.folder / "ca"), Authority(fleet.folder / "other")
    good = authority.issue("gw-1", file="good")
    ours, server = authority.issue("gw-1"), authority.issue("broker")
    match fault:
        case "our certificate has expired":
            ours = authority.issue("gw-1", valid=-HOUR)
        case "the broker's certificate has expired":
            server = authority.issue("broker", valid=-HOUR)
        case "the broker's certificate is new and of another authority":
            server = other.issue("broker")
        case "the broker's certificate is for another name":
            server = authority.issue("broker", host="broker.example")
        case "a file is missing":
            assert ours.keyfile is not None
            ours.keyfile.unlink()
    code = FAULTS[fault]

    def options(server: Tls) -> tuple[str, ...]:
        return (
            f"cafile {authority.cafile}",
            f"certfile {server.certfile}",
            f"keyfile {server.keyfile}",
            "require_certificate true",
        )

    async def story() -> None:
        async with mosquitto(fleet.folder, *options(server)) as broker, fleet.device(broker.port, tls=ours):
            await eventually(lambda: code in fleet.alarms())
            before = failures(fleet)
            await eventually(lambda: failures(fleet) >= before + 3)

            mended = authority.issue("broker", file="mended")
            for name in ("certfile", "keyfile"):
                replace_file(getattr(ours, name), getattr(good, name))
                replace_file(getattr(server, name), getattr(mended, name))
            await broker.stop()
            await broker.start()
            await eventually(lambda: AlarmOver(code=code) in fleet.events, within_s=10)

    asyncio.run(story())
    (alarm,) = [event for event in fleet.events if isinstance(event, Alarm) and event.code == code]
    assert any(word in alarm.text for word in ("roamkey enrol", "renew", "check", "put it into"))
    assert sum(f"uplink: {code}:" in line for line in lines(caplog)) == 1


def replace_file(path: Path, by: Path) -> None:
    path.write_bytes(by.read_bytes())
