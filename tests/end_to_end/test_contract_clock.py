"""Contracts judged by the real service while libfaketime stops and moves its wall clock: at every edge, and back.

The clock stands still wherever it is put, so the edges are to the second. Boot and monotonic clock stay true.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.contract_wallet.pki_builder import LEAF, ROOT, V2G_ROOT, Wish
from tests.end_to_end.premises import FleetOffice, Premises, built_premises
from tests.end_to_end.test_contracts import TYPED, chain_of, publish_trust, text

pytestmark = pytest.mark.slow

NOW = datetime.now(UTC).replace(microsecond=0)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
# Beyond the moment that the policy's signature proves, so that no edge lies below the floor.
BEGIN, END = NOW + 1 * DAY, NOW + 3 * DAY


class Clock:
    """Of the one process that has libfaketime in it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.stand_at(datetime.now(UTC))  # not NOW: the policy is signed later than this file was read

    def stand_at(self, moment: datetime) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(f"{moment:%Y-%m-%d %H:%M:%S}\n")
        new.replace(self.file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "time")


@pytest.fixture
def van(tmp_path: Path, office: FleetOffice, clock: Clock) -> Iterator[Premises]:
    """Its operator vouches for its clock ("system"): the harder case, nothing is doubted without a reason."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        pytest.skip("libfaketime is missing: on Debian, apt-get install faketime")
    with built_premises(tmp_path / "van", office, bays=(), readers=()) as here:
        publish_trust(here.office, [("mo", lasting(ROOT)), ("v2g", lasting(V2G_ROOT))])
        here.service.env = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(clock.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "TZ": "UTC",
        }
        here.start_ready()
        yield here


@cache
def lasting(wish: Wish) -> Wish:
    issuer = lasting(wish.issuer) if wish.issuer is not None else None
    return replace(wish, issuer=issuer, not_before=NOW - 30 * DAY, not_after=NOW + 9000 * DAY)


CONTRACT = lasting(LEAF).but(not_before=BEGIN, not_after=END)


def judged(van: Premises) -> dict[str, Any]:
    asked = {"chain": [text(each.der) for each in chain_of(CONTRACT)], "emaid": TYPED}
    verdict: dict[str, Any] = van.api.post("/v1/contracts/verify", asked)
    return verdict


def flaws(van: Premises) -> set[str]:
    """The library's own opinion of the path comes with every flaw of time, and says no more."""
    return {each["code"] for each in judged(van)["flaws"]} - {"PATH_REFUSED"}


def test_every_edge_of_a_contract_s_time_and_no_way_back_over_it(van: Premises, clock: Clock) -> None:
    assert judged(van)["clock"] == "trusted"
    assert flaws(van) == {"NOT_YET_VALID"}
    clock.stand_at(datetime(1970, 1, 1, 0, 1, tzinfo=UTC))
    first = judged(van)
    assert (first["clock"], first["outcome"]) == ("untrusted", "refused")
    for moment, wanted in (
        (BEGIN - SECOND, {"NOT_YET_VALID"}),
        (BEGIN, set()),
        (BEGIN + SECOND, set()),
        (END - SECOND, set()),
        (END, set()),
        (END + SECOND, {"EXPIRED"}),
    ):
        clock.stand_at(moment)
        assert flaws(van) == wanted, moment
    # Back over the floor: what was refused stays refused, also for a service that is started there.
    for moment in (END, BEGIN + DAY, NOW, datetime(1970, 1, 1, 0, 1, tzinfo=UTC)):
        clock.stand_at(moment)
        assert "EXPIRED" in flaws(van), moment
    clock.stand_at(BEGIN + DAY)
    van.stop()
    van.start_ready()
    assert "EXPIRED" in flaws(van), "a restart on a clock that was set back revives nothing"


def test_a_day_back_in_mid_session_accepts_nothing_new_and_2038_overflows_nothing(van: Premises, clock: Clock) -> None:
    clock.stand_at(BEGIN + SECOND)
    accepted = judged(van)
    assert (accepted["outcome"], accepted["clock"]) == ("possession_unproven", "trusted")
    clock.stand_at(BEGIN + SECOND - DAY)
    back = judged(van)
    assert back["clock"] == "untrusted"
    assert datetime.fromisoformat(back["judged_at"]) >= BEGIN, "judged at what is proven to have passed"
    clock.stand_at(BEGIN + 2 * SECOND)
    assert judged(van)["clock"] == "trusted"

    for moment in (datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC), datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC)):
        clock.stand_at(moment)
        assert "EXPIRED" in flaws(van), moment
