"""Somebody with the reader's wires in his hand, who can make sound frames: a program of its own, since what he attacks
is native code and would take us with it.

    python -m tests.readers.osdp_attack SEED SECONDS

Sixty sessions at a time, secured and in clear, between the library's two ends. At some point of each, replies are
changed (bits, bytes, sizes, codes, security blocks) and given a right CRC again.
"""

from __future__ import annotations

import random
import sys
import time

from drivers.readers.osdp_frames import CRC_BYTES, HEAD_BYTES, OsdpFrame, crc16, frames
from drivers.readers.osdp_library import Panel, Peripheral

KEY = bytes(range(1, 17))
SESSIONS = 60
CHANGED_REPLIES, TURNS = 2, 150  # of one session
BEYOND = 20  # replies; eight bring the secure channel up
REPLY_CODES = bytes.fromhex("404145464849 4A4B505153545758597678797A80828390B1")


def main(seed: int, seconds: float) -> None:
    dice = random.Random(seed)
    sessions = [Session(dice, secure=number % 2 == 0) for number in range(SESSIONS)]
    over = changed = stolen = 0
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        for number, session in enumerate(sessions):
            session.turn()
            if session.changed >= CHANGED_REPLIES or session.turns >= TURNS:
                over, changed, stolen = over + 1, changed + session.changed, stolen + session.stolen
                sessions[number] = Session(dice, secure=number % 2 == 0)
        time.sleep(0.004)
    print(f"{over} sessions, {changed} replies changed, {stolen} cards believed that nobody presented")  # noqa: T201


class Session:
    def __init__(self, dice: random.Random, *, secure: bool) -> None:
        key = KEY if secure else None
        self.turns = self.changed = self.stolen = 0
        self._dice, self._secure = dice, secure
        self._written: list[bytes] = []
        self._panel = Panel(address=0, key=key, write=self._written.append)
        self._reader = Peripheral(address=0, key=key)
        self._presented = {b"\x04presen"}
        self._replies, self._from = 0, dice.randrange(BEYOND)

    def turn(self) -> None:
        self.turns += 1
        self._panel.step()
        for question in self._written:
            self._reader.received(question)
        self._written.clear()
        if self._dice.random() < 0.05:
            self._reader.read(b"\x04presen", bits=56)
        self._reader.step()
        for said in self._reader.said:
            for frame in frames().feed(said):
                if isinstance(frame, OsdpFrame):
                    self._pass_on(frame.raw)
        self._reader.said.clear()
        if self._secure:
            self.stolen += sum(card.data not in self._presented for card in self._panel.cards)
        self._panel.cards.clear()

    def _pass_on(self, reply: bytes) -> None:
        self._replies += 1
        if self._replies < self._from or self._dice.random() < 0.2:
            self._panel.received(reply)
            return
        self.changed += 1
        for frame in frames().feed(with_crc(changed(reply, self._dice))):
            if isinstance(frame, OsdpFrame):
                self._panel.received(frame.raw)


def changed(reply: bytes, dice: random.Random) -> bytes:
    head, content = bytearray(reply[:HEAD_BYTES]), bytearray(reply[HEAD_BYTES:-CRC_BYTES])
    match dice.randrange(8):
        case 0:
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        case 1:
            del content[dice.randrange(1, len(content) + 1) :]
        case 2:
            content += dice.randbytes(dice.choice((1, 2, 4, 16, 60, 200, 400)))
        case 3:
            content[:] = dice.randbytes(dice.randrange(1, 60))
        case 4:
            head[4] ^= 1 << dice.randrange(8)
        case 5:
            head[4] |= 0x08
            content[:0] = bytes([dice.randrange(256), dice.randrange(0x11, 0x19)])
        case 6:
            content[0] = dice.choice(REPLY_CODES)
        case _:
            content[:] = bytes([dice.choice(REPLY_CODES)]) + dice.randbytes(dice.randrange(300))
    return bytes(head + content)


def with_crc(frame: bytes) -> bytes:
    size = (len(frame) + CRC_BYTES).to_bytes(2, "little")
    sized = frame[:2] + size + frame[4:]
    return sized + crc16(sized).to_bytes(CRC_BYTES, "little")


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
