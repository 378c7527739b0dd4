"""The desk with a clock of the test's own; over the socket it is tests/end_to_end/test_contracts.py."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.config import Contracts
from agent.contract_desk import ContractDesk
from agent.contracts.messages import RequestAsked
from agent.core.contracts.exi_fragments import RootId
from agent.core.instants import ClockQuality, Instant
from tests.contract_wallet.pki_builder import LEAF, NOW, V2G_ROOT, Wish, a_bundle, an_instant
from tests.contract_wallet.provisioning import PASSPHRASE, VEHICLE_KEY, FileHome, a_response

DAY = timedelta(days=1)
VEHICLE = Wish(name="WMIV1234567890ABCDEX", key=VEHICLE_KEY, issuer=V2G_ROOT, ca=False, serial=99)
REQUEST = RequestAsked(
    id="id1", provisioning_certificate=VEHICLE.der, roots=(RootId(issuer="CN=MORootCA", serial=1),)
)  # fmt: skip


@dataclass
class SetByHand:
    """A clock that says what the test says."""

    reads: Instant

    def now(self) -> Instant:
        return self.reads

    def raise_floor(self, proven: datetime) -> None:
        """Nothing is proven here."""


@pytest.fixture
def clock() -> SetByHand:
    return SetByHand(an_instant())


@pytest.fixture
def desk(tmp_path: Path, clock: SetByHand) -> Iterator[ContractDesk]:
    """Of a vehicle whose contract ends in twenty days."""
    wallet = FileHome(folder=tmp_path).wallet()
    wallet.install(a_response(LEAF.but(not_after=NOW + 20 * DAY)), bundle=a_bundle(), now=an_instant())
    (tmp_path / "pass").write_bytes(PASSPHRASE + b"\n")
    opened = ContractDesk(
        Contracts(passphrase=tmp_path / "pass"), folder=tmp_path, clock=clock, papers=lambda: ("none", {})
    )
    yield opened
    opened.close()


def told(desk: ContractDesk) -> dict[str, Any]:
    [contract] = asyncio.run(desk.contracts())
    return contract


def renewal(desk: ContractDesk) -> datetime:
    return datetime.fromisoformat(told(desk)["renew_from"])


@pytest.mark.parametrize("quality", [ClockQuality.UNKNOWN, ClockQuality.HOLDOVER])
def test_a_clock_that_was_once_ten_years_ahead_puts_no_renewal_off(
    desk: ContractDesk, clock: SetByHand, quality: ClockQuality
) -> None:
    """Also one that was believed: it may have been set wrong, and is right again now."""
    clock.reads = an_instant(NOW + 3650 * DAY, floor=NOW, quality=quality)
    assert asyncio.run(desk.ask_for_contract(REQUEST))["signed"]

    clock.reads = an_instant(NOW + 2 * DAY)
    assert renewal(desk) <= NOW + 2 * DAY


def test_each_request_for_a_contract_that_is_due_puts_the_next_off(desk: ContractDesk) -> None:
    assert renewal(desk) < NOW
    asyncio.run(desk.ask_for_contract(REQUEST))
    first = renewal(desk)
    asyncio.run(desk.ask_for_contract(REQUEST))

    assert NOW < first < renewal(desk) <= NOW + DAY


def test_with_a_clock_that_says_nothing_the_newest_proven_moment_is_counted_from(
    desk: ContractDesk, clock: SetByHand
) -> None:
    clock.reads = an_instant(datetime(1970, 1, 1, tzinfo=NOW.tzinfo), floor=NOW, quality=ClockQuality.UNKNOWN)
    asyncio.run(desk.ask_for_contract(REQUEST))
    assert NOW < renewal(desk) <= NOW + DAY
