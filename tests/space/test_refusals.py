"""A backend that refuses every record is told of, once for each record, and the telling never feeds on itself."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent.core import observations
from agent.core.facts import RecordsQuarantined
from agent.journal import Journal
from agent.refusals import is_worth_telling
from agent.runtime import Runtime
from agent.store import Store
from sync.ports import Quarantined
from tests.journal.samples import SOURCE, a_refusal, an_instant, at


def test_the_refusal_of_a_record_that_tells_a_refusal_is_not_told_again(tmp_path: Path) -> None:
    async def story() -> list[int]:
        store = Store()
        await store.open(lambda: Journal.open(tmp_path, source=SOURCE, now=an_instant()))
        head = await store.head()
        told: list[int] = []
        await store.append(at(*[a_refusal()] * 4))
        refused = 0
        while refused < (await store.head()).last and refused < 50:
            refused += 1
            event = Quarantined(journal=head.journal, sequence=refused, reason="no")
            await store.acknowledge(journal=head.journal, through=refused, quarantined={refused: "no"})
            if await is_worth_telling(event, store):
                told.append(refused)
                fact = RecordsQuarantined(journal=head.journal, sequences=(refused,), reasons=("no",))
                await store.append(at(fact))
        assert await store.ask(lambda journal: journal.statistics().quarantined) == 10, "all are counted and kept"
        gone = Quarantined(journal=head.journal, sequence=99, reason="no")
        assert await is_worth_telling(gone, store), "what is not held any more"
        elsewhere = Quarantined(journal="another", sequence=1, reason="no")
        assert await is_worth_telling(elsewhere, store)
        await store.close()
        return told

    assert asyncio.run(story()) == [1, 2, 3, 4, 5]


def test_the_running_agent_asks_before_it_records_a_refusal(tmp_path: Path) -> None:
    async def story() -> list[object]:
        store = Store()
        await store.open(lambda: Journal.open(tmp_path, source=SOURCE, now=an_instant()))
        name = (await store.head()).journal
        await store.append(at(RecordsQuarantined(journal=name, sequences=(1,), reasons=("no",))))
        heard: list[object] = []
        work: list[Coroutine[Any, Any, None]] = []
        part: Any = SimpleNamespace(
            store=store,
            service=SimpleNamespace(board=None, tell=heard.append),
            clock=SimpleNamespace(now=an_instant),
            _spawn=work.append,
        )
        part._tell_refusal = lambda *words: Runtime._tell_refusal(part, *words)
        for sequence in (1, 2):
            Runtime._on_uplink(part, Quarantined(journal=name, sequence=sequence, reason="no"))
        await asyncio.gather(*work)
        await store.close()
        return heard

    (heard,) = asyncio.run(story())
    assert isinstance(heard, observations.Noted)
    assert isinstance(heard.fact, RecordsQuarantined)
    assert heard.fact.sequences == (1,)
