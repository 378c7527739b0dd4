"""Modbus/TCP as far as reading registers needs it: requests out, answers in. Pure and incremental.

Modbus Messaging on TCP/IP Implementation Guide V1.0b, 3.1.3 (header), Application Protocol V1.1b3, 6.3 and 6.4.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from drivers.readers.rejects import Reason, Rejected

READ_HOLDING, READ_INPUT = 0x03, 0x04
EXCEPTION = 0x80
_HEADER = struct.Struct(">HHHBB")  # transaction, protocol (0), bytes that follow, unit, function


@dataclass(frozen=True, slots=True, kw_only=True)
class Registers:
    """What was read. Belongs to the request with the same transaction."""

    transaction: int
    content: bytes = field(repr=False)


def request(*, transaction: int, unit: int, function: int, address: int, count: int) -> bytes:
    return _HEADER.pack(transaction, 0, 6, unit, function) + struct.pack(">HH", address, count)


def answer(*, transaction: int, unit: int, function: int, content: bytes) -> bytes:
    return _HEADER.pack(transaction, 0, 3 + len(content), unit, function) + bytes([len(content)]) + content


def refusal(*, transaction: int, unit: int, function: int, code: int) -> bytes:
    return _HEADER.pack(transaction, 0, 3, unit, function | EXCEPTION) + bytes([code])


class ModbusFrames:
    """Answers to one kind of question: this function, so many registers. Holds at most one frame.

    TCP loses nothing, but a gateway to a serial bus may let through what is on it: noise is skipped byte by byte.
    """

    def __init__(self, *, function: int, count: int) -> None:
        self._function = function
        self._size = 2 * count
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> list[Registers | Rejected]:
        self._buffer += chunk
        results: list[Registers | Rejected] = []
        while len(self._buffer) > _HEADER.size:
            result, used = self._first()
            if not used:
                break
            if result is not None:
                results.append(result)
            del self._buffer[:used]
        return results

    def _first(self) -> tuple[Registers | Rejected | None, int]:
        transaction, protocol, following, _unit, function = _HEADER.unpack_from(self._buffer)
        said = self._buffer[_HEADER.size]
        if protocol or function & ~EXCEPTION != self._function:
            return None, 1
        if function & EXCEPTION:
            return (Rejected(reason=Reason.CONTENT), _HEADER.size + 1) if following == 3 else (None, 1)
        if said != self._size or following != 3 + said:
            return Rejected(reason=Reason.LENGTH), 1
        size = _HEADER.size + 1 + said
        if len(self._buffer) < size:
            return None, 0
        return Registers(transaction=transaction, content=bytes(self._buffer[_HEADER.size + 1 : size])), size
