"""Finds frames in a stream that may begin anywhere and lose bytes. Pure and incremental.

What a frame looks like is the caller's: it judges what begins at the front of some bytes. A frame that is whole and
sound is taken also where an unfinished one seems to begin before it: a broken frame never eats the good one after it.
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
    UNFINISHED = "unfinished"  # one may, but bytes are missing


@dataclass(frozen=True, slots=True)
class Whole(Generic[T]):
    """A sound frame of so many bytes."""

    value: T
    size: int


Judge = Callable[[bytes], Whole[T] | Rejected | Begin]


class Resync(Generic[T]):
    """Feed bytes as they come, take frames and rejects as they are complete. Holds at most one longest frame."""

    def __init__(self, judge: Judge[T], *, may_begin: Callable[[int], bool], max_bytes: int) -> None:
        self._judge = judge
        self._may_begin = may_begin
        self._max_bytes = max_bytes
        self._held = bytearray()

    @property
    def pending(self) -> bool:
        return bool(self._held)

    def forget(self) -> None:
        """Drop a half-received frame, for example before the next question."""
        self._held.clear()

    def feed(self, chunk: bytes) -> list[T | Rejected]:
        results: list[T | Rejected] = []
        for byte in chunk:  # one by one: what is found does not depend on how the bytes were cut
            if self._held or self._may_begin(byte):
                self._held.append(byte)
                self._settle(results)
        return results

    def _settle(self, results: list[T | Rejected]) -> None:
        while self._held:
            match self._judge(bytes(self._held)):
                case Whole() as whole:
                    results.append(whole.value)
                    del self._held[: whole.size]
                case Rejected() as rejected:
                    results.append(rejected)
                    self._skip(1)
                case Begin.NOTHING:
                    self._skip(1)
                case Begin.UNFINISHED:
                    if len(self._held) < self._max_bytes and not self._found_inside(results):
                        return
                    if len(self._held) >= self._max_bytes:
                        self._skip(1)

    def _found_inside(self, results: list[T | Rejected]) -> bool:
        for start in range(1, len(self._held)):
            if not self._may_begin(self._held[start]):
                continue
            whole = self._judge(bytes(self._held[start:]))
            if isinstance(whole, Whole):
                results += [Rejected(reason=Reason.TRUNCATED), whole.value]
                del self._held[: start + whole.size]
                return True
        return False

    def _skip(self, count: int) -> None:
        del self._held[:count]
        while self._held and not self._may_begin(self._held[0]):
            del self._held[0]
