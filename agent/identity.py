"""From what was presented to what the core may know: UID and eMAID become keyed references here and go no further."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent.cache.cache import TokensUnreadable
from agent.core.credentials import RANDOM, Assurance, Credential, contract_reference, reference
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
        return self._looked_up(credential)

    def of_contract(self, names: Sequence[str]) -> Presented:
        """A contract whose key is at hand, by its canonical eMAID and, behind it, other names of the same contract.

        The fleet's table may hold it under any of them; a contract it does not hold is known by the first.
        """
        found = [
            self._looked_up(Credential(reference=contract_reference(self.key, each), assurance=Assurance.AUTHENTICATED))
            for each in names
        ]
        return next((each for each in found if each.token is not None or each.lookup_failed), found[0])

    def _looked_up(self, credential: Credential) -> Presented:
        try:
            return Presented(credential=credential, token=self.lookup(credential.reference))
        except TokensUnreadable as error:
            log.error("token table: %s", error)
            return Presented(credential=credential, token=None, lookup_failed=True)
