"""What the journal remembers of leases is what the machine knew before it died."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.core import facts
from agent.core import observations as seen
from agent.core.budgets import Holdings
from agent.journal import Journal
from agent.past import holdings_of
from tests.budgets.lending_office import a_grant, a_lease, a_lending_yard
from tests.core.builders import NOON, Yard, an_instant
from tests.journal.samples import SOURCE

THEN = an_instant(NOON - timedelta(hours=2), entropy=b"then")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal", source=SOURCE, now=THEN) as opened:
        yield opened


def yard_of(journal: Journal) -> Yard:
    yard = a_lending_yard()
    yard.tell(seen.JournalChanged(journal=journal.head().journal))
    return yard


def kept(yard: Yard, journal: Journal) -> Holdings:
    """As a restart finds it, but for what only concerns the running service."""
    for number, fact in enumerate(yard.journal):
        journal.append([(fact, replace(yard.now, entropy=number.to_bytes(4, "big")))])
    yard.journal.clear()
    return holdings_of(journal)


def same(found: Holdings, known: Holdings) -> bool:
    def told(holdings: Holdings) -> object:
        held = {id: (each.consumed, each.reserved, each.count, each.closed) for id, each in holdings.held.items()}
        return holdings.journal, held, dict(holdings.used_up)

    return told(found) == told(known)


def test_leases_reservations_and_what_was_spent_are_known_again(journal: Journal):
    yard = yard_of(journal)
    lease = a_lease(journal=journal.head().journal)
    yard.tell(a_grant(lease, used_up={"other": NOON + timedelta(days=3)}))
    assert same(kept(yard, journal), yard.agent.state.holdings)
    yard.taps()
    assert same(kept(yard, journal), yard.agent.state.holdings)
    assert holdings_of(journal).held[lease.id].reserved == 40_000
    yard.started(yard.session, 1_000)
    yard.stopped(13_500, yard.session)
    yard.tell(a_grant(lease, a_lease(2, journal=lease.journal), number=2, replaces=(lease.id,)))
    yard.taps()
    assert same(kept(yard, journal), yard.agent.state.holdings)
    assert holdings_of(journal).held[lease.id].closed
    assert holdings_of(journal).newest == 2


def test_nothing_is_known_where_nothing_was_lent(journal: Journal):
    assert dict(holdings_of(journal).held) == {}
    assert holdings_of(journal).known_since is None


def test_a_lease_from_before_the_journals_memory_is_not_taken_again(journal: Journal):
    """Its record was pruned, and with it what was spent: only a lease that was lent since can be trusted."""
    yard = yard_of(journal)
    lease = a_lease(journal=journal.head().journal)
    yard.tell(a_grant(lease))
    kept(yard, journal)
    later = replace(yard.now, utc=NOON + timedelta(days=1), entropy=b"later")
    journal.append([(facts.AgentStopped(open_sessions=0), later)])
    journal.acknowledge(journal=journal.head().journal, through=journal.head().last - 1, quarantined={})
    assert journal.prune(keep=timedelta(0), now=later) > 0
    found = holdings_of(journal)
    assert dict(found.held) == {}
    again = found.granted([lease], message=9, used_up={}, now=later)
    assert dict(again.held) == {}
    new = a_lease(3, journal=lease.journal, issued_at=NOON + timedelta(days=2))
    assert list(found.granted([new], message=9, used_up={}, now=later).held) == [new.id]
