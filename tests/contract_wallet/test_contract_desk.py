"""The desk with a clock of the test's own; over the socket it is tests/end_to_end/test_contracts.py."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.config import Contracts, Verifier
from agent.contract_desk import ContractDesk
from agent.contracts.messages import RequestAsked, VerificationAsked
from agent.contracts.trust_documents import ANCHORS, REVOCATIONS
from agent.core.contracts.exi_fragments import RootId
from agent.core.instants import ClockQuality, Instant
from tests.contract_wallet.pki_builder import (
    EMAID,
    LEAF,
    NOW,
    ROOT,
    SUB_1,
    SUB_2,
    V2G_ROOT,
    Wish,
    a_bundle,
    an_instant,
    ders,
)
from tests.contract_wallet.provisioning import PASSPHRASE, VEHICLE_KEY, FileHome, a_response

DAY = timedelta(days=1)
VEHICLE = Wish(name="WMIV1234567890ABCDEX", key=VEHICLE_KEY, issuer=V2G_ROOT, ca=False, serial=99)
REQUEST = RequestAsked(
    id="id1", provisioning_certificate=VEHICLE.der, roots=(RootId(issuer="CN=MORootCA", serial=1),)
)  # fmt: skip

Papers = dict[str, bytes]


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
    opened = a_desk(tmp_path, clock)
    yield opened
    opened.close()


def a_desk(folder: Path, clock: SetByHand, papers: Papers | None = None, **days: int) -> ContractDesk:
    return ContractDesk(
        Contracts(passphrase=folder / "pass"),
        folder=folder,
        clock=clock,
        papers=lambda: ("papers", papers or {}),
        verifying=Verifier(**days),
        release=lambda decision, end: None,
    )


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


def issued(days_ago: int) -> Papers:
    root = {"role": "mo", "certificate": base64.b64encode(ROOT.der).decode()}
    when = (NOW - days_ago * DAY).isoformat()
    return {
        ANCHORS: json.dumps({"schema": 1, "anchors": [root]}).encode(),
        REVOCATIONS: json.dumps({"schema": 1, "issued": when, "revoked": []}).encode(),
    }


@pytest.mark.parametrize(
    ("days", "age", "rung"),
    [({}, 7, "fresh"), ({}, 8, "stale"), ({}, 31, "too_old"), ({"fresh_days": 2, "usable_days": 5}, 2, "fresh"),
     ({"fresh_days": 2, "usable_days": 5}, 3, "stale"), ({"fresh_days": 2, "usable_days": 5}, 6, "too_old")],
)  # fmt: skip
def test_how_old_evidence_may_be_is_configured(
    tmp_path: Path, clock: SetByHand, days: dict[str, int], age: int, rung: str
) -> None:
    desk = a_desk(tmp_path, clock, issued(age), **days)
    asked = VerificationAsked(
        chain=tuple(ders(LEAF, SUB_2, SUB_1)), claimed=EMAID, stapled=(), challenge=None, proof=None
    )
    try:
        verdict = asyncio.run(desk.verify(asked))
    finally:
        desk.close()
    assert (verdict["rung"], verdict["outcome"] == "refused") == (rung, rung == "too_old")


def test_what_is_fresh_longer_than_it_is_usable_is_refused() -> None:
    with pytest.raises(ValueError, match="fresh_days is at most usable_days"):
        Verifier(fresh_days=31)
