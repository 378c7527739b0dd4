"""Examine what a carrier offers, and build the generation it makes: here, or in a process of its own.

What that takes (TUF, pydantic, a whole bundle in memory) is needed for seconds in a day. In a process of its own it is
given back to the machine afterwards, and no card waits for it. That process is agent/cache/examiner.py; what is in
force, and the switch, stay with the cache.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import pickle
import struct
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

from agent.cache.contents import Contents
from agent.cache.generations import Generation, Generations
from agent.cache.parts import PartStore
from agent.core.policy import Token
from sync import bundle
from sync.carriers import Carrier, CarrierError
from sync.ceilings import CeilingsUnfit, ceilings_of
from sync.trust_store import ROLES, Remembered
from sync.verdicts import Moment, Rejected, Verified

# Longer than the slowest carrier takes for one document and the slowest gateway for the largest bundle.
SILENCE_S = 900.0
_LENGTH = struct.Struct(">I")


class ExaminationFailed(Exception):
    """The process that examined is gone without a verdict: killed, or short of memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Whose cache it is: `folder` as PolicyCache has it, `root` as the operator gave it."""

    folder: Path
    fleet: str
    root: bytes
    key_check: str

    @property
    def parts(self) -> PartStore:
        return PartStore(self.folder / "parts")

    @property
    def generations(self) -> Generations:
        return Generations(self.folder / "generations", self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """Rightly signed, and still no bundle for this device."""

    code: str
    detail: str


class Examination(Protocol):
    """One offer, examined."""

    @property
    def verdict(self) -> Verified | Rejected: ...

    async def build(self) -> str | Unfit:
        """The name of the new generation, written beside the one in force. Once, and only of what is Verified."""
        ...


class Examine(Protocol):
    """`here` or `in_a_process`. Entering raises what this device's storage raises, and ExaminationFailed."""

    def __call__(
        self, case: Case, carrier: Carrier, remembered: Remembered | None, now: Moment
    ) -> AbstractAsyncContextManager[Examination]: ...


@asynccontextmanager
async def here(case: Case, carrier: Carrier, remembered: Remembered | None, now: Moment) -> AsyncIterator[Examination]:
    from sync.documents import Documents

    documents = Documents(fleet=case.fleet, root=case.root)
    verdict = await documents.verify(carrier, remembered=remembered, now=now, parts=case.parts)
    yield _Here(case=case, verdict=verdict)


@asynccontextmanager
async def in_a_process(
    case: Case, carrier: Carrier, remembered: Remembered | None, now: Moment
) -> AsyncIterator[Examination]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "agent.cache.examiner"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        there = _Process(process)
        await there.tell(Question(case=case, remembered=remembered, now=now))
        verdict = await there.answer(carrier)
        if not isinstance(verdict, Verified | Rejected):
            raise ExaminationFailed(f"the examiner answered with a {type(verdict).__name__}")
        yield _There(there=there, verdict=verdict)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def build(case: Case, verified: Verified) -> str | Unfit:
    """Parse, cross-check and write the new generation; blocks."""
    from agent.cache.documents import DocumentUnfit, read_contents, read_shard, shard_prefix

    parts, store = hashes(verified), case.parts
    documents = {name: sha256 for name, sha256 in parts.items() if not name.startswith("tokens/")}
    try:
        contents = read_contents({name: store.read(sha256) for name, sha256 in documents.items()})
        if contents.fleet != case.fleet:
            raise DocumentUnfit("policy.json", f"is for fleet {contents.fleet!r}", code="WrongFleet")
        _below_the_ceilings(contents, verified.trust.root.body)
        if contents.key_check != case.key_check:
            raise DocumentUnfit(
                "policy.json",
                f"its tokens are made with reference key {contents.key_check}, this device has {case.key_check}: "
                "give the device the fleet's token key",
                code="TokenKeyMismatch",
            )

        def shard(name: str) -> list[Token]:
            return read_shard(name, store.read(parts[name]), contents)

        names = [name for name in parts if name.startswith("tokens/")]
        for name in names:
            if shard_prefix(name) is None:
                raise DocumentUnfit(name, "is no token shard; they are tokens/00.json to tokens/ff.json")
        generation = Generation(contents=contents, parts=parts, trust=verified.trust)
        return case.generations.build(generation, {name: partial(shard, name) for name in names})
    except DocumentUnfit as error:
        return Unfit(code=error.code, detail=str(error))


def _below_the_ceilings(contents: Contents, root: bytes) -> None:
    from agent.cache.documents import DocumentUnfit

    try:
        most = ceilings_of(root).expired_after_hours
    except CeilingsUnfit as error:
        raise DocumentUnfit("root.json", f"{error}: update roamkey", code="CeilingUnknown") from error
    if most is not None and contents.expired_after > timedelta(hours=most):
        raise DocumentUnfit(
            "policy.json",
            f"expired_after_hours is above the ceiling of {most} that the root has signed",
            code="AboveCeiling",
        )


def hashes(verified: Verified) -> dict[str, str]:
    return {name: part.sha256 for name, part in verified.targets.items()}


async def is_the_same(
    case: Case, carrier: Carrier, remembered: Remembered, parts: Mapping[str, str], now: Moment
) -> bool:
    """Whether an examination would find what was verified before: the same timestamp, no newer root, nothing expired
    since, every part whole. In doubt it is examined. Raises CarrierError."""
    trust = remembered.trust
    if trust.bootstrap != hashlib.sha256(case.root).hexdigest() or trust.received_boot != now.boot:
        return False
    if now.is_absurd(trust.issued) or not _in_date(remembered, max(now.latest, trust.issued)):
        return False
    following = bundle.metadata("root", trust.root.version + 1)
    if await carrier.fetch(following, bundle.MAX_ROOT_BYTES) is not None:
        return False
    if await carrier.fetch(bundle.TIMESTAMP, bundle.MAX_TIMESTAMP_BYTES) != trust.timestamp.body:
        return False
    store = case.parts
    return await asyncio.to_thread(lambda: all(store.has(sha256) for sha256 in parts.values()))


async def nothing_is_offered(carrier: Carrier) -> bool:
    """No timestamp: a broker without documents. That needs no examination, every few minutes and for years."""
    try:
        return await carrier.fetch(bundle.TIMESTAMP, bundle.MAX_TIMESTAMP_BYTES) is None
    except CarrierError:
        return False  # the examination asks again, and says what is wrong


class Once:
    """A carrier that is asked for each document once: looking first and examining then cost one journey."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._fetched: dict[str, bytes | None] = {}

    async def fetch(self, name: str, max_bytes: int) -> bytes | None:
        if not name.startswith("metadata/"):
            return await self._carrier.fetch(name, max_bytes)
        if name not in self._fetched:
            self._fetched[name] = await self._carrier.fetch(name, max_bytes)
        return self._fetched[name]


def _in_date(remembered: Remembered, moment: datetime) -> bool:
    """The bytes were verified when they were remembered."""
    try:
        for name in ROLES:
            expires = json.loads(remembered.trust.role(name).body)["signed"]["expires"]
            if datetime.strptime(expires, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) <= moment:
                return False
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Here:
    case: Case
    verdict: Verified | Rejected

    async def build(self) -> str | Unfit:
        if not isinstance(self.verdict, Verified):
            raise TypeError("only what is verified can be built")
        return await asyncio.to_thread(build, self.case, self.verdict)


# What goes between the two processes


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is on offer for this cache?"""

    case: Case
    remembered: Remembered | None
    now: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """The examiner wants a document; the answer is bytes, None, or the carrier's error."""

    name: str
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Build:
    """Go on and build."""


def frame(thing: object) -> bytes:
    body = pickle.dumps(thing)
    return _LENGTH.pack(len(body)) + body


def unframe(body: bytes) -> object:
    # Both ends are this program, and nobody else holds the pipe.
    return pickle.loads(body)  # noqa: S301


def length(head: bytes) -> int:
    size: int = _LENGTH.unpack(head)[0]
    return size


HEAD_BYTES = _LENGTH.size


@dataclass(frozen=True, slots=True)
class _Process:
    """Our end of the pipe."""

    process: asyncio.subprocess.Process

    async def tell(self, thing: object) -> None:
        if self.process.stdin is None:
            raise TypeError("the pipe is not ours")
        try:
            self.process.stdin.write(frame(thing))
            await self.process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise await self._gone() from None

    async def answer(self, carrier: Carrier | None = None) -> object:
        """What it says in the end; documents that it asks for meanwhile are fetched."""
        while True:
            match await self._said():
                case Fetch(name=name, max_bytes=max_bytes) if carrier is not None:
                    await self.tell(await _fetched(carrier, name, max_bytes))
                case Exception() as error:
                    raise error
                case said:
                    return said

    async def _said(self) -> object:
        if self.process.stdout is None:
            raise TypeError("the pipe is not ours")
        try:
            async with asyncio.timeout(SILENCE_S):
                head = await self.process.stdout.readexactly(HEAD_BYTES)
                return unframe(await self.process.stdout.readexactly(length(head)))
        except asyncio.IncompleteReadError:
            raise await self._gone() from None
        except TimeoutError:
            raise ExaminationFailed(f"the examiner said nothing for {SILENCE_S:.0f} s") from None

    async def _gone(self) -> ExaminationFailed:
        return ExaminationFailed(f"the examiner ended with {await self.process.wait()}")


async def _fetched(carrier: Carrier, name: str, max_bytes: int) -> bytes | CarrierError | None:
    try:
        return await carrier.fetch(name, max_bytes)
    except CarrierError as error:
        return error


@dataclass(frozen=True, slots=True, kw_only=True)
class _There:
    there: _Process
    verdict: Verified | Rejected

    async def build(self) -> str | Unfit:
        await self.there.tell(Build())
        built = await self.there.answer()
        if not isinstance(built, str | Unfit):
            raise ExaminationFailed(f"the examiner answered with a {type(built).__name__}")
        return built
