"""UIDs that a device tells as text or a number: from its writing to bytes and back. Pure, strict, and driven by data.

The forms are TextForm in firmware_profiles/profile.py. What a device throws away stays lost; decoders.py marks it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.readers.rejects import Reason, Rejected

if TYPE_CHECKING:
    from firmware_profiles.profile import TextForm

HEX_DIGITS = {
    "upper": frozenset("0123456789ABCDEF"),
    "lower": frozenset("0123456789abcdef"),
    "any": frozenset("0123456789ABCDEFabcdef"),
}
DECIMAL_DIGITS = frozenset("0123456789")


def read(raw: bytes, form: TextForm, lengths: tuple[int, ...]) -> bytes | Rejected | None:
    """The UID's bytes in the device's order; None where the device says that there is no card."""
    if form.encoding == "raw":
        return _unpadded(raw, form, lengths)
    try:
        text = raw.decode("utf-16-be" if form.encoding == "utf_16_be" else "ascii")
    except UnicodeDecodeError:
        return Rejected(reason=Reason.NOT_HEX)
    if form.padding == "nul":
        text, _, behind = text.partition("\0")
        if behind.strip("\0"):
            return Rejected(reason=Reason.CONTENT)  # something after the end: the remains of another text
    elif form.padding == "space":
        text = text.rstrip(" ")
    if not text:
        return None
    if not text.startswith(form.prefix):
        return Rejected(reason=Reason.FRAMING)
    return _from_digits(text.removeprefix(form.prefix), form, lengths)


def write(uid: bytes, form: TextForm, *, size: int | None = None) -> bytes:
    """As the device would write it, filled up to `size` bytes: for simulators and for tests of both directions."""
    if form.encoding == "raw":
        raw = uid
    else:
        digits = str(int.from_bytes(uid, "big")) if form.digits_are == "decimal" else _hex(uid, form)
        raw = (form.prefix + digits.rjust(form.digits or 0, "0")).encode(
            "utf-16-be" if form.encoding == "utf_16_be" else "ascii"
        )
    filling = b" " if form.padding == "space" else b"\0"
    return raw if size is None else raw.ljust(size, filling)


def _from_digits(text: str, form: TextForm, lengths: tuple[int, ...]) -> bytes | Rejected | None:
    if form.digits_are == "decimal":
        if not set(text) <= DECIMAL_DIGITS:
            return Rejected(reason=Reason.NOT_HEX)
        if form.digits is not None and len(text) != form.digits:
            return Rejected(reason=Reason.LENGTH)
        number = int(text) if len(text) <= 20 else 1 << 80
        if number >= 1 << 8 * lengths[0]:
            return Rejected(reason=Reason.LENGTH)
        return number.to_bytes(lengths[0], "big") if number else None
    if form.separator:
        pairs = text.split(form.separator)
        if any(len(pair) != 2 for pair in pairs):
            return Rejected(reason=Reason.FRAMING)
        text = "".join(pairs)
    if not set(text) <= HEX_DIGITS[form.case]:
        return Rejected(reason=Reason.NOT_HEX)
    if len(text) % 2 or (form.digits is not None and len(text) != form.digits):
        return Rejected(reason=Reason.LENGTH)
    return _unpadded(bytes.fromhex(text), form, lengths)


def _unpadded(uid: bytes, form: TextForm, lengths: tuple[int, ...]) -> bytes | Rejected | None:
    """The UID without the 00 bytes behind it. A UID that ends with 00 itself is as long as the shortest that fits."""
    if not any(uid):
        return None
    if form.padding == "zero_bytes" or (form.encoding == "raw" and form.padding == "nul"):
        bare = len(uid.rstrip(b"\0"))
        fitting = [length for length in lengths if bare <= length <= len(uid)]
        return uid[: min(fitting)] if fitting else Rejected(reason=Reason.LENGTH)
    return uid if len(uid) in lengths else Rejected(reason=Reason.LENGTH)


def _hex(uid: bytes, form: TextForm) -> str:
    text = uid.hex(form.separator) if form.separator else uid.hex()
    return text if form.case == "lower" else text.upper()
