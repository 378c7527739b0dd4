"""The keys with which cards prove themselves, sealed in the vault: one a card, read when that card is tapped.

A file that the back office makes (`roamkey cards provision`) with the keys of exactly the cards that this vehicle may
meet. It never has a key from which others could be made. Each key is sealed by itself, under a seal that a systemd
credential brings and that lies elsewhere; cards are named by reference. What a key is used for is drivers/cards.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.core.credentials import key_check, reference
from agent.files import replace_durably
from agent.sun_counters import SunCounters
from agent.vault import VaultError
from drivers.cards.apdu import NotGenuine
from drivers.cards.proof import CardKey, Scheme

LAYOUT = 1
SEAL_BYTES = 32
NONCE_BYTES = 12
SEAL_CREDENTIAL = "card-keys.seal"
INTRODUCTION = "introduction"
_DOMAIN = b"roamkey/card-key/v1\0"

log = logging.getLogger("roamkey")


@dataclass(frozen=True, slots=True)
class _Sealed:
    """What the file says. Still sealed, but for what every card of the fleet shares."""

    cards: dict[str, str] = field(default_factory=dict)
    introductions: tuple[CardKey, ...] = ()


class CardKeyBox:
    """A drivers.cards.proof.CardKeys. Asked on the readers' threads: what it knows is replaced whole, never changed."""

    def __init__(self, path: Path, *, seal: bytes, token_key: bytes, counters: Path | None = None) -> None:
        self._path = path
        self._counters = SunCounters(counters or path.with_suffix(".counters"), token_key=token_key)
        self._seal = AESGCM(seal)
        self._token_key = token_key
        self._stamp = _stamp(path)
        self._content = self._read()

    @classmethod
    def create(cls, path: Path, *, seal: bytes, token_key: bytes) -> CardKeyBox:
        """A new one without keys, or the one that is there."""
        if not path.exists():
            _write(path, token_key, {}, [])
        return cls(path, seal=seal, token_key=token_key)

    def __repr__(self) -> str:
        return f"CardKeyBox({len(self)} cards)"

    def __len__(self) -> int:
        return len(self._content.cards)

    def own(self, uid: bytes) -> CardKey | None:
        self._look_again()
        name = reference(self._token_key, uid.hex())
        sealed = self._content.cards.get(name)
        if sealed is None:
            return None
        try:
            return self._opened(name, sealed)
        except VaultError as error:
            log.error("card keys: %s", error)
            raise NotGenuine("the key of this card is damaged") from error  # there is one, so the UID does not do

    def advance(self, uid: bytes, counter: int) -> bool:
        """A drivers.cards.sdm.Counters, too: a tag's message is believed once."""
        return self._counters.advance(uid, counter)

    def introductions(self) -> tuple[CardKey, ...]:
        return self._content.introductions

    def add(self, uid: bytes, key: CardKey) -> None:
        """In the back office: durable on return. What was there for this card is replaced."""
        name = reference(self._token_key, uid.hex())
        document = _document(self._path)
        cards = {**document["cards"], name: self._sealed(name, key)}
        _write(self._path, self._token_key, cards, document["introductions"])
        self._content = self._read()

    def introduce(self, key: CardKey) -> None:
        """The fleet's introduction key of this kind of card, in place of the one before."""
        document = _document(self._path)
        others = [self._sealed(INTRODUCTION, each) for each in self.introductions() if each.scheme is not key.scheme]
        _write(self._path, self._token_key, document["cards"], [*others, self._sealed(INTRODUCTION, key)])
        self._content = self._read()

    def _look_again(self) -> None:
        """A new file is taken at the next tap. One that cannot be used leaves the keys as they were."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._content = self._read()
        except VaultError as error:
            log.error("card keys stay as they were: %s", error)

    def _read(self) -> _Sealed:
        document = _document(self._path)
        if document["key_check"] != key_check(self._token_key):
            raise VaultError(
                f"{self._path} was made with another token key: no card would be found; make it with this fleet's key"
            )
        introductions = tuple(self._opened(INTRODUCTION, each) for each in document["introductions"])
        return _Sealed(cards=document["cards"], introductions=introductions)

    def _sealed(self, name: str, key: CardKey) -> str:
        plain = {
            "scheme": key.scheme,
            "key_no": key.key_no,
            "key": key.key.hex(),
            "application": key.application.hex(),
            "meta": key.meta.hex(),
        }
        nonce = secrets.token_bytes(NONCE_BYTES)
        secret = self._seal.encrypt(nonce, json.dumps(plain).encode(), _DOMAIN + name.encode())
        return base64.b64encode(nonce + secret).decode()

    def _opened(self, name: str, sealed: str) -> CardKey:
        try:
            raw = base64.b64decode(sealed, validate=True)
            plain = json.loads(self._seal.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _DOMAIN + name.encode()))
            return CardKey(
                scheme=Scheme(plain["scheme"]),
                key_no=plain["key_no"],
                key=bytes.fromhex(plain["key"]),
                application=bytes.fromhex(plain["application"]),
                meta=bytes.fromhex(plain["meta"]),
            )
        except (InvalidTag, ValueError, KeyError, TypeError) as error:
            raise VaultError(
                f"{self._path}: a key does not open with this seal: bring the seal that it was made with, or a new file"
            ) from error


def read_seal(path: Path) -> bytes:
    """32 bytes as 64 hexadecimal digits."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise VaultError(f"the seal of the card keys {path} cannot be read: check its owner and mode") from error
    if re.fullmatch(f"[0-9A-Fa-f]{{{2 * SEAL_BYTES}}}", text) is None:
        raise VaultError(f"the seal of the card keys {path} must be {2 * SEAL_BYTES} hexadecimal digits")
    return bytes.fromhex(text)


def _document(path: Path) -> Any:
    try:
        document = json.loads(path.read_bytes())
        if document["layout"] != LAYOUT or not isinstance(document["key_check"], str):
            raise ValueError
        if not all(isinstance(each, str) for each in (*document["cards"].values(), *document["introductions"])):
            raise ValueError
    except OSError as error:
        raise VaultError(
            f"the card keys {path} cannot be read ({error.strerror}): bring the file that `roamkey cards provision` "
            "wrote, or leave [cards] out of the configuration"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError):
        raise VaultError(f"the card keys {path} are damaged: bring the file again") from None
    return document


def _write(path: Path, token_key: bytes, cards: dict[str, str], introductions: list[str]) -> None:
    document = {"layout": LAYOUT, "key_check": key_check(token_key), "cards": cards, "introductions": introductions}
    try:
        replace_durably(path, json.dumps(document, indent=1, sort_keys=True).encode() + b"\n")
    except OSError as error:
        raise VaultError(f"the card keys {path} cannot be written ({error.strerror}): check the folder") from error


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_mtime_ns
