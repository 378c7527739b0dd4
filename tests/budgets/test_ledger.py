"""The backend's side: it lends only what is free, counts every report once, and keeps its word over a restored copy."""

from __future__ import annotations

import itertools
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.cli import main
from sync.backend.budgets import (
    OverCommitted,
    Span,
    StillSpendable,
    Terms,
    Use,
    granted,
    period_of,
    ration,
)
from sync.backend.ledger import Ledger, Standing
from sync.backend.statements import Statement, Wish, statement_of
from sync.grants import Grant, GrantedLease
from tests.budgets.lending_office import IN_MEMORY

NOON = datetime(2027, 3, 10, 12, 0, tzinfo=UTC)
FLEET = Terms(id="fleet", scope="fleet", unit="energy", limit=100_000, per_session=20_000)


class Office:
    """A ledger and whoever asks it."""

    def __init__(self, folder: Path, *terms: Terms) -> None:
        self.folder = folder
        self.terms = terms or (FLEET,)
        self.now = NOON
        self.ledger = self._opened()

    def _opened(self) -> Ledger:
        return Ledger(self.folder / "ledger", self.terms, fleet="acme", witness=self.folder / "witness")

    def asks(
        self, device: str, *budgets: str, journal: str = "j1", need: int = 0, uses: tuple[Use, ...] = ()
    ) -> Grant | None:
        wishes = tuple(Wish(budget=each, need=need) for each in budgets or ("fleet",))
        self.ledger.hear(device, journal, [Statement(uses=uses, wishes=wishes, asks=True)], now=self.now)
        return next((each for each in self.ledger.lend(self.now) if each.device == device), None)

    def tells(self, device: str, *uses: Use, journal: str = "j1") -> None:
        self.ledger.hear(device, journal, [Statement(uses=uses)], now=self.now)

    def standing(self, key: str = "fleet") -> Standing:
        return next(each for each in self.ledger.standings(self.now) if each.key == key)

    def copy(self) -> None:
        self.ledger.close()
        shutil.copy(self.folder / "ledger", self.folder / "older")
        self.ledger = self._opened()

    def put_back(self) -> None:
        self.ledger.close()
        shutil.copy(self.folder / "older", self.folder / "ledger")
        self.ledger = self._opened()


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.ledger.close()


def use(lease: GrantedLease, consumed: int, count: int, *, reserved: int = 0, closed: bool = False) -> Use:
    return Use(lease=lease.id, consumed=consumed, reserved=reserved, count=count, closed=closed)


def lease_of(grant: Grant | None, number: int = -1) -> GrantedLease:
    assert grant is not None
    return sorted(grant.leases, key=lambda each: each.number)[number]


def test_what_is_settled_and_outstanding_is_never_more_than_the_limit_however_many_ask(office: Office):
    rng = random.Random(7)
    consumed: dict[str, tuple[str, int, int]] = {}
    for step in range(150):
        office.now += timedelta(hours=rng.random() * 5)
        device = f"gw-{rng.randrange(12)}"
        grant = office.asks(device, need=rng.choice((0, 5_000, 20_000, 90_000)))
        for lease in grant.leases if grant is not None else ():
            _, spent, count = consumed.get(lease.id, (device, 0, 0))
            consumed[lease.id] = (device, min(lease.amount, spent + rng.randrange(9_000)), count + 1)
            office.tells(device, use(lease, consumed[lease.id][1], count + 1, closed=rng.random() < 0.3))
        for standing in office.ledger.standings(office.now):
            assert standing.settled + standing.outstanding <= standing.limit, step
            assert standing.settled == sum(line.consumed for line in standing.loans)
            assert standing.outstanding == sum(line.outstanding for line in standing.loans)


def test_a_grant_beyond_the_limit_is_refused_and_changes_nothing(office: Office):
    lease = lease_of(office.asks("gw-1"))
    account = office.ledger._account("fleet", "2027-03-01T00:00:00Z")
    with pytest.raises(OverCommitted, match="beyond the limit"):
        granted(account, replace(lease, id="new"), "gw-2", hold=account.free + 1)
    assert granted(account, replace(lease, id="new"), "gw-2", hold=lease.amount).holds


def test_reports_count_once_in_any_order(tmp_path: Path):
    reports = [(5_000, 1), (5_000, 2), (9_000, 3), (12_000, 4)]
    for number, order in enumerate(itertools.permutations(reports * 2, 5)):
        if number % 400:
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        office = Office(folder)
        lease = lease_of(office.asks("gw-1"))
        for consumed, count in order:
            office.tells("gw-1", use(lease, consumed, count, reserved=100 - count))
        newest = max(order, key=lambda each: each[1])
        assert office.standing().settled == newest[0]
        assert office.standing().loans[0].reserved == 100 - newest[1]
        office.ledger.close()


def test_only_what_the_device_has_closed_is_free_again(office: Office):
    lease = lease_of(office.asks("gw-1"))
    office.now += timedelta(days=20)  # it is long over, and nobody has heard of the device
    assert office.standing().outstanding == lease.amount
    office.tells("gw-1", use(lease, 4_000, 3))
    assert (office.standing().settled, office.standing().outstanding) == (4_000, lease.amount - 4_000)
    office.tells("gw-1", use(lease, 4_000, 4, closed=True))
    assert (office.standing().settled, office.standing().outstanding) == (4_000, 0)


def test_the_leases_of_a_journal_that_forks_count_as_spent_until_they_are_written_off(office: Office):
    lease = lease_of(office.asks("gw-1"))
    office.tells("gw-1", use(lease, 4_000, 1))
    office.ledger.burn("gw-1", "j1")
    office.tells("gw-1", use(lease, 5_000, 9, closed=True))
    assert (office.standing().settled, office.standing().outstanding) == (5_000, lease.amount - 5_000)
    assert office.standing().loans[0].state == "burnt"
    assert office.ledger.write_off(lease.id, spent=7_000, now=lease.spend_until)
    assert (office.standing().settled, office.standing().outstanding) == (7_000, 0)
    assert not office.ledger.write_off("no such lease", spent=1, now=NOON)


def test_a_lease_that_may_still_be_spent_from_is_not_written_off_for_less(office: Office):
    lease = lease_of(office.asks("gw-1"))
    with pytest.raises(StillSpendable, match="2027-03-13 12:00"):
        office.ledger.write_off(lease.id, spent=7_000, now=lease.spend_until - timedelta(seconds=1))
    assert (office.standing().settled, office.standing().outstanding) == (0, lease.amount)
    assert office.ledger.write_off(lease.id, spent=lease.amount, now=NOON)
    assert (office.standing().settled, office.standing().outstanding) == (lease.amount, 0)


def test_what_a_device_tells_after_its_lease_was_written_off_counts_where_it_is_more(office: Office):
    lease = lease_of(office.asks("gw-1"))
    office.ledger.write_off(lease.id, spent=7_000, now=lease.spend_until)
    office.tells("gw-1", use(lease, 6_000, 8))
    assert office.standing().settled == 7_000
    office.tells("gw-1", use(lease, 9_000, 9))
    office.tells("gw-1", use(lease, 8_000, 7, closed=True))
    assert (office.standing().settled, office.standing().outstanding) == (9_000, 0)


def test_a_later_higher_bill_raises_what_a_closed_lease_has_cost_and_a_lower_one_does_not(office: Office):
    lease = lease_of(office.asks("gw-1"))
    office.tells("gw-1", use(lease, 9_000, 2, closed=True))
    office.ledger.write_off(lease.id, spent=5_000, now=NOON)
    assert office.standing().settled == 9_000
    office.ledger.write_off(lease.id, spent=12_000, now=NOON)
    assert (office.standing().settled, office.standing().outstanding) == (12_000, 0)


def test_the_verb_writes_off_only_what_nobody_can_spend_any_more(office: Office, capsys: pytest.CaptureFixture[str]):
    office.now = datetime.now(UTC)
    lease = lease_of(office.asks("gw-1"))
    words = ["budget", "write-off", "--db", str(office.folder / "ledger"), lease.id, "--spent"]
    assert main([*words, "5"]) == 1
    assert "may be spent from until" in capsys.readouterr().err
    assert main([*words, str(lease.amount)]) == 0
    assert office.standing().settled == lease.amount
    assert main(["budget", "write-off", "--db", str(office.folder / "ledger"), "none", "--spent", "5"]) == 1


def test_a_device_with_a_new_journal_is_lent_anew_and_what_it_held_stays_outstanding(office: Office):
    first = lease_of(office.asks("gw-1"))
    second = lease_of(office.asks("gw-1", journal="j2"))
    assert (first.journal, second.journal) == ("j1", "j2")
    assert office.standing().outstanding == first.amount + second.amount


def test_every_lease_of_a_device_that_may_be_copied_holds_its_amount_once_more(tmp_path: Path):
    office = Office(tmp_path, replace(FLEET, cover_copies=1))
    lease = lease_of(office.asks("gw-1"))
    assert office.standing().outstanding == 2 * lease.amount
    office.tells("gw-1", use(lease, lease.amount, 1, closed=True))
    # The copy may have spent as much, and need not have told.
    assert (office.standing().settled, office.standing().outstanding) == (lease.amount, lease.amount)
    for _ in range(30):
        office.asks(f"gw-{_}")
    assert office.standing().settled + office.standing().outstanding <= FLEET.limit
    office.ledger.close()


def test_a_ledger_that_is_put_back_lends_nothing_more_of_periods_that_had_begun(office: Office):
    office.asks("gw-1")
    office.copy()
    forgotten = lease_of(office.asks("gw-2"))
    office.put_back()
    assert office.asks("gw-3") is not None  # told that nothing is left
    assert office.standing().frozen
    assert [line.device for line in office.standing().loans] == ["gw-1"]
    office.now += timedelta(days=25)  # another month, which had not begun then
    assert lease_of(office.asks("gw-3")).number > forgotten.number
    assert [each.frozen for each in office.ledger.standings(office.now)] == [True, False]


def test_what_devices_tell_of_their_leases_is_known_again_and_lending_goes_on_when_somebody_says_so(office: Office):
    office.asks("gw-1")
    office.copy()
    forgotten = lease_of(office.asks("gw-2"))
    office.put_back()
    office.ledger.lend(office.now)
    told = Statement(held=(forgotten,), uses=(use(forgotten, 3_000, 2),))
    office.ledger.hear("gw-2", "j1", [told], now=office.now)
    assert {line.device: line.consumed for line in office.standing().loans} == {"gw-1": 0, "gw-2": 3_000}
    office.ledger.thaw()
    assert lease_of(office.asks("gw-3")).amount > 0
    assert office.standing().settled + office.standing().outstanding <= FLEET.limit


def test_a_crash_before_the_witness_is_no_restored_copy(office: Office):
    office.asks("gw-1")
    (office.folder / "witness").write_text("0\n")  # the commit was made, the witness was not
    office.ledger.close()
    office.ledger = office._opened()
    assert lease_of(office.asks("gw-2")).amount > 0
    assert not office.standing().frozen


def test_a_lease_never_reaches_over_its_period_and_the_next_one_is_lent_before_it_begins(tmp_path: Path):
    berlin = ZoneInfo("Europe/Berlin")
    office = Office(tmp_path, replace(FLEET, span=Span.DAY, zone=berlin))
    grant = office.asks("gw-1")
    assert grant is not None
    today, tomorrow = sorted(grant.leases, key=lambda each: each.not_before)
    assert today.spend_until == tomorrow.not_before == datetime(2027, 3, 10, 23, 0, tzinfo=UTC)
    assert tomorrow.spend_until == datetime(2027, 3, 11, 23, 0, tzinfo=UTC)
    office.ledger.close()


def test_each_driver_has_an_account_and_no_other_key_is_lent_for(tmp_path: Path):
    each = replace(FLEET, id="drivers", scope="driver")
    one = replace(FLEET, id="north", scope="cost_centre", of="4711")
    office = Office(tmp_path, each, one)
    grant = office.asks(
        "gw-1", "drivers/anna", "drivers/bert", "north/4711", "north/9999", "drivers", "nobody/x", "drivers/"
    )
    assert grant is not None
    assert {lease.budget for lease in grant.leases} == {"drivers/anna", "drivers/bert", "north/4711"}
    office.ledger.close()


def test_where_money_is_tight_each_gets_a_session_and_where_there_is_plenty_more(office: Office):
    def first(limit: int, devices: int) -> int:
        account = replace(office.ledger._account("fleet", "2027-03-01T00:00:00Z"), limit=limit, loans={})
        amount, _ = ration(
            account, "new", journal="j", need=20_000, per_session=20_000, expected=0, devices=devices, now=NOON
        )
        return amount

    office.asks("gw-0")
    assert first(10_000_000, 10) == 120_000
    assert first(700_000, 10) == 34_000 or first(700_000, 10) > 20_000
    assert first(200_000, 50) == 20_000
    assert first(50_000, 50) in (0, 20_000)


def test_hostile_records_say_nothing():
    for body in (b"", b"\xff", b"[]", b'{"type":1}', b'"io.roamkey.budget.', b'{"data":{"leases":[{"count":1}]}}'):
        assert statement_of(body) is None
    body = b'{"type":"io.roamkey.budget.asked","data":{"wants":[{"budget":"x","need":-1}]}}'
    assert statement_of(body) is None


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago"])
@pytest.mark.parametrize("span", [Span.DAY, Span.WEEK, Span.MONTH])
def test_periods_follow_one_another_without_a_gap_through_every_change_of_clocks(zone: str, span: Span):
    moment = datetime(2027, 1, 1, tzinfo=UTC)
    before = period_of(span, ZoneInfo(zone), moment)
    while moment < datetime(2028, 1, 2, tzinfo=UTC):
        period = period_of(span, ZoneInfo(zone), moment)
        assert period.start <= moment < period.end
        assert period == before or period.start == before.end
        before = period
        moment += timedelta(minutes=30)


@pytest.mark.parametrize(
    ("moment", "hours"),
    [("2027-03-28T10:00Z", 23), ("2027-10-31T10:00Z", 25), ("2027-06-01T10:00Z", 24)],
)
def test_a_day_of_a_change_of_clocks_has_23_or_25_hours(moment: str, hours: int):
    period = period_of(Span.DAY, ZoneInfo("Europe/Berlin"), datetime.fromisoformat(moment))
    assert period.end - period.start == timedelta(hours=hours)


def test_once_is_for_ever():
    assert period_of(Span.ONCE, ZoneInfo("UTC"), NOON) == period_of(Span.ONCE, ZoneInfo("UTC"), NOON + timedelta(9999))
