"""Secure dynamic messaging (SUN) of NTAG 424 DNA and DESFire EV3: what a card mirrors into its URL at each read. Pure.

A message proves that the card made it once, not that the card is here: who read it before can show it later. So the
read counter must go up, and that must be durable before anything is granted: `Counters`. On our own readers ev2.py
proves more. LRP (24 bytes of PICC data) is told apart and refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable
from urllib.parse import parse_qsl, urlsplit

from drivers.cards import aes
from drivers.cards.apdu import NotGenuine

UID_PRESENT, COUNTER_PRESENT, UID_LENGTH = 0x80, 0x40, 0x0F
COUNTER_BYTES = 3
UID_BYTES = 7  # NTAG 424 DNA has no other
MAC_BYTES = 8
LRP_PICC_BYTES = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """SDMMetaRead (None: UID and counter are in clear) and SDMFileRead."""

    file: bytes = field(repr=False)
    meta: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Names of the URL's parameters. `mac_from`: the MAC covers the text from this one's value on; None: it covers
    nothing but UID and counter. `with_name`: up to the MAC's own value, so with its name; else up to the name."""

    mac: str = "cmac"
    picc: str | None = "picc_data"
    uid: str = "uid"
    counter: str = "ctr"
    file: str | None = None
    mac_from: str | None = None
    with_name: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Sun:
    """A verified message: whose it is and how often that card had been read."""

    uid: bytes = field(repr=False)
    counter: int
    file: bytes | None = field(default=None, repr=False)


@runtime_checkable
class Counters(Protocol):
    def advance(self, uid: bytes, counter: int) -> bool:
        """True once this counter is durably kept and was higher than every one before; False for a replay."""


def accepted(url: str, keys: Keys, layout: Layout, counters: Counters) -> Sun:
    """The message of a tapped URL, verified and never seen before. NotGenuine for everything else."""
    sun = verified(url, keys, layout)
    if not counters.advance(sun.uid, sun.counter):
        raise NotGenuine("this message was shown before: somebody replays it, or the counters were restored")
    return sun


def verified(url: str, keys: Keys, layout: Layout) -> Sun:
    """As `accepted`, but a replay passes too: only where somebody else looks at the counter."""
    uid, counter = claimed(url, keys.meta, layout)
    values = _values(url)
    mac = _octets(values, layout.mac)
    check_mac(keys.file, uid, counter, mac, _covered(url, layout))
    secret = _octets(values, layout.file) if layout.file is not None else None
    return Sun(uid=uid, counter=counter, file=None if secret is None else file_data(keys.file, uid, counter, secret))


def claimed(url: str, meta: bytes | None, layout: Layout) -> tuple[bytes, int]:
    """Whose message it says to be, and which: a name to look for a key with, and no proof."""
    values = _values(url)
    if meta is not None and layout.picc is not None:
        return picc_data(meta, _octets(values, layout.picc))
    return plain_picc(_octets(values, layout.uid), values.get(layout.counter, ""))


def picc_data(meta: bytes, secret: bytes) -> tuple[bytes, int]:
    """UID and counter out of the encrypted PICC data."""
    if len(secret) == LRP_PICC_BYTES:
        raise NotGenuine("the card uses LRP, which is not supported")
    if len(secret) != aes.BLOCK:
        raise NotGenuine("PICC data of a wrong length")
    plain = aes.decrypted(meta, secret)
    tag = plain[0]
    if not (tag & UID_PRESENT and tag & COUNTER_PRESENT and tag & UID_LENGTH == UID_BYTES):
        raise NotGenuine("PICC data without UID and counter, or of another card")
    return plain[1 : 1 + UID_BYTES], int.from_bytes(plain[1 + UID_BYTES : 1 + UID_BYTES + COUNTER_BYTES], "little")


def plain_picc(uid: bytes, counter: str) -> tuple[bytes, int]:
    """In a URL the counter stands most significant byte first; everywhere else it is the other way round."""
    try:
        octets = bytes.fromhex(counter)
    except ValueError:
        octets = b""
    if len(uid) != UID_BYTES or len(octets) != COUNTER_BYTES:
        raise NotGenuine("UID or counter of a wrong length")
    return uid, int.from_bytes(octets, "big")


def check_mac(file_key: bytes, uid: bytes, counter: int, mac: bytes, covered: bytes = b"") -> None:
    _, mac_key = session_keys(file_key, uid, counter)
    if not aes.same(aes.short_mac(mac_key, covered), mac):
        raise NotGenuine("the message's MAC is wrong")


def file_data(file_key: bytes, uid: bytes, counter: int, secret: bytes) -> bytes:
    """The encrypted part of the file. Its IV comes from the session's encryption key (the datasheet names another)."""
    if not secret or len(secret) % aes.BLOCK:
        raise NotGenuine("encrypted file data are not of whole blocks")
    enc, _ = session_keys(file_key, uid, counter)
    iv = aes.encrypted(enc, counter.to_bytes(COUNTER_BYTES, "little") + bytes(13))
    return aes.decrypted(enc, secret, iv=iv)


def session_keys(file_key: bytes, uid: bytes, counter: int) -> tuple[bytes, bytes]:
    """KSesSDMFileReadENC and KSesSDMFileReadMAC."""
    tail = uid + counter.to_bytes(COUNTER_BYTES, "little")
    enc, mac = (bytes.fromhex(label) + tail for label in ("C33C00010080", "3CC300010080"))
    return aes.cmac(file_key, _filled(enc)), aes.cmac(file_key, _filled(mac))


def _filled(message: bytes) -> bytes:
    return message + bytes(-len(message) % aes.BLOCK)


def _values(url: str) -> Mapping[str, str]:
    try:
        return dict(parse_qsl(urlsplit(url).query))
    except ValueError:
        raise NotGenuine("the card's message is no URL") from None


def _octets(values: Mapping[str, str], name: str) -> bytes:
    try:
        return bytes.fromhex(values[name])
    except KeyError:
        raise NotGenuine(f"the message has no {name}") from None
    except ValueError:
        raise NotGenuine(f"the message's {name} is not hexadecimal") from None


def _covered(url: str, layout: Layout) -> bytes:
    """The URL's own text, not a text made anew from its values: the card signed what it shows."""
    if layout.mac_from is None:
        return b""
    name = f"&{layout.mac}="
    begin, end = url.find(f"{layout.mac_from}="), url.find(name)
    if begin < 0 or end < begin:
        raise NotGenuine("the message lacks what its MAC covers")
    covered = url[begin + len(layout.mac_from) + 1 : end] + (name if layout.with_name else "")
    return covered.encode("ascii", "replace")
