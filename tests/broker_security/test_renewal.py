"""A certificate is renewed while the service runs: no restart, no gap, and the old one stays until the new one worked.

A real mosquitto judges the certificates; its log tells which one was shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.board import Board, Health
from agent.certificate_watch import CertificateWatch
from agent.clock import SystemClock
from agent.core.instants import Instant
from agent.edge import RENEWAL_REFUSED, from_uplink
from agent.enrolment import Enrolment
from sync.ports import Alarm, AlarmOver, Connected, Disconnected, UplinkEvent
from sync.tls import Tls
from tests.broker_security.shipped_broker import FLEET, Premises, shipped_broker
from tests.uplink.certificates import HOUR, Authority
from tests.uplink.closed_loop import Fleet, a_fleet, eventually
from tests.uplink.fault_proxy import FaultProxy, fault_proxy

NAME = "van-1"


@dataclass
class Van:
    """A device with an enrolment folder, whose link can be cut."""

    fleet: Fleet
    files: Enrolment
    authority: Authority
    board: Board = field(default_factory=Board)

    @property
    def tls(self) -> Tls:
        return Tls(cafile=self.authority.cafile, certfile=self.files.device, former=self.files.former)

    def renew(self, sign: Callable[[bytes], bytes]) -> None:
        request = self.files.begin(NAME).read_bytes()
        self.files.install(
            sign(request),
            name=NAME,
            authorities=self.authority.cafile.read_bytes(),
            now=datetime.now(UTC),
            keep=False,
        )

    @property
    def connections(self) -> list[Connected]:
        return [event for event in self.fleet.events if isinstance(event, Connected)]

    async def reconnected(self, link: FaultProxy) -> Connected:
        before = len(self.connections)
        link.drop_all()
        await eventually(lambda: len(self.connections) > before, within_s=10)
        return self.connections[-1]

    def told(self, event: UplinkEvent) -> None:
        """As the running service takes it."""
        self.fleet.events.append(event)
        if isinstance(event, Connected) and not event.former_certificate:
            self.files.new_one_works()
        from_uplink(event, self.board, SystemClock(trusted=True).now())


@asynccontextmanager
async def van(folder: Path) -> AsyncIterator[tuple[Van, FaultProxy, Premises]]:
    async with shipped_broker(folder, "mosquitto.conf") as premises, fault_proxy(premises.port) as link:
        fleet = a_fleet(folder, name=FLEET, device=NAME)
        made = Van(fleet, Enrolment(folder=folder / "vault" / "tls"), premises.authority)
        made.renew(premises.authority.sign)
        async with fleet.device(link.port, emit=made.told, tls=made.tls):
            await eventually(lambda: bool(made.connections))
            yield made, link, premises


@pytest.mark.slow
def test_a_running_service_takes_the_renewed_certificate_at_its_next_connection(tmp_path: Path) -> None:
    async def story() -> None:
        async with van(tmp_path) as (device, link, premises):
            device.renew(premises.authority.sign)
            assert device.files.former.exists()

            connected = await device.reconnected(link)

            assert not connected.former_certificate
            assert not device.files.former.exists()
            fleet = device.fleet
            fleet.outbox.seal_many(20)
            async with fleet.receiver(premises.port, tls=premises.authority.issue("receiver-1")):
                await fleet.until_delivered()

    asyncio.run(story())


@pytest.mark.slow
def test_a_renewed_certificate_that_the_broker_does_not_take_leaves_no_gap(tmp_path: Path) -> None:
    """The authority signed with a key that the broker does not know: found by nobody on the device."""
    stranger = Authority(tmp_path / "stranger")

    async def story() -> None:
        async with van(tmp_path) as (device, link, premises):
            device.authority = stranger
            device.renew(stranger.sign)
            device.authority = premises.authority

            connected = await device.reconnected(link)

            assert connected.former_certificate
            assert device.files.former.exists()
            assert device.fleet.alarms() - {"no-receiver"} == {"certificate-refused"}
            assert RENEWAL_REFUSED in device.board.alarms

            device.renew(premises.authority.sign)
            connected = await device.reconnected(link)
            assert not connected.former_certificate
            assert set(device.board.alarms) <= {"no-receiver"}
            assert not device.files.former.exists()

    asyncio.run(story())


@pytest.mark.slow
def test_an_outage_alone_does_not_bring_back_the_former_certificate(tmp_path: Path) -> None:
    async def story() -> None:
        async with van(tmp_path) as (device, link, premises):
            device.renew(premises.authority.sign)
            link.refuse = True
            link.drop_all()
            await eventually(lambda: sum(isinstance(event, Disconnected) for event in device.fleet.events) >= 2)
            link.refuse = False
            connected = await device.reconnected(link)
            assert not connected.former_certificate

    asyncio.run(story())


def a_clock(now: datetime) -> SystemClock:
    class Fixed(SystemClock):
        def now(self) -> Instant:
            return replace(super().now(), utc=now, floor=now)

    return Fixed(trusted=True)


@pytest.mark.parametrize(
    ("later", "state", "alarm"),
    [
        (timedelta(0), "good", None),
        (timedelta(hours=17), "expiring", "certificate-expiring"),
        (timedelta(days=2), "expired", "certificate-expired"),
    ],
)
def test_the_board_warns_before_the_certificate_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, later: timedelta, state: str, alarm: str | None
) -> None:
    tls = Authority(tmp_path / "authority").issue(NAME, valid=24 * HOUR)
    board = Board(alarms={"certificate-expired": "of yesterday"})
    watch = CertificateWatch(tls, board, a_clock(datetime.now(UTC) + later))

    async def story() -> None:
        for _ in range(3):
            await watch.look()

    asyncio.run(story())

    assert isinstance(board.certificate, Health)
    assert board.certificate.state == state
    assert set(board.alarms) == ({alarm} if alarm else set())
    assert len([each for each in caplog.records if each.levelname == "WARNING"]) == (1 if alarm else 0)


def test_an_alarm_that_is_over_leaves_the_board() -> None:
    board, now = Board(), SystemClock(trusted=True).now()
    from_uplink(Alarm(code="broker-certificate-expired", text="..."), board, now)
    from_uplink(Alarm(code="fork", text="..."), board, now)
    from_uplink(AlarmOver(code="broker-certificate-expired"), board, now)
    assert set(board.alarms) == {"fork"}
