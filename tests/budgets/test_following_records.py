"""The ledger follows the record store: once each, in order, as far as the journal is whole and its device signed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.core.budgets import LeaseUse, Want
from agent.core.facts import BudgetAsked, Checkpoint, Fact, JournalOpened
from agent.wire import CHECKPOINT_TYPE, GENESIS, checkpoint_claims, hash_of, seal
from sync import signing
from sync.backend.budgets import Terms
from sync.backend.checkpoints import Keys
from sync.backend.ledger import Ledger, Standing
from sync.backend.records import read_record
from sync.backend.store import Delivery, Store
from sync.grants import GrantedLease
from tests.budgets.lending_office import IN_MEMORY
from tests.core.builders import NOON, an_instant

DEVICE, SOURCE, JOURNAL = "gw-1", "/fleets/acme/devices/gw-1", "0b1c"
KEY = signing.generate()
TERMS = Terms(id="all", scope="fleet", unit="energy", limit=100_000, per_session=20_000)
ASKS = BudgetAsked(wants=(Want(budget="all", need=20_000),), closed=())


class Backend:
    """A record store and the ledger that follows it; `writes` is a device that seals and delivers."""

    def __init__(self, folder: Path, keys: Keys | None) -> None:
        self.database, self.path, self.keys = folder / "records", folder / "ledger", keys
        self.store = Store(self.database)
        self.ledger = self.opened()
        self.bodies: list[bytes] = []
        self.writes(JournalOpened(reason="created", predecessor=None, salvaged=None))

    def opened(self) -> Ledger:
        return Ledger(self.path, (TERMS,), fleet="acme", keys=lambda device: self.keys)

    def writes(self, *facts: Fact, deliver: bool = True) -> None:
        for fact in facts:
            sequence = len(self.bodies) + 1
            previous = hash_of(self.bodies[-1]) if self.bodies else GENESIS
            now = an_instant(NOON + timedelta(seconds=sequence), entropy=sequence.to_bytes(4, "big"))
            self.bodies.append(
                seal(fact, sequence=sequence, previous=previous, journal=JOURNAL, source=SOURCE, now=now)
            )
            if deliver:
                self.deliver([self.bodies[-1]])

    def signs(self, key: signing.SigningKey = KEY, *, deliver: bool = True) -> None:
        claims = checkpoint_claims(
            source=SOURCE, journal=JOURNAL, sequence=len(self.bodies), hash=hash_of(self.bodies[-1])
        )
        self.writes(Checkpoint(jws=signing.sign(claims, key, typ=CHECKPOINT_TYPE)), deliver=deliver)

    def deliver(self, bodies: Sequence[bytes]) -> None:
        self.store.take([Delivery(device=DEVICE, lines=tuple(read_record(body, SOURCE) for body in bodies))])

    def lends(self) -> list[GrantedLease]:
        return [lease for grant in self.ledger.follow(self.database, NOON) for lease in grant.leases]

    @property
    def standing(self) -> Standing:
        (found,) = self.ledger.standings(NOON)
        return found

    def close(self) -> None:
        self.ledger.close()
        self.store.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as name:
        yield Path(name)


@pytest.fixture
def backend(folder: Path) -> Iterator[Backend]:
    made = Backend(folder, {KEY.kid: KEY.public_jwk})
    yield made
    made.close()


def spent(lease: GrantedLease, wh: int, count: int) -> LeaseUse:
    return LeaseUse(lease=lease.id, budget="all", amount=0, consumed=wh, reserved=0, count=count)


def test_what_no_checkpoint_covers_is_not_counted_yet(backend: Backend):
    backend.writes(ASKS)
    assert backend.lends() == []
    backend.signs()
    (lease,) = backend.lends()
    backend.writes(BudgetAsked(wants=(), closed=(spent(lease, 5_000, 2),)))
    assert backend.lends() == []
    assert (backend.standing.settled, backend.standing.outstanding) == (0, lease.amount)
    backend.signs()
    (other,) = backend.lends()  # it has nothing left
    assert (backend.standing.settled, backend.standing.outstanding) == (5_000, other.amount)


def test_a_stranger_who_writes_in_the_devices_name_frees_nothing(backend: Backend):
    backend.writes(ASKS)
    backend.signs()
    (lease,) = backend.lends()
    backend.writes(BudgetAsked(wants=(), closed=(spent(lease, 0, 99),)))
    backend.signs(signing.generate())
    backend.lends()
    assert backend.standing.outstanding == lease.amount


def test_without_the_devices_key_every_whole_record_counts(folder: Path):
    backend = Backend(folder, None)
    backend.writes(ASKS)
    assert len(backend.lends()) == 1
    backend.close()


def test_a_crash_between_storing_and_counting_loses_nothing_and_counting_again_changes_nothing(backend: Backend):
    backend.writes(ASKS)
    backend.signs()
    backend.ledger.close()  # the records are stored and acknowledged, and nothing was counted
    backend.ledger = backend.opened()
    (lease,) = backend.lends()
    backend.deliver(backend.bodies)  # a device that was not told sends all of it again
    assert backend.lends() == []
    assert [line.lease for line in backend.standing.loans] == [lease.id]


def test_behind_a_gap_nothing_is_counted_until_it_is_filled(backend: Backend):
    backend.writes(ASKS, deliver=False)
    backend.signs(deliver=False)
    backend.deliver(backend.bodies[2:])
    assert backend.lends() == []
    backend.deliver(backend.bodies[1:2])
    assert len(backend.lends()) == 1


def test_the_leases_of_a_journal_that_goes_on_in_two_ways_count_as_spent_and_nothing_more_is_lent_to_it(
    backend: Backend,
):
    backend.writes(ASKS)
    backend.signs()
    (lease,) = backend.lends()
    before = list(backend.bodies)
    backend.writes(replace(ASKS, leases=(spent(lease, 40_000, 3),)))
    backend.signs()
    backend.bodies = before
    backend.writes(replace(ASKS, leases=(spent(lease, 9_000, 3),)))  # the copy, of which only its being there is known
    assert backend.lends() == []  # although it asked
    (line,) = backend.standing.loans
    assert (line.state, line.consumed, line.outstanding) == ("burnt", 40_000, lease.amount - 40_000)
