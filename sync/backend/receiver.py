"""The reference receiver: take batches from the broker, store them, and sign what is durable.

Acknowledgements leave only after the commit, and so does the PUBACK to the broker. They are cumulative, so that a
later one replaces an earlier one that never left. The store is in `sync.backend.store`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from sync import signing
from sync.backend.checkpoints import DeviceKeys, Word, word_of
from sync.backend.lending import Lending, LendingSettings
from sync.backend.records import Unreadable, read_record
from sync.backend.store import Delivery, Store, StreamState
from sync.backoff import Backoff
from sync.batch import BadBatch, Codec, codec_of, understood, unpack
from sync.link import Dialect, Link, LinkError, LinkSettings, Message, open_link
from sync.messages import ACK_TYP, Acknowledgement, BadMessage, Hello, parse_hello
from sync.repeats import Repeats
from sync.topics import DEFAULT_ROOT, FleetTopics

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# One transaction takes what has arrived meanwhile, up to this: an fsync is shared, latency stays small.
_MESSAGES_PER_COMMIT = 32
# While a backlog comes in, this much is waited for company: fewer transactions, each of which waits for the disk.
_LINGER_S = 0.008
# Of a payload that cannot be taken apart, this much is kept for a person to look at.
_KEPT_OF_JUNK_BYTES = 64 * 1024

# Named in the answer to a hello; plain and zlib go without saying.
_EXTRA_CODECS = tuple(codec.value for codec in understood() if codec not in (Codec.PLAIN, Codec.ZLIB))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverSettings:
    """One receiver of one fleet. `signing_key` is a PEM file: the service key that devices trust."""

    link: LinkSettings
    fleet: str
    database: Path
    signing_key: Path
    root: str = DEFAULT_ROOT
    # Folder of the devices' public keys, to notice records that somebody else wrote in a device's name.
    device_keys: Path | None = None
    # Which budgets are lent to the devices, if any.
    lending: LendingSettings | None = None
    reconnect: Backoff = field(default_factory=lambda: Backoff(cap_s=30.0))
    # The same gap is asked for again after this long at the earliest.
    resend_interval_s: float = 5.0


class Receiver:
    """Runs until cancelled. A broken store ends it with the error: nothing is acknowledged then."""

    def __init__(self, settings: ReceiverSettings, *, connected: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._connected = connected
        self._topics = FleetTopics(fleet=settings.fleet, root=settings.root)
        self._asked: dict[tuple[str, str], tuple[tuple[tuple[int, int], ...], float]] = {}
        self._device_keys = None if settings.device_keys is None else DeviceKeys(settings.device_keys)
        self._due: dict[tuple[str, str], Acknowledgement] = {}
        self._grants_due: dict[str, bytes] = {}
        self._lending: Lending | None = None
        self._is_due = asyncio.Event()

    async def run(self) -> None:
        self._key = signing.load(self._settings.signing_key.read_bytes())
        dialect = Dialect(wanted=self._settings.link.protocol)
        backoff = self._settings.reconnect
        repeats = Repeats()
        with closing(Store(self._settings.database)) as store, ExitStack() as after:
            if self._settings.lending is not None:
                self._lending = after.enter_context(closing(self._desk(self._settings.lending)))
            while True:
                connected_at = None
                try:
                    async with open_link(self._settings.link, protocol=dialect.next) as link:
                        connected_at = time.monotonic()
                        dialect = dialect.worked()
                        await self._serve(link, store)
                except LinkError as error:
                    dialect = dialect.failed(error)
                    if connected_at is not None and time.monotonic() - connected_at >= backoff.stable_s:
                        repeats.forget()
                    log.log(repeats.level(str(error), logging.WARNING), "receiver: %s", error)
                wait_s = backoff.wait_s(random.random)
                stood_s = 0.0 if connected_at is None else time.monotonic() - connected_at
                backoff = backoff.after(connected_s=stood_s)
                await asyncio.sleep(wait_s)

    async def _serve(self, link: Link, store: Store) -> None:
        await link.subscribe([self._topics.records, self._topics.hello])
        self._connected()
        # Devices that are connected learn where we stand, also when this is an older copy of the store.
        self._due = {}
        for state in store.states():
            self._answer(state, answers_hello=False)
        if self._lending is not None:
            self._grant(await _finished(self._lending.all))
        answering = asyncio.create_task(self._send_answers(link))
        busy = False
        try:
            while True:
                messages = [await link.receive()]
                if busy:
                    await asyncio.sleep(_LINGER_S)
                messages += link.receive_waiting(_MESSAGES_PER_COMMIT - 1)
                busy = len(messages) > 1
                await self._handle(messages, store)
                for message in messages:
                    link.acknowledge(message)
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)

    async def _handle(self, messages: Sequence[Message], store: Store) -> None:
        """In the order of arrival; neighbouring batches share one transaction."""
        deliveries: list[Delivery] = []
        for message in messages:
            match self._topics.sender(message.topic):
                case (device, "hello"):
                    await self._commit(deliveries, store)
                    deliveries = []
                    await self._greet(device, message.payload, store)
                case (device, rest) if rest.split("/")[0] == "records":
                    deliveries.append(self._read(device, message))
                case _:
                    log.warning("receiver: nothing is expected on topic %.200s", message.topic)
        await self._commit(deliveries, store)

    def _read(self, device: str, message: Message) -> Delivery:
        source = self._topics.device(device).source
        try:
            codec = codec_of(message.content_type, message.topic.rpartition("/")[2])
            lines = unpack(message.payload, codec)
        except BadBatch as error:
            log.warning("receiver: a batch of %s cannot be taken apart: %s", device, error)
            return Delivery(device=device, lines=(_junk(message.payload, str(error)),))
        self._judge_checkpoints(device, lines)
        return Delivery(device=device, lines=tuple(read_record(line, source) for line in lines))

    def _judge_checkpoints(self, device: str, lines: Sequence[bytes]) -> None:
        """A bad one is stored like any record, as it may be evidence; `audit` shows what no good one covers."""
        keys = None if self._device_keys is None else self._device_keys.of(device)
        if keys is not None and any(word_of(line, keys) is Word.BAD for line in lines):
            log.error("receiver: %s: a checkpoint came that its key has not signed: who writes in its name?", device)

    async def _commit(self, deliveries: Sequence[Delivery], store: Store) -> None:
        if not deliveries:
            return
        states = await _finished(store.take, deliveries)
        for state in states:
            if state.fork is not None:
                log.error(
                    "receiver: %s, journal %s: record %d does not continue what is stored; both are kept",
                    state.device,
                    state.journal,
                    state.fork,
                )
            self._answer(state, answers_hello=False)

        if self._lending is not None:
            self._grant(await _finished(self._lending.changed, [(each.device, each.journal) for each in states]))

    def _desk(self, settings: LendingSettings) -> Lending:
        keys = self._device_keys
        return Lending(
            settings,
            fleet=self._settings.fleet,
            records=self._settings.database,
            keys=(lambda device: None) if keys is None else keys.of,
        )

    def _grant(self, grants: Sequence[tuple[str, bytes]]) -> None:
        """Due as soon as the link has room; only the newest for each device is sent."""
        self._grants_due.update(grants)
        if grants:
            self._is_due.set()

    async def _greet(self, device: str, payload: bytes, store: Store) -> None:
        try:
            hellos: Sequence[Hello] = parse_hello(payload)
        except BadMessage as error:
            log.warning("receiver: a hello of %s cannot be read: %s", device, error)
            return
        for hello in hellos:
            state = await _finished(store.greet, device, hello)
            if state.through > hello.last:
                log.error(
                    "receiver: %s has lost records of journal %s: it ends there at %d, here at %d",
                    device,
                    hello.journal,
                    hello.last,
                    state.through,
                )
            self._answer(state, answers_hello=True)

    def _answer(self, state: StreamState, *, answers_hello: bool) -> None:
        """Due as soon as the link has room; only the newest for each journal is sent."""
        where = (state.device, state.journal)
        waiting = self._due.get(where)
        still_owed = waiting is not None and waiting.answers_hello and waiting.nonce == state.nonce
        answers_hello = answers_hello or still_owed
        unsent = waiting.resend if waiting is not None else ()
        self._due[where] = Acknowledgement(
            fleet=self._settings.fleet,
            device=state.device,
            journal=state.journal,
            nonce=state.nonce,
            through=state.through,
            hash=state.hash,
            answers_hello=answers_hello,
            # Who is told to resume after `through` sends the gap and all that follows anyway.
            resend=() if answers_hello else self._worth_asking(where, state.missing) or unsent,
            fork=state.fork,
            agreed=state.agreed if state.agreed is not None else waiting.agreed if still_owed and waiting else None,
            unpacks=_EXTRA_CODECS if answers_hello else (),
            quarantined=state.quarantined,
        )
        self._is_due.set()

    def _worth_asking(
        self, where: tuple[str, str], missing: tuple[tuple[int, int], ...]
    ) -> tuple[tuple[int, int], ...]:
        """The gaps not asked for lately; while one is being filled, what is left of it is no new gap."""
        now = time.monotonic()
        asked, at = self._asked.get(where, ((), 0.0))
        if now - at >= self._settings.resend_interval_s:
            asked, at = (), now
        new = tuple(
            (first, last) for first, last in missing if not any(low <= first and last <= high for low, high in asked)
        )
        if new:
            self._asked[where] = (asked + new, at)
        elif not missing:
            self._asked.pop(where, None)
        return new

    async def _send_answers(self, link: Link) -> None:
        """Ends with the link; what was not sent is told again after the device's next hello."""
        while link.is_up:
            await self._is_due.wait()
            self._is_due.clear()
            while self._grants_due and link.is_up:
                device = next(iter(self._grants_due))
                grant = self._grants_due[device]
                try:
                    await link.publish(self._topics.device(device).grant, grant, retain=True)
                except LinkError as error:
                    log.info("receiver: a grant to %s was not sent: %s", device, error)
                    return
                if self._grants_due.get(device) == grant:
                    del self._grants_due[device]
            while self._due:
                where = next(iter(self._due))
                answer = self._due.pop(where)
                try:
                    await self._send_answer(link, answer)
                except LinkError as error:
                    log.info("receiver: an answer to %s was not sent: %s", answer.device, error)
                    return

    async def _send_answer(self, link: Link, answer: Acknowledgement) -> None:
        token = signing.sign(answer.to_claims(issued_at_s=int(time.time())), self._key, typ=ACK_TYP)
        await link.send(self._topics.device(answer.device).ack, token.encode())


def _junk(payload: bytes, reason: str) -> Unreadable:
    kept = payload[:_KEPT_OF_JUNK_BYTES]
    return Unreadable(hash=hashlib.sha256(payload).hexdigest(), body=kept, reason=reason)


async def _finished(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The call's answer from a thread. A cancelled receiver waits for it: the store must not be closed under it."""
    work = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
