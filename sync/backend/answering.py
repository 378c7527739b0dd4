"""The backend's answers to live questions: on a connection of their own, so that no backlog stands before them.

Who may charge is said by a rule that is handed in; the one that reads a file is at the end. A rule that does not know,
or takes too long, says nothing: the device then goes by its own policy, or refuses.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sync import signing
from sync.backoff import Backoff
from sync.link import Dialect, Link, LinkError, LinkSettings, Message, open_link
from sync.messages import BadMessage
from sync.questions import ANSWER_TYP, MAX_KEEP_S, VERDICTS, Answer, Question, digest_of, parse_question
from sync.repeats import Repeats
from sync.topics import DEFAULT_ROOT, FleetTopics

log = logging.getLogger(__name__)

# Questions that are thought about at once; one more waits for its turn, or for its deadline.
_MOST_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """`keep_s`: so long the device may remember the verdict for when it is offline."""

    verdict: str
    keep_s: int = 0


# The device's name and its question. None: nothing is said.
Rule = Callable[[str, Question], Awaitable[Ruling | None]]


class AnswersUnfit(Exception):
    """The file of answers cannot be used; the text says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswererSettings:
    """One answering backend of one fleet. `signing_key` is a PEM file whose public half may answer (use `answer`)."""

    link: LinkSettings
    fleet: str
    signing_key: Path
    root: str = DEFAULT_ROOT
    reconnect: Backoff = field(default_factory=lambda: Backoff(cap_s=30.0))


class Answerer:
    """Runs until cancelled."""

    def __init__(self, settings: AnswererSettings, rule: Rule, *, connected: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._rule = rule
        self._connected = connected
        self._topics = FleetTopics(fleet=settings.fleet, root=settings.root)
        self._turns = asyncio.Semaphore(_MOST_AT_ONCE)

    async def run(self) -> None:
        self._key = signing.load(self._settings.signing_key.read_bytes())
        dialect, backoff, repeats = Dialect(wanted=self._settings.link.protocol), self._settings.reconnect, Repeats()
        while True:
            connected_at = None
            try:
                async with open_link(self._settings.link, protocol=dialect.next) as link:
                    connected_at = time.monotonic()
                    dialect = dialect.worked()
                    await self._serve(link)
            except LinkError as error:
                dialect = dialect.failed(error)
                log.log(repeats.level(str(error), logging.WARNING), "answers: %s", error)
            stood_s = 0.0 if connected_at is None else time.monotonic() - connected_at
            wait_s = backoff.wait_s(random.random)
            backoff = backoff.after(connected_s=stood_s)
            await asyncio.sleep(wait_s)

    async def _serve(self, link: Link) -> None:
        await link.subscribe([self._topics.ask])
        self._connected()
        answering: set[asyncio.Task[None]] = set()
        try:
            while True:
                message = await link.receive()
                link.acknowledge(message)
                task = asyncio.create_task(self._answer(link, message))
                answering.add(task)
                task.add_done_callback(answering.discard)
        finally:
            for task in answering:
                task.cancel()
            await asyncio.gather(*answering, return_exceptions=True)

    async def _answer(self, link: Link, message: Message) -> None:
        match self._topics.sender(message.topic):
            case (device, "ask"):
                pass
            case _:
                return
        try:
            question = parse_question(message.payload)
            async with asyncio.timeout(question.deadline_ms / 1000), self._turns:
                ruling = await self._rule(device, question)
                if ruling is not None:
                    token = self._signed(device, question, digest_of(message.payload), ruling)
                    await link.send(self._topics.device(device).answer, token.encode())
        except BadMessage as error:
            log.warning("answers: a question of %s cannot be read: %s", device, error)
        except (TimeoutError, LinkError, AnswersUnfit) as error:
            log.warning("answers: %s is left without an answer: %s", device, error or "no time left")

    def _signed(self, device: str, question: Question, digest: str, ruling: Ruling) -> str:
        now = datetime.now(UTC)
        answer = Answer(
            fleet=self._settings.fleet,
            device=device,
            ask=question.ask,
            question=digest,
            verdict=ruling.verdict,
            answered_at=now,
            # Rounded up to whole seconds; the device's own deadline is what really bounds it.
            expires_at=now + timedelta(milliseconds=question.deadline_ms, seconds=1),
            keep_s=ruling.keep_s,
        )
        return signing.sign(answer.to_claims(), self._key, typ=ANSWER_TYP)


class AnswersFile:
    """A rule out of a small TOML file, read again when it changes: verdicts by token reference or by label.

    otherwise = "UNKNOWN"      # of tokens that are not named; without it nothing is said of them
    keep_hours = 24            # so long devices may remember ALLOWED, BLOCKED, EXPIRED and UNKNOWN; 0: not at all
    [tokens]
    "card 7" = "BLOCKED"
    """

    KEPT = ("ALLOWED", "BLOCKED", "EXPIRED", "UNKNOWN")  # credit and places change

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[tuple[int, int], Mapping[str, Any]] | None = None
        self._document()

    async def __call__(self, device: str, question: Question) -> Ruling | None:
        document = self._document()
        tokens = document.get("tokens", {})
        verdict = tokens.get(question.token) or tokens.get(question.label or "") or document.get("otherwise")
        if verdict is None:
            return None
        keep_s = int(document.get("keep_hours", 24) * 3600) if verdict in self.KEPT else 0
        return Ruling(verdict=verdict, keep_s=keep_s)

    def _document(self) -> Mapping[str, Any]:
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if self._read is None or self._read[0] != stamp:
                self._read = (stamp, self._checked(tomllib.loads(self._path.read_text(encoding="utf-8"))))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise AnswersUnfit(f"{self._path} cannot be used: {error}") from error
        return self._read[1]

    def _checked(self, document: dict[str, Any]) -> Mapping[str, Any]:
        unknown = sorted(document.keys() - {"otherwise", "keep_hours", "tokens"})
        tokens = document.get("tokens", {})
        keep = document.get("keep_hours", 24)
        if unknown:
            raise AnswersUnfit(f"{self._path}: {unknown[0]}: unknown key; known are otherwise, keep_hours, tokens")
        if not isinstance(tokens, dict):
            raise AnswersUnfit(f"{self._path}: tokens: write a table, [tokens]")
        if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 <= keep * 3600 <= MAX_KEEP_S:
            raise AnswersUnfit(f"{self._path}: keep_hours must be a number from 0 to {MAX_KEEP_S // 3600}")
        for name, verdict in [*tokens.items(), ("otherwise", document.get("otherwise", VERDICTS[0]))]:
            if verdict not in VERDICTS:
                raise AnswersUnfit(f"{self._path}: {name}: {verdict!r} must be one of {', '.join(VERDICTS)}")
        return document
