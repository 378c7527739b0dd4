"""A StrongLink module or an Elatec TWN4 on a pseudo-terminal, for tests and the demo: real bytes, no antenna."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self

from drivers.readers import stronglink_frames, twn4_messages
from drivers.readers.disturbances import Disturbance, disturbed
from drivers.readers.pseudo_terminal import OnATerminal, PseudoTerminal
from drivers.readers.rejects import Rejected

VERSION_STRONGLINK = b"SL025-1.3"
VERSION_TWN4 = b"TWN4/B1.50/NCF3.51/PRS1.04"
TWN4_FUNCTIONS_OF_ONE_BYTE_ANSWERS = {b"\4\0": 3, b"\4\2": 1, b"\4\3": 1, b"\4\5": 5, b"\4\7": 7, b"\5\2": 8}
UNKNOWN_FUNCTION, MISSING_PARAMETER, UNUSED_PARAMETERS, PARSER = 1, 2, 3, 5


class Device(Protocol):
    uids: tuple[bytes, ...]
    shown: list[bytes]

    def heard(self, chunk: bytes) -> list[bytes]:
        """The answers to the commands that ended in these bytes."""

    def other_answer(self) -> bytes: ...


class PolledSerialSimulator(OnATerminal):
    """It outlives whoever reads it: close, kill and open the other end as often as you like."""

    def __init__(self, device: Device, *, link: Path | None = None, baud: int = 9_600) -> None:
        self._line = _Line(device, baud)
        self._terminal = PseudoTerminal(self._line, link=link)

    @classmethod
    def stronglink(cls, *, link: Path | None = None) -> Self:
        return cls(StrongLinkModule(), link=link, baud=115_200)

    @classmethod
    def twn4(cls, *, link: Path | None = None, mode: str = "ascii", crc: bool = False) -> Self:
        return cls(Twn4Module(mode=mode, crc=crc), link=link)

    @property
    def shown(self) -> tuple[bytes, ...]:
        """Commands for lamps, buzzer and settings that were carried out so far."""
        return self._terminal.ask(lambda: tuple(self._line.device.shown))

    @property
    def polls(self) -> int:
        return self._terminal.ask(lambda: self._line.answered)

    def present(self, *uids: bytes) -> None:
        """Only these cards are in the field now. An ID of five bytes is an EM4102 tag's."""
        self._terminal.ask(lambda: setattr(self._line.device, "uids", uids))

    def remove(self) -> None:
        self.present()

    def disturb(self, disturbance: Disturbance, *, times: int | None = 1) -> None:
        """The next answers arrive so; times None: all, until calm()."""
        self._terminal.ask(lambda: self._line.disturb(disturbance, times))

    def calm(self) -> None:
        self._terminal.ask(lambda: self._line.disturb(None, None))


class StrongLinkModule:
    def __init__(self) -> None:
        self.uids: tuple[bytes, ...] = ()
        self.shown: list[bytes] = []
        self._frames = stronglink_frames.commands()

    def heard(self, chunk: bytes) -> list[bytes]:
        heard = [each for each in self._frames.feed(chunk) if not isinstance(each, Rejected)]
        return [stronglink_frames.encode(self._answer(each), start=stronglink_frames.FROM_READER) for each in heard]

    def other_answer(self) -> bytes:
        return stronglink_frames.encode(b"\x10\x04", start=stronglink_frames.FROM_READER)

    def _answer(self, command: bytes) -> bytes:
        match list(command):
            case [stronglink_frames.SELECT]:
                return command + self._selected()
            case [stronglink_frames.RED_LED, 0 | 1]:
                self.shown.append(command)
                return command[:1] + b"\0"
            case [stronglink_frames.FIRMWARE]:
                return command + b"\0" + VERSION_STRONGLINK
            case _:
                return command[:1] + b"\xf1"

    def _selected(self) -> bytes:
        match len(self.uids):
            case 0:
                return bytes([stronglink_frames.NO_TAG])
            case 1:
                # The type byte is deliberately one that means another card on the sister model.
                return bytes([stronglink_frames.OK]) + self.uids[0] + b"\x03"
            case _:
                return bytes([stronglink_frames.COLLISION])


class Twn4Module:
    def __init__(self, *, mode: str, crc: bool) -> None:
        self.uids: tuple[bytes, ...] = ()
        self.shown: list[bytes] = []
        self._mode, self._crc = mode, crc
        self._messages = twn4_messages.open_messages(mode, crc=crc)

    def heard(self, chunk: bytes) -> list[bytes]:
        answers = [
            bytes([PARSER]) if isinstance(each, Rejected) else self._answer(each) for each in self._messages.feed(chunk)
        ]
        return [twn4_messages.encode(each, mode=self._mode, crc=self._crc) for each in answers]

    def other_answer(self) -> bytes:
        return twn4_messages.encode(b"\0", mode=self._mode, crc=self._crc)

    def _answer(self, command: bytes) -> bytes:
        function, parameters = command[:2], command[2:]
        if function == twn4_messages.GET_VERSION and len(parameters) == 1:
            return bytes([0, len(VERSION_TWN4)]) + VERSION_TWN4
        if function == twn4_messages.SEARCH_TAG and len(parameters) == 1:
            return self._searched()
        wanted = TWN4_FUNCTIONS_OF_ONE_BYTE_ANSWERS.get(function)
        if wanted is None:
            return bytes([UNKNOWN_FUNCTION])
        if len(parameters) != wanted:
            return bytes([MISSING_PARAMETER if len(parameters) < wanted else UNUSED_PARAMETERS])
        self.shown.append(command)
        return b"\0"

    def _searched(self) -> bytes:
        if not self.uids:
            return b"\0\0"
        uid = self.uids[0]
        kind = twn4_messages.EM4102 if len(uid) == 5 else twn4_messages.MIFARE
        return bytes([0, 1, kind, 8 * len(uid), len(uid)]) + uid


class _Line:
    """The device as the far end of a terminal. It never speaks first. Lives in the terminal's thread."""

    def __init__(self, device: Device, baud: int) -> None:
        self.device = device
        self.answered = 0
        self._baud = baud
        self._coming: list[Disturbance] = []
        self._for_ever: Disturbance | None = None

    def disturb(self, disturbance: Disturbance | None, times: int | None) -> None:
        self._for_ever = disturbance if times is None else None
        self._coming = [] if disturbance is None or times is None else self._coming + [disturbance] * times

    def heard(self, chunk: bytes, *, baud: int) -> bytes:
        if baud != self._baud:
            return b""  # the wrong speed: only framing errors arrive
        answers = self.device.heard(chunk)
        self.answered += len(answers)
        return b"".join(map(self._on_its_way, answers))

    def due_s(self) -> float | None:
        return None

    def speak(self) -> bytes:
        return b""

    def _on_its_way(self, answer: bytes) -> bytes:
        now = self._for_ever or (self._coming.pop(0) if self._coming else None)
        return disturbed(answer, now, other=self.device.other_answer)
