"""The simulated reader's own wire: one UID in hexadecimal a line. Pure and incremental."""

from __future__ import annotations

from drivers.readers.reader import Card, card_from_text
from drivers.readers.rejects import Reason, Rejected

LINE_MAX_BYTES = 64  # the longest UID with separators is 29 characters


class UidLines:
    """Feed bytes as they come, take cards and rejects line by line. Holds at most one line."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._overlong = False

    def feed(self, chunk: bytes) -> list[Card | Rejected]:
        results: list[Card | Rejected] = []
        for byte in chunk:
            if byte in b"\r\n":
                if (result := self._complete()) is not None:
                    results.append(result)
            elif len(self._line) < LINE_MAX_BYTES:
                self._line.append(byte)
            else:
                self._overlong = True
        return results

    def _complete(self) -> Card | Rejected | None:
        line, overlong = bytes(self._line), self._overlong
        self._line.clear()
        self._overlong = False
        if overlong:
            return Rejected(reason=Reason.LENGTH)
        if not line.strip():
            return None
        try:
            return card_from_text(line.decode("ascii"))
        except UnicodeDecodeError:
            return Rejected(reason=Reason.NOT_HEX)
        except ValueError as error:
            return Rejected(reason=Reason.NOT_HEX if "hexadecimal" in str(error) else Reason.LENGTH)
