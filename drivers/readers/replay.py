"""A profile's vectors through the real codec: whole, byte by byte, and in bad company. For `roamkey profiles check`.

The tests ask the same and more, with company that is bad for each codec in its own way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from drivers.readers.decoders import Sighting, open_decoder
from drivers.readers.reader import Assurance, Card, Technology
from drivers.readers.rejects import Rejected

if TYPE_CHECKING:
    from firmware_profiles.profile import Accept, Profile

WHOLE_ANSWERS = frozenset({"pcsc"})  # each chunk is one: in pieces, or with more around it, it is none
NOISE = b"\xff\x00\xff"
NOISE_OF = {  # whole events, whole lines: what is half ends with what follows it
    "hid_keys": bytes.fromhex("0200000001000000") * 2,
    "simulated": b"\n?\n",
    "twn4_simple": b"\xff\x00\xff\r",
    "wiegand_lines": b"?\r",
}


def faults(profile: Profile, *, in_clear: bool = False) -> Iterator[str]:
    """A sentence for each vector that the codec does not understand as the profile says.

    `in_clear` is for the integrator's own terminal, where a wrong byte order must be seen: vectors may
    be real cards, and so may what they are called.
    """
    noise = NOISE_OF.get(profile.driver, NOISE)
    for number, vector in enumerate(profile.vectors.accept, start=1):
        name = repr(vector.name) if in_clear else f"accept vector {number}"
        expected = [cards_of(vector)]
        if (heard := list(_heard(profile, vector.raw))) != expected:
            yield f"{name}: is read as {_told(heard, in_clear)}, the profile says {_told(expected, in_clear)}"
        elif profile.driver not in WHOLE_ANSWERS:
            if _sightings(profile, *(bytes([byte]) for byte in vector.raw)) != expected:
                yield f"{name}: is read whole, but not byte by byte"
            if _sightings(profile, noise + vector.raw + noise) != expected:
                yield f"{name}: is read alone, but not between noise"
    for number, rejected in enumerate(profile.vectors.reject, start=1):
        name = repr(rejected.name) if in_clear else f"reject vector {number}"
        heard = list(_heard(profile, rejected.raw))
        reasons = [each.reason.value for each in heard if isinstance(each, Rejected)]
        if any(not isinstance(each, Rejected) for each in heard):
            yield f"{name}: is to be rejected, but is read as {_told(heard, in_clear)}"
        elif reasons[:1] != [rejected.reason]:
            yield f"{name}: is rejected for {reasons[:1] or 'nothing'}, the profile says {rejected.reason!r}"
        elif _sightings(profile, *(bytes([byte]) for byte in rejected.raw)):
            yield f"{name}: is rejected whole, but read byte by byte"


def cards_of(vector: Accept) -> Sighting:
    return tuple(
        Card(uid=card.uid, technology=Technology(card.technology), assurance=Assurance(card.assurance))
        for card in vector.cards or ()
    )


def _heard(profile: Profile, *chunks: bytes) -> Iterator[Sighting | Rejected]:
    decoder = open_decoder(profile)
    for chunk in chunks:
        yield from decoder.feed(chunk)


def _sightings(profile: Profile, *chunks: bytes) -> list[Sighting]:
    return [each for each in _heard(profile, *chunks) if not isinstance(each, Rejected)]


def _told(heard: list[Sighting | Rejected] | list[Sighting], in_clear: bool) -> str:
    def card_told(card: Card) -> str:
        return f"{card.canonical if in_clear else card} {card.technology.value} {card.assurance.value}"

    if not heard:
        return "nothing"
    return ", then ".join(
        f"rejected ({each.reason.value})"
        if isinstance(each, Rejected)
        else " and ".join(map(card_told, each)) or "an empty field"
        for each in heard
    )
