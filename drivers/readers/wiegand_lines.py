"""Lines of a converter between a Wiegand reader and a serial port: hexadecimal digits and CR. Pure and incremental.

    counted     SSnnnn...   SS is the number of bits, two digits for each 8 bits begun follow (Elatec TWN3 HID Prox
                            protocol: bits first, zeros behind; other converters put the zeros in front)
    data only   6, 8 or 9 digits: the data of 26, 34 or 37 bits, whose parity the converter has checked (Priority 1
                Design WIE232-A)

The bits are wiegand.py. Neither form has a check on the way from the converter to us but, in the counted one, the
parity; A and C, D and E differ in one bit on the line and pass it. Therefore `confirm_frames` of the profile.
"""

from __future__ import annotations

from drivers.readers.reader import Assurance, Card, Technology
from drivers.readers.rejects import Reason, Rejected
from drivers.readers.wiegand import HALF_OF_BITS, as_bytes, data_of

ENDS = b"\r\n"
HEX_DIGITS = frozenset(b"0123456789ABCDEF")
LINE_MAX_BYTES = 32  # two digits and 56 bits are 16
BITS_OF_DIGITS = {6: 24, 8: 32, 9: 35}


class WiegandLines:
    """Feed bytes as they come, take cards and rejects line by line. Holds at most one line."""

    def __init__(self, form: str, technology: str) -> None:
        self._form = form
        self._technology = Technology(technology)
        self._line = bytearray()
        self._overlong = False

    def feed(self, chunk: bytes) -> list[Card | Rejected]:
        results: list[Card | Rejected] = []
        for byte in chunk:
            if byte in ENDS:
                if self._line:
                    results.append(self._complete())
                self._line.clear()
                self._overlong = False
            elif len(self._line) < LINE_MAX_BYTES:
                self._line.append(byte)
            else:
                self._overlong = True
        return results

    def _complete(self) -> Card | Rejected:
        if self._overlong:
            return Rejected(reason=Reason.LENGTH)
        if not HEX_DIGITS.issuperset(self._line):
            return Rejected(reason=Reason.NOT_HEX)
        digits = self._line.decode("ascii")
        data = _plain(digits) if self._form == "data_only" else _counted(digits, left=self._form == "counted_left")
        if isinstance(data, Rejected):
            return data
        return Card(uid=data, technology=self._technology, assurance=Assurance.LOSSY)


def encode(bits: str, *, form: str) -> bytes:
    """The line that a converter prints for these bits. For simulators and tests."""
    if form == "data_only":
        return format(int(bits[1:-1], 2), f"0{-(-(len(bits) - 2) // 4)}X").encode("ascii") + b"\r"
    room = -(-len(bits) // 8) * 8
    filled = bits.ljust(room, "0") if form == "counted_left" else bits.rjust(room, "0")
    return f"{len(bits):02X}{as_bytes(filled).hex().upper()}\r".encode("ascii")


def _plain(digits: str) -> bytes | Rejected:
    size = BITS_OF_DIGITS.get(len(digits))
    if size is None:
        return Rejected(reason=Reason.LENGTH)
    if int(digits, 16) >> size:
        return Rejected(reason=Reason.CONTENT)
    return int(digits, 16).to_bytes((size + 7) // 8, "big")


def _counted(digits: str, *, left: bool) -> bytes | Rejected:
    size, written = int(digits[:2], 16), digits[2:]
    if len(digits) < 4 or size not in HALF_OF_BITS or len(written) != 2 * -(-size // 8):
        return Rejected(reason=Reason.LENGTH)
    bits = format(int(written, 16), f"0{4 * len(written)}b")
    bits, filling = (bits[:size], bits[size:]) if left else (bits[-size:], bits[:-size])
    return Rejected(reason=Reason.CONTENT) if "1" in filling else data_of(bits)
