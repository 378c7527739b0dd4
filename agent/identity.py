"""From what was presented to what the core may know: UID and eMAID become keyed references here and go no further."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from agent.cache.cache import Ambiguous, TokensUnreadable
from agent.core.aliases import LOSING, Form, whole_readings
from agent.core.credentials import (
    RANDOM,
    Assurance,
    CardDoubt,
    Credential,
    alias_reference,
    contract_reference,
    reference,
    wallet_reference,
)
from agent.core.observations import Presented
from agent.core.policy import Token
from drivers.readers.reader import Assurance as CardAssurance
from drivers.readers.reader import Card, Technology

log = logging.getLogger("roamkey")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """`key` makes the references; `lookup` asks the token table of the active policy and may raise TokensUnreadable.

    `lookup_alias` asks it which token is told so, and may raise Ambiguous, too.
    """

    key: bytes = field(repr=False)
    lookup: Callable[[str], Token | None]
    lookup_alias: Callable[[str], str | None] = lambda alias: None

    def of(self, card: Card) -> Presented:
        """A random UID names nobody: it gets no reference and is never looked up.

        What a reader tells of a card in forms that its profile declares counts where it fits one card in the policy.
        """
        doubt = None if card.doubt is None else CardDoubt(card.doubt.value)
        if card.assurance is CardAssurance.RANDOM:
            return Presented(credential=RANDOM, token=None, doubt=doubt)
        assurance = Assurance(card.assurance.value)
        if card.technology is Technology.WALLET:
            return self._looked_up(Credential(reference=wallet_reference(self.key, card.uid), assurance=assurance))
        told = Credential(reference=reference(self.key, card.canonical), assurance=assurance)
        if doubt is not None or not card.forms:
            return replace(self._looked_up(told), doubt=doubt)
        try:
            named = self._named_by(card, told)
        except Ambiguous:
            return Presented(credential=told, token=None, doubt=CardDoubt.AMBIGUOUS)
        except TokensUnreadable as error:
            log.error("token table: %s", error)
            return Presented(credential=told, token=None, lookup_failed=True)
        return self._looked_up(replace(told, reference=named))

    def _named_by(self, card: Card, told: Credential) -> str:
        """The one token that this may be, by any of the forms; as it was told when none is."""
        forms = tuple(map(Form, card.forms))
        readings = [reference(self.key, uid.hex()) for uid in whole_readings(card.uid, forms)]
        found = {each for each in readings if self.lookup(each) is not None}
        parts = [alias_reference(self.key, form, card.canonical) for form in forms if form in LOSING]
        found |= {named for part in parts if (named := self.lookup_alias(part)) is not None}
        if len(found) > 1:
            raise Ambiguous
        return next(iter(found), told.reference)

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
