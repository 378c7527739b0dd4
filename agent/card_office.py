"""The back office's desk for cards: read one, give it keys, let it prove them. Nothing here runs on a vehicle.

What a card is told is drivers/cards; the files that it fills are the fleet's own tokens.csv and the box of card keys
that vehicles get (agent/card_keys.py). The master key stays here: as a file, or in an HSM that encrypts blocks with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from agent.files import replace_durably
from agent.fleet.source import Wrong, canonical_uid
from drivers.cards import sdm
from drivers.cards.apdu import CardError, CardTorn, NotGenuine
from drivers.cards.diversification import Algorithm, EncryptBlock, diversified, with_key
from drivers.cards.ndef import read_url
from drivers.cards.proof import CardKey, CardKeys, Desk, Link, NoKeys, OpenLink, Proving, Scheme, true_uid
from drivers.cards.provisioning import CardSet, Kind, Step, card_set, kind_of, provision, steps_for
from drivers.readers import open_reader
from drivers.readers.reader import Assurance, Card, Feedback, ReaderEvent, ReaderFound, ReaderLost
from firmware_profiles.profile import Profile

APPLICATION_BYTES = 3
MARK_MAX_BYTES = 16
MASTER_KEY_HEX = re.compile(r"[0-9A-Fa-f]{32}")

T = TypeVar("T")


class OfficeError(Exception):
    """Why nothing was done, and what helps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """How this fleet makes its cards' keys. `mark` keeps apart what two fleets make from one master key."""

    encrypt: EncryptBlock = field(repr=False)
    application: bytes
    mark: bytes
    algorithm: Algorithm = Algorithm.AN10922

    def keys_of(self, uid: bytes, kind: Kind) -> CardSet:
        return card_set(self._derive, uid, kind.scheme, application=self.application, mark=self.mark)

    def _derive(self, diversifier: bytes) -> bytes:
        return diversified(self.algorithm, self.encrypt, diversifier)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What was done, or would be: the steps that were open, and the keys. Nothing of it is ever printed."""

    card: Card
    kind: Kind
    steps: tuple[Step, ...]
    keys: CardSet = field(repr=False)


def read_master_key(path: Path) -> EncryptBlock:
    return with_key(read_key(path))


def read_key(path: Path) -> bytes:
    """A key that goes onto vehicles: of one tag, or the one with which all of them tell who they are."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise OfficeError(f"the key {path} cannot be read: check the file, its owner and mode") from error
    if MASTER_KEY_HEX.fullmatch(text) is None:
        raise OfficeError(f"the key {path} must be 32 hexadecimal digits (AES-128)")
    return bytes.fromhex(text)


def read_application(text: str) -> bytes:
    if re.fullmatch(f"[0-9A-Fa-f]{{{2 * APPLICATION_BYTES}}}", text) is None or not int(text, 16):
        raise OfficeError("an application is 6 hexadecimal digits, not all of them 0, for example F51234")
    return bytes.fromhex(text)


def read_mark(text: str) -> bytes:
    mark = text.encode("utf-8")
    if len(mark) > MARK_MAX_BYTES:
        raise OfficeError(f"the fleet's mark has at most {MARK_MAX_BYTES} bytes")
    return mark


def next_card(profile: Profile, port: str, act: Callable[[Card, OpenLink], T], *, within_s: float) -> T:
    """What `act` made of the next card that is laid on alone. Raises OfficeError, or the card's own CardError."""
    desk = Desk(act)
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(_waited_for(profile, port, desk, within_s))
    raise OfficeError("given up")


async def _waited_for(profile: Profile, port: str, desk: Desk[T], within_s: float) -> T:
    lost: list[ReaderLost] = []
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()
    reader = open_reader("desk", profile=profile, port=port, keys=desk)

    def heard(event: ReaderEvent) -> None:
        if isinstance(event, ReaderLost):
            lost.append(event)
        elif isinstance(event, ReaderFound):
            loop.call_soon_threadsafe(ready.set)

    async def invite() -> None:
        await ready.wait()
        await reader.signal(Feedback.LEARN, "")

    reading = asyncio.create_task(reader.run(heard))
    inviting = asyncio.create_task(invite())
    try:
        async with asyncio.timeout(within_s):
            return await asyncio.wrap_future(desk.outcome)
    except TimeoutError:
        if lost:
            raise OfficeError(f"{lost[-1].cause}; {lost[-1].hint}") from None
        raise OfficeError(f"no card was laid on alone within {within_s:g} s") from None
    finally:
        for task in (inviting, reading):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def named(card: Card, open_link: OpenLink, keys: CardKeys) -> Card:
    """Who this is, with whatever proof there are keys for. OfficeError for who shows no name."""
    told = Proving(keys).looked((card,), open_link)
    if told is None:
        raise CardTorn("the card was taken away")
    (found,) = told
    if found.doubt is not None:
        raise NotGenuine(f"the card does not prove its key ({found.doubt.value})")
    if found.assurance is Assurance.RANDOM:
        raise CardError(
            "the card shows a random number, and no key here asks it for its own: it cannot be enrolled by that number"
        )
    return found


def to_give(card: Card, link: Link, office: Office) -> Given:
    """What there is to do for this card. Changes nothing."""
    kind = kind_of(link.transceive)
    uid = kind.uid or (b"" if card.assurance is Assurance.RANDOM else card.uid)
    if not uid:
        raise CardError("the card hides its number: give it keys before its random number is switched on")
    if card.assurance is not Assurance.RANDOM and uid != card.uid:
        raise NotGenuine("the card tells another number by its version than by its selection")
    keys = office.keys_of(uid, kind)
    if kind.scheme is Scheme.DESFIRE_EV1 and true_uid(link.transceive, keys.own) != uid:
        raise NotGenuine("the card proves its key with another number")
    return Given(card=card, kind=kind, steps=steps_for(link.transceive, kind.scheme, office.application), keys=keys)


def give(card: Card, link: Link, office: Office) -> Given:
    """Do it. The card has proven its own key when this returns."""
    given = to_give(card, link, office)
    provision(link.transceive, given.keys, given.steps, given.kind.uid or card.uid)
    return given


def proven(card: Card, link: Link, office: Office) -> Card:
    """Authenticated with the key that the office would give it; raises a CardError when it has another or none."""
    kind = kind_of(link.transceive)
    uid = kind.uid or (b"" if card.assurance is Assurance.RANDOM else card.uid)
    if not uid:
        uid = true_uid(link.transceive, office.keys_of(b"", kind).introduction)
    if true_uid(link.transceive, office.keys_of(uid, kind).own) != uid:
        raise NotGenuine("the card proves its key with another number")
    return Card(uid=uid, technology=card.technology, assurance=Assurance.AUTHENTICATED)


def shown_by(link: Link, *, meta: bytes, file: bytes) -> tuple[CardKey, CardKey, bytes]:
    """Of a tag whose message these keys open: its introduction, its own keys, its number. NotGenuine otherwise."""
    sun = sdm.verified(read_url(link.transceive), sdm.Keys(file=file, meta=meta), sdm.Layout())
    introduction = CardKey(scheme=Scheme.SUN, key_no=0, key=b"", meta=meta)
    return introduction, CardKey(scheme=Scheme.SUN, key_no=0, key=file, meta=meta), sun.uid


def enrol(tokens: Path, card: Card, cells: dict[str, str], *, write: bool) -> bool:
    """One more row in the fleet's tokens.csv; False when the card is there already. Raises OfficeError."""
    uid = canonical_uid(card.canonical)
    if isinstance(uid, Wrong) or card.assurance is Assurance.RANDOM:
        raise OfficeError("this card has no number that could be enrolled")
    rows, columns = _rows(tokens)
    if any(canonical_uid(row.get("uid", "")) == uid for row in rows):
        return False
    if write:
        columns = [*columns, *(name for name in ("uid", *cells) if name not in columns)]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, {"uid": uid, **cells}])
        replace_durably(tokens, text.getvalue().encode())
    return True


def _rows(tokens: Path) -> tuple[list[dict[str, str]], list[str]]:
    if not tokens.exists():
        return [], []
    try:
        reader = csv.DictReader(io.StringIO(tokens.read_text(encoding="utf-8-sig"), newline=""))
        rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OfficeError(f"{tokens} cannot be read as CSV: {error}") from error
    columns = list(reader.fieldnames or ())
    if columns and "uid" not in columns:
        raise OfficeError(f"{tokens} has no column uid")
    return rows, columns


NOBODY = NoKeys()
