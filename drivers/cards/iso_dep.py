"""ISO 14443-4 blocks over an antenna that carries frames: activation, chaining, repeats, waiting-time extensions. Pure.

Ours and not nfcpy's because a card says itself how long it may be waited for: there a hostile one gets five seconds a
block and extensions without end. What is said in the blocks is apdu.py's and above.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from drivers.cards.apdu import CardTorn, NotGenuine

Exchange = Callable[[bytes, float], bytes]
"""A frame without CRC, and the longest wait in seconds, to the card's frame. Raises CardTorn when nothing comes."""

RATS = bytes([0xE0, 0x80])  # we take frames of 256 bytes; card identifier 0, which need not be told again
FRAME_SIZES = (16, 24, 32, 40, 48, 64, 96, 128, 256)
FSCI_DEFAULT, FWI_DEFAULT = 2, 4
FWT_UNIT_S = 4096 / 13_560_000  # 256 * 16 carrier periods
WAIT_AT_LEAST_S = 0.01
WAIT_AT_MOST_S = 0.35  # DESFire asks for 0.08 s
TOGETHER_AT_MOST_S = 2.0  # a command with all its parts and extensions; who taps has gone by then
EXTENSIONS_AT_MOST = 16
REPEATS_AT_MOST = 2
OVERHEAD_BYTES = 3  # block header and CRC
ANSWER_AT_MOST_BYTES = 4096

I_BLOCK, R_ACK, R_NAK, S_WTX, S_DESELECT = 0x02, 0xA2, 0xB2, 0xF2, 0xC2
CHAINED = 0x10


class IsoDep:
    """One card in one presence. `transceive` is an apdu.Transceive."""

    def __init__(self, exchange: Exchange, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._exchange = exchange
        self._clock = clock
        self._number = 0
        self._wait_s = WAIT_AT_LEAST_S
        self._room = FRAME_SIZES[FSCI_DEFAULT] - OVERHEAD_BYTES

    def activate(self) -> bytes:
        """The card's historical bytes. NotGenuine when it does not speak ISO 14443-4 after all."""
        ats = self._exchange(RATS, WAIT_AT_MOST_S)
        if not ats or ats[0] != len(ats):
            raise NotGenuine("the card's answer to select has a wrong length")
        fsci, fwi, rest = FSCI_DEFAULT, FWI_DEFAULT, ats[1:]
        if rest:
            format_byte, rest = rest[0], rest[1:]
            fsci = format_byte & 0x0F
            present = [bool(format_byte & bit) for bit in (0x10, 0x20, 0x40)]
            if len(rest) < sum(present):
                raise NotGenuine("the card's answer to select ends too soon")
            if present[1]:
                fwi = rest[present[0]] >> 4
            rest = rest[sum(present) :]
        self._room = FRAME_SIZES[min(fsci, len(FRAME_SIZES) - 1)] - OVERHEAD_BYTES
        self._wait_s = min(WAIT_AT_MOST_S, max(WAIT_AT_LEAST_S, FWT_UNIT_S * (1 << min(fwi, 14))))
        return rest

    def transceive(self, command: bytes) -> bytes:
        until_s = self._clock() + TOGETHER_AT_MOST_S
        parts = [command[at : at + self._room] for at in range(0, len(command), self._room)] or [b""]
        for part in parts[:-1]:
            block = self._answered(bytes([I_BLOCK | CHAINED | self._number]) + part, until_s)
            if block[0] != R_ACK | self._number:
                raise NotGenuine("the card does not take a command in parts")
            self._number ^= 1
        block = self._answered(bytes([I_BLOCK | self._number]) + parts[-1], until_s)
        answer = b""
        while True:
            if block[0] & ~CHAINED != I_BLOCK | self._number:
                raise NotGenuine("the card answers out of turn")
            answer += block[1:]
            self._number ^= 1
            if not block[0] & CHAINED:
                return answer
            if len(answer) > ANSWER_AT_MOST_BYTES:
                raise NotGenuine("the card's answer does not end")
            block = self._answered(bytes([R_ACK | self._number]), until_s)

    def _answered(self, block: bytes, until_s: float) -> bytes:
        """The card's next I- or R-block. What was not understood is asked for again, a wish for time is granted."""
        sent, wait_s, extensions, repeats = block, self._wait_s, 0, 0
        while True:
            if self._clock() > until_s:
                raise CardTorn("the card takes too long")
            try:
                heard = self._exchange(sent, wait_s)
            except CardTorn:
                heard = b""
            wait_s = self._wait_s
            match list(heard[:2]):
                case [0xF2, extension]:
                    extensions += 1
                    if extensions > EXTENSIONS_AT_MOST:
                        raise CardTorn("the card asks for time again and again")
                    sent = bytes([S_WTX, extension & 0x3F])
                    wait_s = min(WAIT_AT_MOST_S, self._wait_s * max(1, extension & 0x3F))
                case []:
                    repeats += 1
                    if repeats > REPEATS_AT_MOST:
                        raise CardTorn("the card does not answer any more")
                    sent = bytes([R_NAK | self._number])
                case [header, *_] if header == R_ACK | (self._number ^ 1) and repeats:
                    repeats += 1  # it never heard our block (ISO 14443-4, 7.5.5.2)
                    if repeats > REPEATS_AT_MOST + 1:
                        raise CardTorn("the card does not hear us")
                    sent = block
                case _:
                    return heard
