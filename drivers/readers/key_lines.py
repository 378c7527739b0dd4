"""Lines that a keyboard-wedge reader types: key events in, texts out. Pure and incremental.

Taken by key code, not by character, so that the console's layout does not matter (linux/input-event-codes.h). Grabbing
the device is hid_keys.py, what a text means is text_forms.py.
"""

from __future__ import annotations

import struct

from drivers.readers.rejects import Reason, Rejected

# Type, code and value of struct input_event without its time stamp, whose size depends on the machine.
EVENT = struct.Struct("<HHi")
SYN, KEY = 0x00, 0x01
SYN_DROPPED = 0x03
PRESSED = 1
ENTER, KEYPAD_ENTER = 28, 96
SHIFTS = (42, 54)
DIGIT_OF = {
    **{code: str((code - 1) % 10) for code in range(2, 12)},
    **dict(zip((82, 79, 80, 81, 75, 76, 77, 71, 72, 73), "0123456789", strict=True)),  # keypad
    **dict(zip((30, 48, 46, 32, 18, 33), "ABCDEF", strict=True)),
}
CODE_OF = {character: code for code, character in reversed(DIGIT_OF.items()) if code < 71}
LINE_MAX = 24  # the longest number is 20 digits


class KeyLines:
    """Feed events as they come, take lines and rejects as Enter ends them. Holds at most one line."""

    def __init__(self) -> None:
        self._rest = b""
        self._line = ""
        self._fault: Reason | None = None

    @property
    def pending(self) -> bool:
        """Whether a line has begun and not ended."""
        return bool(self._line) or self._fault is not None

    def forget(self) -> None:
        """Drop a half-typed line, for example after a pause that no reader makes."""
        self._line, self._fault = "", None

    def feed(self, chunk: bytes) -> list[str | Rejected]:
        raw = self._rest + chunk
        whole = len(raw) - len(raw) % EVENT.size
        self._rest = raw[whole:]
        results: list[str | Rejected] = []
        for kind, code, value in EVENT.iter_unpack(raw[:whole]):
            if kind == SYN and code == SYN_DROPPED:  # the kernel lost events: what we have is not the whole line
                self._fault = Reason.TRUNCATED
            elif kind == KEY and value == PRESSED and (result := self._pressed(code)) is not None:
                results.append(result)
        return results

    def _pressed(self, code: int) -> str | Rejected | None:
        if code in (ENTER, KEYPAD_ENTER):
            line, fault = self._line, self._fault
            self.forget()
            if fault is not None:
                return Rejected(reason=fault)
            return line or None
        if code in SHIFTS:
            return None
        if (digit := DIGIT_OF.get(code)) is None:
            self._fault = self._fault or Reason.NOT_HEX
        elif len(self._line) >= LINE_MAX:
            self._fault = self._fault or Reason.LENGTH
        else:
            self._line += digit
        return None


def typed(text: str) -> bytes:
    """The events of this line as a reader types it: each key down and up, then Enter."""
    codes = [CODE_OF[character] for character in text.upper()] + [ENTER]
    return b"".join(EVENT.pack(KEY, code, value) for code in codes for value in (1, 0))
