"""Which refusals of the backend are worth a record of their own.

A backend that refuses every record also refuses those that tell it: each would bring forth the next, as fast as the
link allows and for ever. So the refusal of such a record is counted and kept like any other, but not told again.
"""

from __future__ import annotations

from agent.core.facts import RecordsQuarantined
from agent.store import Store
from agent.wire import TYPES
from sync.ports import Quarantined


async def is_worth_telling(event: Quarantined, store: Store) -> bool:
    """Not when the refused record itself tells of refused ones."""
    kind = await store.ask(lambda journal: journal.type_at(event.sequence, journal=event.journal))
    return kind != TYPES[RecordsQuarantined]
