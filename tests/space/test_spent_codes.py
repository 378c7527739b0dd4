"""A break-glass code that was used stays so when the journal has forgotten it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.core.break_glass import CodeTries, code_of, secret_of
from agent.core.effects import Record
from agent.core.facts import OverrideUsed
from agent.core.history import History
from agent.core.observations import Woken
from agent.journal import StorageFull
from agent.past import history_of
from agent.performer import Performer
from agent.spent_codes import SpentCodes
from agent.store import Store
from tests.core.builders import Yard, a_policy, a_token, a_yard
from tests.core.test_overrides import says
from tests.journal.samples import open_journal

SECRET = secret_of(b"the fleet's key", "van-7")
FIRST = code_of(SECRET, 1, a_token().reference)


def a_stranded_yard() -> Yard:
    return a_yard(a_policy(networks={"NL*XYZ"}), break_glass=SECRET)


def used_in(yard: Yard) -> list[str]:
    return [each.override for each in yard.told(OverrideUsed)]


def test_a_code_is_not_good_again_when_its_record_was_pruned(tmp_path: Path) -> None:
    yard, spent = a_stranded_yard(), SpentCodes(tmp_path / "break-glass.spent")
    says(yard, FIRST)
    assert used_in(yard) == ["break-glass-1"]
    with open_journal(tmp_path / "journal", now=yard.now) as journal:
        journal.append([(fact, yard.now) for fact in yard.journal])
        assert spent.remembered(history_of(journal)).codes.counter == 1
        journal.acknowledge(journal=journal.head().journal, through=journal.head().last, quarantined={})
        month_after = replace(yard.now, utc=yard.now.utc + timedelta(days=31))
        journal.append([(yard.journal[-1], month_after)])
        assert journal.prune(keep=timedelta(days=30), now=month_after) > 0
        assert history_of(journal).codes.counter == 0
        history = spent.remembered(history_of(journal))

    later = a_stranded_yard()
    later.tell(Woken(version="test", sessions=(), history=history))
    says(later, FIRST)
    assert used_in(later) == []
    says(later, code_of(SECRET, 2, a_token().reference))
    assert used_in(later) == ["break-glass-2"]


def test_the_file_goes_only_forward_and_a_damaged_one_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "break-glass.spent"
    spent = SpentCodes(path)
    assert spent.read() == 0
    for counter, kept in ((7, 7), (3, 7), (8, 8)):
        spent.note(counter)
        assert SpentCodes(path).read() == kept
    path.write_bytes(path.read_bytes().replace(b"8", b"9", 1))
    assert spent.read() == 0
    path.write_bytes(b"\xff")
    assert spent.remembered(History(codes=CodeTries(counter=2))).codes.counter == 2
    assert spent.read() == 2
    SpentCodes(tmp_path / "no such folder" / "file").note(1)


@pytest.mark.parametrize("full", [False, True])
def test_it_is_noted_once_its_record_is_durable(full: bool) -> None:
    yard = a_stranded_yard()
    says(yard, FIRST)
    noted: list[int] = []
    asyncio.run(performed(yard, noted, full=full))

    assert noted == ([] if full else [1])


async def performed(yard: Yard, noted: list[int], *, full: bool) -> None:
    class OneStore(Store):
        async def append(self, entries: object) -> list[object]:  # type: ignore[override]
            assert noted == []
            if full:
                raise StorageFull("no room")
            return []

    performer = Performer(
        store=OneStore(), seal=None, readers={}, chargers={}, spawn=None,  # type: ignore[arg-type]
        on_records=lambda records: None, on_code=noted.append,
    )  # fmt: skip
    effects = (Record(facts=tuple(yard.journal)),)
    if full:
        with pytest.raises(StorageFull):
            await performer.perform(effects, yard.now)
    else:
        await performer.perform(effects, yard.now)
