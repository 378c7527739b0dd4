"""The process that examines one offer and ends: `python -P -m agent.cache.examiner`, started by examination.py.

It asks its parent for documents, tells its verdict, builds when it is told to, and ends when its parent does: each read
of its standard input ends then. It opens nothing of the parent's but parts and a new generation, which nobody uses yet.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from contextlib import suppress
from typing import BinaryIO

from agent.cache.examination import HEAD_BYTES, Build, Fetch, Question, build, frame, length, unframe
from agent.cache.generations import GenerationDamaged
from agent.cache.parts import PartLost
from sync.carriers import CarrierError
from sync.documents import Documents
from sync.verdicts import Verified

NICENESS = 10  # cards come first


class ParentGone(Exception):
    """Nobody waits for a verdict any more."""


class Pipe:
    """The examiner's end. As a carrier it is the parent's, one document at a time."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    def tell(self, thing: object) -> None:
        self._outgoing.write(frame(thing))
        self._outgoing.flush()

    def told(self) -> object:
        return unframe(self._read(length(self._read(HEAD_BYTES))))

    async def fetch(self, name: str, max_bytes: int) -> bytes | None:
        """Blocks: there is nothing else to do here meanwhile."""
        self.tell(Fetch(name=name, max_bytes=max_bytes))
        match self.told():
            case CarrierError() as error:
                raise error
            case bytes() as body:
                return body
            case _:
                return None

    def _read(self, count: int) -> bytes:
        body = self._incoming.read(count)
        if len(body) != count:
            raise ParentGone
        return body


def main() -> int:
    os.nice(NICENESS)
    # Standard output is the pipe: whatever else wants to print must not get into it.
    pipe = Pipe(sys.stdin.buffer, os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    with suppress(ParentGone, BrokenPipeError):
        try:
            examine(pipe)
        except (
            OSError,
            sqlite3.Error,
            GenerationDamaged,
            PartLost,
        ) as error:
            # This device's, and the parent's to tell.
            pipe.tell(error)
    return 0


def examine(pipe: Pipe) -> None:
    question = pipe.told()
    if not isinstance(question, Question):
        raise TypeError(f"a {type(question).__name__} is no question")
    case = question.case
    documents = Documents(fleet=case.fleet, root=case.root)
    verdict = asyncio.run(documents.verify(pipe, remembered=question.remembered, now=question.now, parts=case.parts))
    pipe.tell(verdict)
    if isinstance(verdict, Verified) and isinstance(pipe.told(), Build):
        pipe.tell(build(case, verdict))


if __name__ == "__main__":
    sys.exit(main())
