"""What is given up before its time is bounded, in order, and told by a record (P3)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from agent.care import JournalCare, relieve
from agent.clock import SystemClock
from agent.core.facts import GivenUp, RecordsGivenUp
from agent.floor import FloorFile
from agent.journal import Journal, StorageFull
from agent.journal.space import KEPT_COPIES, Level, level_of
from agent.journal.verification import Anchor, verify
from agent.store import Store
from tests.journal.samples import SOURCE, a_refusal, an_instant, at, authorised, bodies_of, open_journal

MIB = 1024 * 1024


def a_small_journal(folder: Path) -> Journal:
    return Journal.open(folder, source=SOURCE, now=an_instant(), max_bytes=MIB)


def told(journal: Journal) -> list[RecordsGivenUp]:
    """Oldest first; only what is still here."""
    facts = [record.fact for record in journal.recent("io.roamkey.records.given_up", limit=10_000)]
    return [fact for fact in reversed(facts) if isinstance(fact, RecordsGivenUp)]


def refuse_everything(journal: Journal) -> int:
    """The backend takes nothing; how many records that were."""
    head = journal.head()
    refused = dict.fromkeys(range(head.acknowledged + 1, head.last + 1), "refused")
    journal.acknowledge(journal=head.journal, through=head.last, quarantined=refused)
    return len(refused)


@pytest.mark.slow
def test_a_backend_that_refuses_every_record_never_closes_the_store(tmp_path: Path) -> None:
    refused, kept_most, given_up = 0, 0, 0
    with a_small_journal(tmp_path) as journal:
        for number in range(300):
            journal.append(at(*[a_refusal()] * 9, authorised(f"s-{number}")))
            refused += refuse_everything(journal)
            before = journal.head().last
            while relieve(journal, an_instant()):
                pass
            assert level_of(journal.space()) is Level.OK, f"in round {number}"
            new = told(journal)[-(journal.head().last - before) :] if journal.head().last > before else []
            given_up += sum(fact.count for fact in new if fact.what is GivenUp.COPIES)
            copies = journal.quarantined()
            kept_most = max(kept_most, sum(len(each.body) for each in copies))
            assert journal.statistics().quarantined == refused, "those without a copy are still counted"
            assert len(copies) + given_up == refused, "each copy that went was told"
        base, base_hash = journal.base()
        assert verify(bodies_of(journal), keys=None, base=Anchor(sequence=base, hash=base_hash)).ok
    assert given_up > 1000
    assert kept_most < MIB // 2


def test_copies_are_cut_to_their_share_from_the_oldest_on_and_stay_gone(tmp_path: Path) -> None:
    with a_small_journal(tmp_path) as journal:
        journal.append(at(*[a_refusal()] * 200))
        name = journal.head().journal
        reasons = dict.fromkeys(range(1, 202), "refused")
        journal.acknowledge(journal=name, through=201, quarantined=reasons)
        gone = journal.relieve(now=an_instant())
        kept = [each.sequence for each in journal.quarantined()]
        (fact,) = told(journal)
        assert (fact.what, fact.journal, fact.first, fact.last, fact.count) == (GivenUp.COPIES, name, 1, gone, gone)
        assert fact.reason.startswith("little room: ")
        assert kept == list(range(gone + 1, 202)), "the newest are kept"
        assert sum(len(each.body) for each in journal.quarantined()) <= MIB * KEPT_COPIES
        journal.acknowledge(journal=name, through=201, quarantined=reasons)
        assert [each.sequence for each in journal.quarantined()] == kept, "the backend tells it again at each hello"
        assert journal.statistics().quarantined == 201
    with a_small_journal(tmp_path) as journal:
        assert journal.statistics().quarantined == 201


def test_acknowledged_records_that_go_early_are_told_with_first_last_count_and_why(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        journal.append(at(*[a_refusal()] * 600))
        before = journal.head()
        journal.acknowledge(journal=before.journal, through=600, quarantined={})
        assert [journal.relieve(now=an_instant()) for _ in range(3)] == [500, 100, 0]
        facts = told(journal)
    assert [(fact.what, fact.first, fact.last, fact.count) for fact in facts] == [
        (GivenUp.ACKNOWLEDGED, 1, 500, 500),
        (GivenUp.ACKNOWLEDGED, 501, 600, 100),
    ]
    assert all(fact.journal == before.journal and "KiB used" in fact.reason for fact in facts)


def test_telling_what_went_never_feeds_on_itself(tmp_path: Path) -> None:
    """The record that tells it is acknowledged in its turn, too."""
    with open_journal(tmp_path) as journal:
        journal.append(at(*[a_refusal()] * 600))
        for _ in range(20):
            journal.acknowledge(journal=journal.head().journal, through=journal.head().last, quarantined={})
            while journal.relieve(now=an_instant()):
                pass
        assert len(told(journal)) <= 7


def test_nothing_is_deleted_where_it_cannot_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_small_journal(tmp_path) as journal:
        journal.append(at(*[a_refusal()] * 20))
        journal.acknowledge(journal=journal.head().journal, through=20, quarantined={})
        before = journal.head()

        def full(*_: object) -> None:
            raise StorageFull("no room")

        monkeypatch.setattr("agent.journal.journal.insert", full)
        with pytest.raises(StorageFull):
            journal.relieve(now=an_instant())
        assert journal.head() == before
        assert len(bodies_of(journal)) == 21


def test_the_service_tells_it_while_it_looks_after_its_journal(tmp_path: Path) -> None:
    async def story() -> list[RecordsGivenUp]:
        store = Store()
        await store.open(lambda: Journal.open(tmp_path, source=SOURCE, now=an_instant(), max_bytes=MIB))
        with suppress(StorageFull):
            while True:
                await store.append(at(*[a_refusal()] * 50))
        head = await store.head()
        await store.acknowledge(journal=head.journal, through=head.last, quarantined={})
        await store.changed()
        care = JournalCare(
            store=store,
            clock=SystemClock(),
            floor=FloorFile(tmp_path / "floor"),
            retain=timedelta(days=365_000),
        )
        await care.look_after()
        async with asyncio.timeout(1):
            await store.changed()  # the uplink is told that there is something to send
        facts = await store.ask(told)
        assert (await store.head()).first > 1
        await store.close()
        return facts

    facts = asyncio.run(story())
    assert sum(fact.count for fact in facts) > 100
    assert facts[0].first == 1


def test_a_record_that_a_question_leaves_behind_is_delivered_without_waiting_for_another(tmp_path: Path) -> None:
    async def story() -> None:
        store = Store()
        await store.open(lambda: open_journal(tmp_path))
        await store.append(at(*[a_refusal()] * 20))
        await store.changed()
        await store.ask(lambda journal: journal.statistics())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await store.changed()
        head = await store.head()
        await store.acknowledge(journal=head.journal, through=head.last, quarantined={})
        assert await store.ask(lambda journal: journal.relieve(now=an_instant())) > 0
        async with asyncio.timeout(1):
            await store.changed()
        await store.ask(lambda journal: journal.seal_checkpoint(NoKey(), an_instant()))
        async with asyncio.timeout(1):
            await store.changed()
        await store.close()

    asyncio.run(story())


class NoKey:
    def sign(self, payload: Mapping[str, object], *, typ: str) -> str:
        return "not signed"
