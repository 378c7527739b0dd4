"""ISO 7816-4 commands to a card over any antenna, and the four ways in which that fails.

`Transceive` is the seam: a reader gives one a card and a presence, pn532.py over ISO-DEP (iso_dep.py), a PC/SC reader
as it is. Native DESFire commands are wrapped as 90 INS 00 00 Lc data 00 and answered with 91 and a status.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

Transceive = Callable[[bytes], bytes]
"""A command, to its answer with SW1 SW2. Raises CardTorn when the card is gone or mute; valid for one presence."""

OK, MORE = 0x00, 0xAF
AUTHENTICATION_ERROR, INTEGRITY_ERROR, NO_SUCH_KEY, ILLEGAL_COMMAND, NO_APPLICATION = 0xAE, 0x1E, 0x40, 0x1C, 0xA0
MORE_AT_MOST = 16  # a card that goes on for ever is no card
MEANING = {
    AUTHENTICATION_ERROR: "authentication error",
    INTEGRITY_ERROR: "integrity error",
    NO_SUCH_KEY: "no such key",
    ILLEGAL_COMMAND: "it does not know the command",
    NO_APPLICATION: "no such application",
    0x9D: "permission denied",
    0xBE: "outside of the file",
    0xDE: "the application is there already",
    0x7E: "wrong length",
    0xAD: "wait: too many failed authentications",
}


class CardError(Exception):
    """The card did not do what was asked. Never holds a UID or a key."""


class CardTorn(CardError):
    """The card left, or does not answer any more. To hold it there longer can help."""


class CardRefused(CardError):
    """The card said no. `status` is the byte after 91, or the whole word of an ISO command."""

    def __init__(self, what: str, status: int) -> None:
        super().__init__(f"the card refuses {what}: {MEANING.get(status, f'status {status:02X}')}")
        self.status = status


class NotGenuine(CardError):
    """The card could not prove that it has the key, or what it sent is not what a card with the key sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`status` is the byte after 91. The body may hold a UID."""

    status: int
    body: bytes = field(repr=False)


def native(transceive: Transceive, ins: int, body: bytes = b"") -> Answer:
    length = bytes([len(body)]) if body else b""
    raw = transceive(bytes([0x90, ins, 0x00, 0x00]) + length + body + b"\x00")
    if len(raw) < 2 or raw[-2] != 0x91:
        raise CardRefused(f"command {ins:02X}", int.from_bytes(raw[-2:], "big"))
    return Answer(status=raw[-1], body=raw[:-2])


def whole(transceive: Transceive, ins: int, body: bytes = b"") -> bytes:
    """The answer with all its parts; CardRefused unless the card says that it is well."""
    answer = native(transceive, ins, body)
    collected = answer.body
    for _ in range(MORE_AT_MOST):
        if answer.status != MORE:
            break
        answer = native(transceive, MORE)
        collected += answer.body
    if answer.status != OK:
        raise CardRefused(f"command {ins:02X}", answer.status)
    return collected


def iso(transceive: Transceive, command: bytes) -> bytes:
    """An ISO 7816-4 command as it is; CardRefused unless the answer ends with 9000."""
    raw = transceive(command)
    if raw[-2:] != b"\x90\x00":
        raise CardRefused(f"command {command[1]:02X}", int.from_bytes(raw[-2:], "big"))
    return raw[:-2]
