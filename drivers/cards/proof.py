"""From a card in the field to what it can prove: authenticated with its own key, a phone, or no proof at all. Pure.

A card with a fixed UID for which there is a key must prove it; if it cannot, its UID counts for nothing. A card with a
random UID is first asked who it is, with an introduction key that every vehicle may have since it can do nothing else,
and then proves it with its own key. Which keys there are is the agent's business: `CardKeys`. Presence is not.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Generic, Protocol, TypeVar, assert_never

from drivers.cards import aes, ev1, ev2, sdm
from drivers.cards.apdu import (
    CardError,
    CardRefused,
    CardTorn,
    NotGenuine,
    Transceive,
    iso,
    native,
)
from drivers.cards.ndef import read_url
from drivers.cards.phones import is_phone
from drivers.readers.reader import Assurance, Card, Doubt, Technology

SELECT_APPLICATION = 0x5A
NTAG_APPLICATION = bytes.fromhex("00A4040007D276000085010100")
TORN_TRIES = 3  # looks at a card that is just being laid on; then it is told that it was taken away too soon


T = TypeVar("T")


class Scheme(StrEnum):
    """How the card proves its key."""

    DESFIRE_EV1 = "desfire-ev1"
    DESFIRE_EV2 = "desfire-ev2"
    NTAG_424 = "ntag-424"
    SUN = "sun"  # a message that the tag makes at each read (sdm.py): a name that cannot be made up


@dataclass(frozen=True, slots=True, kw_only=True)
class CardKey:
    """A key that can do nothing but authenticate. `application` is DESFire's, most significant byte first.

    For SUN `key` is SDMFileRead's, and `meta` is SDMMetaRead's: in an introduction it is all that matters.
    """

    scheme: Scheme
    key_no: int
    key: bytes = field(repr=False)
    application: bytes = b""
    meta: bytes = field(default=b"", repr=False)


class CardKeys(Protocol):
    def own(self, uid: bytes) -> CardKey | None:
        """The key of exactly this card; None: nobody gave us one, and the card cannot prove anything here."""

    def introductions(self) -> tuple[CardKey, ...]:
        """Keys shared by the fleet's cards, to be told the true UID behind a random one."""


class NoKeys:
    """A device that was given none: cards are what their UID says, phones are still recognised."""

    def own(self, uid: bytes) -> CardKey | None:
        return None

    def introductions(self) -> tuple[CardKey, ...]:
        return ()


class Desk(NoKeys, Generic[T]):
    """In place of keys, in a back office: the next card that lies there alone is handed to `act`, once.

    `act` runs on the reader's thread and is tried again when the card was torn away; `outcome` is what came of it.
    """

    def __init__(self, act: Callable[[Card, OpenLink], T]) -> None:
        self.outcome: Future[T] = Future()
        self._act = act

    def looked(self, cards: tuple[Card, ...], open_link: OpenLink) -> tuple[Card, ...] | None:
        if len(cards) != 1 or self.outcome.done():
            return cards
        try:
            self.outcome.set_result(self._act(cards[0], open_link))
        except CardTorn:
            return None
        except CardError as error:
            self.outcome.set_exception(error)
        return cards


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A conversation with the one card in the field. `historical` are the bytes of its ATS or ATR."""

    transceive: Transceive
    historical: bytes = b""


OpenLink = Callable[[], Link]
"""Raises CardTorn when the card is gone, NotGenuine when it has no way to talk (no ISO 14443-4)."""


def proving(keys: CardKeys) -> Proofs:
    """For one connection of a reader."""
    return keys if isinstance(keys, Desk) else Proving(keys)


class Proofs(Protocol):
    def looked(self, cards: tuple[Card, ...], open_link: OpenLink) -> tuple[Card, ...] | None:
        """What is to be told of this look; None: nothing yet, the card was taken away in mid-sentence."""


class Proving:
    """The proofs of one reader. A fixed UID proves itself once a presence, a random one at each look, since nothing
    else says that it is still the same card."""

    def __init__(self, keys: CardKeys) -> None:
        self._keys = keys
        self._known: tuple[Card, Card] | None = None  # what was seen, and what it proved
        self._torn = 0

    def looked(self, cards: tuple[Card, ...], open_link: OpenLink) -> tuple[Card, ...] | None:
        if len(cards) != 1:
            self._known, self._torn = None, 0
            return cards  # of several nobody knows who asks; the core says so
        (card,) = cards
        if self._known is not None and self._known[0] == card and card.assurance is not Assurance.RANDOM:
            return (self._known[1],)
        try:
            proven = self._proven(card, open_link)
        except CardTorn:
            self._torn += 1
            if self._torn < TORN_TRIES:
                return None
            self._known = None  # held still, it may prove itself yet
            return (replace(card, doubt=Doubt.TORN),)
        self._torn = 0
        self._known = (card, proven)
        return (proven,)

    def _proven(self, card: Card, open_link: OpenLink) -> Card:
        if card.technology is not Technology.ISO14443A:
            return card
        if card.assurance is Assurance.RANDOM:
            return self._introduced(card, open_link)
        return self._own_proof(card, open_link, otherwise=card)

    def _own_proof(self, card: Card, open_link: OpenLink, *, otherwise: Card) -> Card:
        """If there is a key for this card, it is authenticated or nobody from here on (never back to the UID)."""
        try:
            key = self._keys.own(card.uid)
            if key is None:
                return otherwise
            if key.scheme is Scheme.SUN:
                uid, proves = self._by_message(open_link().transceive, key), Assurance.STATIC
            else:
                uid, proves = true_uid(open_link().transceive, key), Assurance.AUTHENTICATED
        except CardTorn:
            raise
        except CardError:
            return replace(card, doubt=Doubt.NOT_GENUINE)
        if not aes.same(uid, card.uid):
            return replace(card, doubt=Doubt.NOT_GENUINE)
        return replace(card, assurance=proves)

    def _by_message(self, transceive: Transceive, key: CardKey) -> bytes:
        """A message could have been read in advance: it is believed once, and is no authentication of the card."""
        if not isinstance(self._keys, sdm.Counters):
            raise NotGenuine("nobody keeps this tag's counter")
        keys = sdm.Keys(file=key.key, meta=key.meta or None)
        return sdm.accepted(read_url(transceive), keys, sdm.Layout(), self._keys).uid

    def _introduced(self, card: Card, open_link: OpenLink) -> Card:
        before = self._known
        if not self._keys.introductions() and before is not None and before[0].assurance is Assurance.RANDOM:
            return replace(card, doubt=before[1].doubt)  # somebody nameless lies there still
        try:
            link = open_link()
        except NotGenuine:
            return card
        for key in self._keys.introductions():
            try:
                uid = _introduced_uid(link.transceive, key)
                if key.scheme is Scheme.SUN and self._keys.own(uid) is None:
                    continue  # opened with a key that is not its own, a stranger's message says any name
            except CardTorn:
                raise
            except CardError:
                continue  # of another family, or of another fleet: nameless, and that is no crime
            named = Card(uid=uid, technology=card.technology, assurance=Assurance.STATIC)
            # Whoever knows the introduction key can say any name: without the card's own key it is a name, no proof.
            return self._own_proof(named, lambda: link, otherwise=named)
        return replace(card, doubt=Doubt.PHONE) if _sure(is_phone, link) else card


def true_uid(transceive: Transceive, key: CardKey) -> bytes:
    """Select, authenticate, and ask for the UID inside the session."""
    match key.scheme:
        case Scheme.DESFIRE_EV1:
            select(transceive, key.application)
            return ev1.authenticate(transceive, key.key, key.key_no).card_uid()
        case Scheme.DESFIRE_EV2:
            select(transceive, key.application)
            return ev2.authenticate(transceive, key.key, key.key_no).card_uid()
        case Scheme.NTAG_424:
            iso(transceive, NTAG_APPLICATION)
            return ev2.authenticate(transceive, key.key, key.key_no).card_uid()
        case Scheme.SUN:
            raise NotGenuine("a message is no authentication")
        case _:
            assert_never(key.scheme)


def select(transceive: Transceive, application: bytes) -> None:
    """DESFire's own command; the least significant byte of the number goes first."""
    answer = native(transceive, SELECT_APPLICATION, application[::-1])
    if answer.status != 0:
        raise CardRefused("its application", answer.status)


def _introduced_uid(transceive: Transceive, key: CardKey) -> bytes:
    if key.scheme is Scheme.SUN:
        return sdm.claimed(read_url(transceive), key.meta or None, sdm.Layout())[0]
    return true_uid(transceive, key)


def _sure(claim: Callable[[Transceive, bytes], bool], link: Link) -> bool:
    try:
        return claim(link.transceive, link.historical)
    except CardError:
        return False
