"""From what a reader saw to what the core may know: the UID becomes a keyed reference here and goes no further."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.cache.cache import TokensUnreadable
from agent.core.credentials import RANDOM, Assurance, Credential, reference
from agent.core.observations import Presented
from agent.core.policy import Token
from drivers.readers.reader import Assurance as CardAssurance
from drivers.readers.reader import Card

log = logging.getLogger("roamkey")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """`key` makes the references; `lookup` asks the token table of the active policy and may raise TokensUnreadable."""

    key: bytes = field(repr=False)
    lookup: Callable[[str], Token | None]

    def of(self, card: Card) -> Presented:
        """A random UID names nobody: it gets no reference and is never looked up."""
        if card.assurance is CardAssurance.RANDOM:
            return Presented(credential=RANDOM, token=None)
        credential = Credential(
            reference=reference(self.key, card.canonical), assurance=Assurance(card.assurance.value)
        )
        try:
            return Presented(credential=credential, token=self.lookup(credential.reference))
        except TokensUnreadable as error:
            log.error("token table: %s", error)
            return Presented(credential=credential, token=None, lookup_failed=True)
