"""What every reader is and says: cards, events, feedback and the Reader protocol. Values only, no device.

How a device is read is in the module of its driver; which driver fits a model is in firmware_profiles. Debounce and
presence ("one tap per presence") are not here: agent/core/presence.py does that once for all readers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, assert_never

RANDOM_ID_FIRST_BYTE = 0x08  # ISO 14443-3: a single-size UID that starts 08 is drawn anew each time the field drops
CASCADE_TAG = 0x88  # ISO 14443-3: announces a longer UID, is never the first byte of a whole one
UID_SIZES_14443A = (4, 7, 10)
UID_SIZE_EM4100 = 5
UID_SIZE_ISO15693 = 8  # FeliCa's IDm has as many


class Technology(StrEnum):
    ISO14443A = "iso14443a"
    ISO14443B = "iso14443b"
    ISO15693 = "iso15693"
    FELICA = "felica"
    EM4100 = "em4100"
    WALLET = "wallet"  # what a certified reader verified in a phone: not a UID, and longer than one (wallets.py)


class Assurance(StrEnum):
    """What the reading proves, weakest first. Same words as agent.core.credentials, which may not be imported here."""

    LOSSY = "lossy"
    RANDOM = "random"
    STATIC = "static"
    AUTHENTICATED = "authenticated"


class Form(StrEnum):
    """How what a reader tells may differ from the UID, declared by its profile. As in agent.core.aliases."""

    REVERSED = "reversed"
    PADDED_8 = "padded_8"
    FIRST_3 = "first_3"
    FIRST_4 = "first_4"
    FIRST_6 = "first_6"
    LAST_3 = "last_3"
    LAST_4 = "last_4"
    VERSION_BYTE = "version_byte"
    FIRST_3_REVERSED = "first_3_reversed"
    FIRST_4_REVERSED = "first_4_reversed"
    LAST_3_REVERSED = "last_3_reversed"


class Doubt(StrEnum):
    """Why a card names nobody although it is there."""

    NOT_GENUINE = "not_genuine"  # it should have proven a key and could not
    TORN = "torn"  # it was taken away before it had proven it
    PHONE = "phone"  # a phone or a watch: no card, and no identity without a wallet's own protocol


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Card:
    """A card in the field. `uid` is in on-air order, first byte first; str and repr never show it whole.

    With a `doubt` the UID is only what was claimed.
    """

    uid: bytes
    technology: Technology
    assurance: Assurance
    doubt: Doubt | None = None
    forms: tuple[Form, ...] = field(default=(), compare=False)

    @property
    def canonical(self) -> str:
        """Upper-case hex without separators: the only text form that is ever compared or hashed."""
        return self.uid.hex().upper()

    def __str__(self) -> str:
        # The first byte names the maker; of a 4-byte UID a second one would leave an afternoon's guessing.
        return f"{self.uid[:1].hex().upper()}{'•' * (2 * len(self.uid) - 2)}"

    def __repr__(self) -> str:
        doubt = f", {self.doubt.value}" if self.doubt is not None else ""
        return f"Card({self}, {self.technology.value}, {self.assurance.value}{doubt})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One poll's result; no cards is an empty field. Told for each poll while a card is there, and for at least
    four empty polls and one second after it left; then the reader is quiet until the next card."""

    reader: str
    cards: tuple[Card, ...]
    monotonic_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderFound:
    """The device is open and ready. `findings` are what an operator should know; they are not failures."""

    reader: str
    model: str
    firmware: str
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderLost:
    """The only failure event. Told once an outage; the driver goes on trying."""

    reader: str
    cause: str
    hint: str


ReaderEvent = Seen | ReaderFound | ReaderLost
Emit = Callable[[ReaderEvent], None]


class Feedback(StrEnum):
    """What the person at the reader is told."""

    PENDING = "pending"
    GRANTED = "granted"
    REFUSED = "refused"
    OFFLINE = "offline"
    FAULT = "fault"
    LEARN = "learn"


class Reader(Protocol):
    name: str

    async def run(self, emit: Emit) -> None:
        """For ever, until cancelled; then the device is closed within a second. Device faults become ReaderLost.
        `emit` may be called from the driver's own thread."""

    async def signal(self, feedback: Feedback, text: str) -> None:
        """Best effort, at most a second, never raises for a device fault."""


def card_14443a(uid: bytes) -> Card:
    """A Type A card with what its UID alone can prove."""
    return Card(uid=uid, technology=Technology.ISO14443A, assurance=assurance_14443a(uid))


def assurance_14443a(uid: bytes) -> Assurance:
    if len(uid) == 4 and uid[0] == RANDOM_ID_FIRST_BYTE:
        return Assurance.RANDOM
    if len(uid) not in UID_SIZES_14443A or (len(uid) == 4 and uid[0] == CASCADE_TAG):
        return Assurance.LOSSY  # 88 + three bytes: the reader stopped after the first cascade level
    return Assurance.STATIC


def card_em4100(tag: bytes) -> Card:
    """A 125 kHz tag. Static at best: anyone can copy one in the time of a handshake."""
    complete = len(tag) == UID_SIZE_EM4100
    return Card(uid=tag, technology=Technology.EM4100, assurance=Assurance.STATIC if complete else Assurance.LOSSY)


def card_of(uid: bytes, technology: Technology) -> Card:
    """A card of any kind, with what its UID alone can prove."""
    match technology:
        case Technology.ISO14443A:
            return card_14443a(uid)
        case Technology.EM4100:
            return card_em4100(uid)
        case Technology.ISO14443B:
            # ISO 14443-3 7.9.2: a PUPI may be drawn anew at each power-up, and on most cards it is.
            return Card(uid=uid, technology=technology, assurance=Assurance.RANDOM)
        case Technology.ISO15693 | Technology.FELICA:
            complete = len(uid) == UID_SIZE_ISO15693
            return Card(uid=uid, technology=technology, assurance=Assurance.STATIC if complete else Assurance.LOSSY)
        case Technology.WALLET:
            raise ValueError("a pass in a wallet has no UID")
        case _:
            assert_never(technology)


def card_from_text(text: str) -> Card:
    """A card told by a person or a program instead of an antenna. ValueError names the rule, never the UID."""
    compact = text.strip().replace(":", "").replace(" ", "").replace("-", "")
    try:
        uid = bytes.fromhex(compact)
    except ValueError:
        raise ValueError("a UID is hexadecimal, for example 04AABBCCDDEE80") from None
    match len(uid):
        case 4 | 7 | 10:
            return card_14443a(uid)
        case 5:
            return card_em4100(uid)
        case size:
            raise ValueError(f"a UID has 4, 7 or 10 bytes (ISO 14443 A) or 5 (EM4100), not {size}")
