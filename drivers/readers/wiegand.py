"""Wiegand: a card's bits between two parity bits, as readers have sent them since 1980. Pure.

    26   E dddddddddddd dddddddddddd O         even parity over the first 12 data bits, odd over the last 12
    34   the same with 16 + 16
    37   even parity over the first 18 of 35 data bits, odd over the last 18: the middle one counts for both (H10302)

Every Wiegand number is lossy: 26 bits carry three bytes, and which three of a UID is the vendor's choice; 34 bits cut a
7-byte UID to four without a word. How converters write the bits is wiegand_lines.py.
"""

from __future__ import annotations

from drivers.readers.rejects import Reason, Rejected

HALF_OF_BITS = {26: 12, 34: 16, 37: 18}  # how many data bits each of the two parity bits covers


def data_of(bits: str) -> bytes | Rejected:
    """The data between the parity bits, with zeros in front up to whole bytes. `bits` is a text of 0 and 1."""
    half = HALF_OF_BITS.get(len(bits))
    if half is None:
        return Rejected(reason=Reason.LENGTH)
    if bits[: 1 + half].count("1") % 2 != 0 or bits[-1 - half :].count("1") % 2 != 1:
        return Rejected(reason=Reason.PARITY)
    return as_bytes(bits[1:-1])


def bits_of(data: bytes, size: int) -> str:
    """What a reader sends for this data: parity bits around the last size - 2 bits of it. For simulators and tests."""
    half = HALF_OF_BITS[size]
    number = int.from_bytes(data, "big") & ((1 << size - 2) - 1)
    inner = format(number, f"0{size - 2}b")
    even = inner[:half].count("1") % 2
    odd = 1 - inner[-half:].count("1") % 2
    return f"{even}{inner}{odd}"


def as_bytes(bits: str) -> bytes:
    return int(bits, 2).to_bytes((len(bits) + 7) // 8, "big")
