"""What a reader tells of a card where it does not tell its UID: reversed, filled up, or only a part of it. Pure.

Every form is declared by the reader's profile; none is guessed. A form that keeps all bytes is undone at the tap and
looked up as a UID. A form that loses bytes cannot be undone: the fleet's office publishes its reference with the token
(`alias_forms` in policy.toml), and it counts only where it fits one card in the whole policy.
Texts (decimal, `:` between bytes, prefixes) are bytes again when they come here: drivers/readers/text_forms.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum

UID_SIZES = (4, 5, 7, 8, 10)
PADDED_SIZE = 8


class Form(StrEnum):
    """How a telling differs from the UID. Same words as in profiles and in drivers.readers.reader."""

    REVERSED = "reversed"
    PADDED_8 = "padded_8"  # 00 bytes behind it, up to eight
    FIRST_3 = "first_3"
    FIRST_4 = "first_4"
    FIRST_6 = "first_6"
    LAST_3 = "last_3"
    LAST_4 = "last_4"
    VERSION_BYTE = "version_byte"  # all but the first byte
    FIRST_3_REVERSED = "first_3_reversed"
    FIRST_4_REVERSED = "first_4_reversed"
    LAST_3_REVERSED = "last_3_reversed"


LOSING: dict[Form, Callable[[bytes], bytes]] = {
    Form.FIRST_3: lambda uid: uid[:3],
    Form.FIRST_4: lambda uid: uid[:4],
    Form.FIRST_6: lambda uid: uid[:6],
    Form.LAST_3: lambda uid: uid[-3:],
    Form.LAST_4: lambda uid: uid[-4:],
    Form.VERSION_BYTE: lambda uid: uid[1:],
    Form.FIRST_3_REVERSED: lambda uid: uid[:3][::-1],
    Form.FIRST_4_REVERSED: lambda uid: uid[:4][::-1],
    Form.LAST_3_REVERSED: lambda uid: uid[-3:][::-1],
}


def told_as(uid: bytes, form: Form) -> bytes:
    """What a reader of this form tells of this card."""
    match form:
        case Form.REVERSED:
            return uid[::-1]
        case Form.PADDED_8:
            return uid.ljust(PADDED_SIZE, b"\x00")
        case _:
            return LOSING[form](uid)


def whole_readings(told: bytes, forms: Iterable[Form]) -> tuple[bytes, ...]:
    """Every UID that was told without loss, as it stands first."""
    return tuple(dict.fromkeys([told, *_undone(told, frozenset(forms))]))


def published(uid: bytes, forms: Iterable[Form]) -> dict[Form, bytes]:
    """The parts of this UID by which it may be told, where one loses anything."""
    parts = {form: LOSING[form](uid) for form in forms if form in LOSING}
    return {form: part for form, part in parts.items() if len(part) < len(uid)}


def _undone(told: bytes, forms: frozenset[Form]) -> Iterator[bytes]:
    if Form.REVERSED in forms:
        yield told[::-1]
    if Form.PADDED_8 in forms and len(told) == PADDED_SIZE:
        bare = len(told.rstrip(b"\x00"))
        yield from (told[:size] for size in UID_SIZES if bare <= size < PADDED_SIZE)
