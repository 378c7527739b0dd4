"""Finds frames in a stream that may begin anywhere and lose bytes. Pure and incremental.

What a frame looks like is the caller's: it judges what begins at the front of some bytes. A frame that is whole and
sound is taken also where an unfinished one seems to begin before it: a broken frame never eats the good one after it.

Every byte that may begin a frame is judged when the bytes are there that it asked for, and at no other time: whatever
is sent, a byte costs two or three judgements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from drivers.readers.rejects import Reason, Rejected

T = TypeVar("T")


class Begin(Enum):
    NOTHING = "nothing"  # no frame begins here


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A frame may begin here; with so many bytes from here on more can be said. Always more than there were."""

    size: int


@dataclass(frozen=True, slots=True)
class Whole(Generic[T]):
    """A sound frame, of exactly the bytes that were shown."""

    value: T


Judge = Callable[[bytes], Whole[T] | Rejected | Unfinished | Begin]


class Resync(Generic[T]):
    """Feed bytes as they come, take frames and rejects as they are complete. Holds at most one longest frame."""

    def __init__(self, judge: Judge[T], *, may_begin: Callable[[int], bool], head_bytes: int) -> None:
        self._judge = judge
        self._may_begin = may_begin
        self._head_bytes = head_bytes  # what is needed to say anything at all
        self._held = bytearray()
        self._gone = 0  # bytes before _held; places are counted from the first byte ever
        self._starts: dict[int, None] = {}  # where frames may have begun, first one first
        self._due: dict[
            int, list[int]
        ] = {}  # by the place of the byte that is wanted: which of them can be judged then

    @property
    def pending(self) -> bool:
        return bool(self._held)

    def forget(self) -> None:
        """Drop a half-received frame, for example before the next question."""
        self._gone = 0
        self._held.clear()
        self._starts.clear()
        self._due.clear()

    def feed(self, chunk: bytes) -> list[T | Rejected]:
        results: list[T | Rejected] = []
        for byte in chunk:  # one by one: what is found does not depend on how the bytes were cut
            begins = self._may_begin(byte)
            if not begins and not self._held:
                continue
            if begins:
                start = self._gone + len(self._held)
                self._starts[start] = None
                self._due.setdefault(start + self._head_bytes, []).append(start)
            self._held.append(byte)
            for start in self._due.pop(self._gone + len(self._held), ()):
                if self._judged(start, results):
                    break
        return results

    def _judged(self, start: int, results: list[T | Rejected]) -> bool:
        """Whether a frame ended here; then nothing that began before or in it is one."""
        first = start == next(iter(self._starts))
        match self._judge(bytes(self._held[start - self._gone :])):
            case Whole(value=value):
                results += [value] if first else [Rejected(reason=Reason.TRUNCATED), value]
                self.forget()
                return True
            case Unfinished(size=size):
                self._due.setdefault(start + size, []).append(start)
            case Rejected() as rejected:
                self._dismiss(start)
                if first:  # others lie in a frame that may yet be sound, and are then no news
                    results.append(rejected)
            case Begin():
                self._dismiss(start)
        return False

    def _dismiss(self, start: int) -> None:
        """No frame began here; and let go of the bytes before the first place where one may still have."""
        del self._starts[start]
        if not self._starts:
            self.forget()
        elif start < (first := next(iter(self._starts))):
            del self._held[: first - self._gone]
            self._gone = first
