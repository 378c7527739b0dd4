"""Cards that exist in memory only, for the simulated PN532: what they answer when selected and when talked to.

Frames only. What a DESFire or an NTAG 424 says inside the blocks is in drivers/cards/virtual_*.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Protocol

PAGE_BYTES = 4
NTAG215_PAGES = 135
NTAG215_VERSION = bytes.fromhex("0004040201001103")
SENS_RES_OF_SIZE = {4: b"\x00\x04", 7: b"\x00\x44", 10: b"\x00\x84"}  # as the PN532 tells it, MSB first
RANDOM_ID = b"\x08"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """What the PN532 learns by anticollision and selection."""

    sens_res: bytes
    sel_res: int
    uid: bytes = field(repr=False)


class VirtualCard(Protocol):
    def select(self) -> Selected: ...

    def lose_field(self) -> None: ...

    def transceive(self, command: bytes) -> bytes | None:
        """The answer without CRC; None when the card stays mute."""


class Type2Card:
    """An NTAG215, or with another UID length any Type 2 tag. Reads; refuses to be written."""

    def __init__(self, uid: bytes) -> None:
        self._uid = uid
        self._pages = _identity_pages(uid) + bytes(PAGE_BYTES * NTAG215_PAGES - len(_identity_pages(uid)))

    def select(self) -> Selected:
        return Selected(sens_res=SENS_RES_OF_SIZE[len(self._uid)], sel_res=0x00, uid=self._uid)

    def lose_field(self) -> None:
        pass

    def transceive(self, command: bytes) -> bytes | None:
        match list(command):
            case [0x30, page] if page < NTAG215_PAGES:  # READ
                rolled = self._pages + self._pages[:16]  # a read over the end begins again at page 0
                return rolled[page * PAGE_BYTES : page * PAGE_BYTES + 16]
            case [0x60]:  # GET_VERSION
                return NTAG215_VERSION
            case _:
                return None


class ClassicCard:
    """A MIFARE Classic as far as a UID reader sees it; it would want to authenticate before anything else."""

    def __init__(self, uid: bytes) -> None:
        self._uid = uid

    def select(self) -> Selected:
        return Selected(sens_res=SENS_RES_OF_SIZE[len(self._uid)], sel_res=0x08, uid=self._uid)

    def lose_field(self) -> None:
        pass

    def transceive(self, command: bytes) -> bytes | None:
        return None


class Application(Protocol):
    """What is behind the blocks: commands in, answers out. `random_id`: it shows a new UID whenever the field drops."""

    uid: bytes
    random_id: bool
    HISTORICAL: bytes

    def apdu(self, command: bytes) -> bytes: ...

    def reset(self) -> None: ...


class IsoDepCard:
    """ISO 14443-4 from the card's side: ATS, blocks, chaining, repeats, waiting-time extensions.

    `extensions`: it asks for time so often before each answer. `piece_bytes`: how much it puts into one block.
    """

    def __init__(
        self,
        application: Application,
        *,
        extensions: int = 0,
        piece_bytes: int = 250,
        draw: Callable[[int], bytes] = token_bytes,
    ) -> None:
        self.application = application
        self.frames_until_gone: int | None = None  # then it is taken out of the field in mid-sentence
        self.frames_to_lose = 0  # the next ones are not heard
        self._extensions = extensions
        self._piece_bytes = piece_bytes
        self._draw = draw
        self.lose_field()

    def select(self) -> Selected:
        return Selected(sens_res=b"\x03\x44" if len(self._shown) == 7 else b"\x00\x04", sel_res=0x20, uid=self._shown)

    def lose_field(self) -> None:
        self.application.reset()
        self._shown = RANDOM_ID + self._draw(3) if self.application.random_id else self.application.uid
        self._is_active = False
        self._number = 1  # so that the first block toggles it to 0
        self._command = b""
        self._answer: list[bytes] = []
        self._owed = 0
        self._last = b""

    def transceive(self, command: bytes) -> bytes | None:
        if self.frames_until_gone is not None:
            if self.frames_until_gone <= 0:
                return None
            self.frames_until_gone -= 1
        if self.frames_to_lose > 0:
            self.frames_to_lose -= 1
            return None
        if command[:1] == b"\xe0" and not self._is_active:
            self._is_active = True
            return self._ats()
        if not self._is_active or not command:
            return None
        return self._block(command[0], command[1:])

    def _ats(self) -> bytes:
        ats = bytes([0x75, 0x77, 0x81, 0x02]) + self.application.HISTORICAL
        return bytes([len(ats) + 1]) + ats

    def _block(self, header: int, inside: bytes) -> bytes | None:
        match header & 0xE6:
            case 0x02:  # I-block
                self._number ^= 1
                self._command += inside
                if header & 0x10:
                    return self._said(bytes([0xA2 | header & 1]))
                whole, self._command = self._command, b""
                answer = self.application.apdu(whole)
                self._answer = [
                    answer[at : at + self._piece_bytes] for at in range(0, len(answer), self._piece_bytes)
                ] or [b""]
                self._owed = self._extensions
                return self._more_time() or self._next_piece()
            case 0xA2 if header & 0x10:  # R(NAK): say it again, or that it was not heard
                return self._last if header & 1 == self._number else bytes([0xA2 | self._number])
            case 0xA2:  # R(ACK): the next piece
                if header & 1 == self._number or not self._answer:
                    return self._last
                self._number ^= 1
                return self._next_piece()
            case 0xE2 if header == 0xF2:
                return self._more_time() or self._next_piece()
            case 0xC2:  # S(DESELECT)
                self._is_active = False
                return bytes([0xC2])
            case _:
                return None

    def _more_time(self) -> bytes | None:
        if self._owed <= 0:
            return None
        self._owed -= 1
        return self._said(b"\xf2\x01")

    def _next_piece(self) -> bytes:
        piece = self._answer.pop(0)
        return self._said(bytes([0x02 | (0x10 if self._answer else 0) | self._number]) + piece)

    def _said(self, block: bytes) -> bytes:
        self._last = block
        return block


class Phone:
    """Draws a new random ID each time the field drops, and has a wallet: a phone lent to a card reader."""

    HISTORICAL = b""
    random_id = True
    uid = b""
    wallets: tuple[bytes, ...] = (b"OSE.VAS.01",)

    def __init__(self, draw: Callable[[int], bytes] = token_bytes) -> None:
        self._card = IsoDepCard(self, draw=draw)

    def select(self) -> Selected:
        return self._card.select()

    def lose_field(self) -> None:
        self._card.lose_field()

    def transceive(self, command: bytes) -> bytes | None:
        return self._card.transceive(command)

    def apdu(self, command: bytes) -> bytes:
        is_known = command[1:4] == b"\xa4\x04\x00" and command[5 : 5 + command[4]] in self.wallets
        return b"\x90\x00" if is_known else b"\x6a\x82"

    def reset(self) -> None:
        pass


def _identity_pages(uid: bytes) -> bytes:
    """Pages 0 to 2 of a Type 2 tag: the UID with its check bytes in between (ISO 14443-3 BCC)."""
    if len(uid) != 7:
        return uid
    first, second = uid[:3], uid[3:]
    return first + bytes([_xor(b"\x88" + first)]) + second + bytes([_xor(second)])


def _xor(octets: bytes) -> int:
    check = 0
    for octet in octets:
        check ^= octet
    return check
