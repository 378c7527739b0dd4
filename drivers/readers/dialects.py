"""What a reader that is polled over a serial line is asked, and how its answers are understood. Pure.

Bytes on the line are stronglink_frames.py and twn4_messages.py, the conversation polled_serial.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from drivers.readers import stronglink_frames, twn4_messages
from drivers.readers.reader import Card
from drivers.readers.rejects import Rejected

if TYPE_CHECKING:
    from firmware_profiles.profile import Profile

Sighting = tuple[Card, ...]


class Codec(Protocol):
    """Answers as they come, whatever an answer is in this dialect."""

    def forget(self) -> None: ...

    def feed(self, chunk: bytes) -> list[Any]: ...


class Dialect(Protocol):
    poll: bytes
    version: bytes

    def codec(self) -> Codec: ...

    def encode(self, command: bytes) -> bytes: ...

    def is_answer(self, answer: Any, command: bytes) -> bool:
        """Whether it can be what this command is answered with; else it is late, or somebody else's."""

    def is_done(self, answer: Any) -> bool:
        """Whether a command for lamps or settings was carried out."""

    def version_text(self, answer: Any) -> str | None: ...

    def sighting(self, answer: Any) -> Sighting | Rejected: ...


def open_dialect(profile: Profile) -> Dialect:
    match profile.driver:
        case "stronglink":
            return StrongLink()
        case "twn4_simple" if profile.framing.mode is not None:
            return Twn4(mode=profile.framing.mode, crc=profile.framing.crc)
        case driver:
            raise ValueError(f"{profile.id}: driver {driver} is not polled over a serial line")


class StrongLink:
    poll = bytes([stronglink_frames.SELECT])
    version = bytes([stronglink_frames.FIRMWARE])

    def codec(self) -> Codec:
        return stronglink_frames.answers()

    def encode(self, command: bytes) -> bytes:
        return stronglink_frames.encode(command)

    def is_answer(self, answer: stronglink_frames.Answer, command: bytes) -> bool:
        return answer.command == command[0]

    def is_done(self, answer: stronglink_frames.Answer) -> bool:
        return answer.status == stronglink_frames.OK

    def version_text(self, answer: stronglink_frames.Answer) -> str | None:
        return _printable(answer.data) if self.is_done(answer) else None

    def sighting(self, answer: stronglink_frames.Answer) -> Sighting | Rejected:
        return stronglink_frames.sighting(answer)


class Twn4:
    poll = twn4_messages.SEARCH_TAG + bytes([twn4_messages.UID_MAX_BYTES])
    version = twn4_messages.GET_VERSION + bytes([twn4_messages.VERSION_MAX_BYTES])

    def __init__(self, *, mode: str, crc: bool) -> None:
        self._mode = mode
        self._crc = crc

    def codec(self) -> Codec:
        return twn4_messages.open_messages(self._mode, crc=self._crc)

    def encode(self, command: bytes) -> bytes:
        return twn4_messages.encode(command, mode=self._mode, crc=self._crc)

    def is_answer(self, answer: bytes, command: bytes) -> bool:
        # An answer does not say to what. An error is one byte, done is one byte, and both questions get more.
        wants_more = command in (self.poll, self.version)
        return answer[0] != twn4_messages.OK if len(answer) == 1 and wants_more else (len(answer) > 1) == wants_more

    def is_done(self, answer: bytes) -> bool:
        return answer == bytes([twn4_messages.OK])

    def version_text(self, answer: bytes) -> str | None:
        whole = len(answer) > 2 and answer[0] == twn4_messages.OK and len(answer) == 2 + answer[1]
        return _printable(answer[2:]) if whole else None

    def sighting(self, answer: bytes) -> Sighting | Rejected:
        return twn4_messages.sighting(answer)


def _printable(text: bytes) -> str | None:
    """What a device says of itself goes into logs and events: only what can be read, and not much of it."""
    shown = "".join(chr(byte) for byte in text if 0x20 <= byte < 0x7F).strip()
    return shown[:64] or None
