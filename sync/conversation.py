"""One connection's worth of delivery: agree where to resume, drain, believe only signed acknowledgements.

The procedure:
 1. subscribe to down/ack and wait for SUBACK
 2. say hello with a fresh nonce; the signed answer tells what the backend holds
 3. publish batches within the window, from there on; exactly the ranges asked for when it asks
 4. on each signed, cumulative acknowledgement that fits our own chain, advance the outbox
PUBACK is not delivery. Nothing is ever deleted here: the outbox is a cursor, and a rogue broker can only delay.

Connecting and reconnecting is in `sync.uplink`; the MQTT library is in `sync.link`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import assert_never

from sync import messages, signing
from sync.alarms import Alarms
from sync.batch import Batch, TooLarge, content_type, fits_a_line, make_batch
from sync.link import (
    NO_MATCHING_SUBSCRIBERS,
    QUOTA_EXCEEDED,
    AnswerMissing,
    Link,
    LinkError,
    Message,
    Protocol,
)
from sync.messages import Acknowledgement, BadMessage, Hello, Withheld, parse_acknowledgement
from sync.ports import Acknowledged, Head, Outbox, PolicyHint, Quarantined, Sealed, UplinkEvent
from sync.retained import RetainedCarrier
from sync.settings import UplinkSettings
from sync.window import Flight, Stride, Window


@dataclass(slots=True, kw_only=True)
class Standing:
    """What one connection leaves to the next. Nothing here must survive a restart: hello tells it again."""

    stride: Stride
    # By journal and sequence: records that cannot travel, and those already told as quarantined.
    withheld: dict[tuple[str, int], Withheld] = field(default_factory=dict)
    quarantined: set[tuple[str, int]] = field(default_factory=set)
    # Where the backend stood when it was last heard.
    reached: tuple[str, int] = ("", 0)
    policy_timestamp: str = ""


class Phase(Enum):
    """GREETING: it is not agreed where to resume, nothing is sent. DRAINING: batches flow."""

    GREETING = auto()
    DRAINING = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Puback:
    """What became of a batch at the broker."""

    code: int


@dataclass(frozen=True, slots=True)
class _Changed:
    """The outbox has more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """The link, or the watch over the outbox, has ended by this error."""

    error: BaseException


_Item = Message | _Puback | _Changed | _Ended


class Conversation:
    """One connection's worth of delivery. One inbox, one owner: only `run` changes what is below."""

    def __init__(
        self,
        link: Link,
        nonce: str,
        *,
        settings: UplinkSettings,
        standing: Standing,
        outbox: Outbox,
        keys: Callable[[], Mapping[str, str]],
        emit: Callable[[UplinkEvent], None],
        alarms: Alarms,
        carrier: RetainedCarrier,
        describe: Callable[[], Mapping[str, object]],
    ) -> None:
        self._inbox: asyncio.Queue[_Item] = asyncio.Queue()
        self._status_is_due = True
        self._settings = settings
        self._standing = standing
        self._outbox = outbox
        self._keys = keys
        self._emit = emit
        self._alarms = alarms
        self._carrier = carrier
        self._describe = describe
        self._topics = settings.topics
        self._timestamp_topic = settings.fleet_topics.policy_timestamp
        self._link = link
        self._nonce = nonce
        self._phase = Phase.GREETING
        self._journal = ""
        # What the backend holds by its last word, and what we have published on this connection.
        self._through = 0
        self._sent = 0
        self._resend: deque[tuple[int, int]] = deque()
        self._ready: tuple[Batch, bool] | None = None
        self._most_batches = min(settings.window_batches, link.receive_maximum)
        self._window = Window(batches=self._most_batches, size_bytes=settings.window_bytes)
        self._packet_bytes = min(settings.packet_bytes, link.maximum_packet_size or settings.packet_bytes)
        self._hello_backoff = settings.hello_backoff
        self._hello_due = 0.0
        self._greeted_at = float("-inf")
        self._greeted: set[str] = set()
        self._pause_until = 0.0
        self._quota_pause_s = settings.quota_pause_s
        self._progress_at = 0.0
        self._timeouts = 0
        self._moved = False

    def refresh_status(self) -> None:
        self._status_is_due = True
        self._inbox.put_nowait(_Changed())

    def keys_changed(self) -> None:
        if self._phase is Phase.GREETING:
            self._hello_due = 0.0
            self._inbox.put_nowait(_Changed())

    def learn_from_its_end(self) -> None:
        """Batches were under way and nothing came of them: the next ones should be shorter."""
        if not self._moved and not self._window.is_empty:
            self._standing.stride = self._standing.stride.shorter()

    async def run(self) -> None:
        await self._link.subscribe([self._topics.ack, self._timestamp_topic])
        while True:
            await self._act()
            for item in await self._next_items():
                await self._take(item)

    async def watch_outbox(self) -> None:
        while True:
            await self._outbox.changed()
            await asyncio.sleep(self._settings.linger_s)
            self._inbox.put_nowait(_Changed())

    async def listen(self) -> None:
        """Ends with the link, by its LinkLost."""
        while True:
            self._inbox.put_nowait(await self._link.receive())

    def on_task_end(self, task: asyncio.Task[None]) -> None:
        """What ended a task beside us ends the conversation: neither may die unseen."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._inbox.put_nowait(_Ended(error=error))

    async def say_goodbye(self) -> None:
        """A clean end says so itself; the will is for the others."""
        with contextlib.suppress(LinkError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._publish_status(online=False)

    # Step by step

    async def _act(self) -> None:
        """Everything that can be done now without waiting for an answer."""
        if self._is_idle_for_long():
            self._greet_again()
        if self._phase is Phase.GREETING and time.monotonic() >= self._hello_due:
            await self._say_hello()
        if self._status_is_due:
            self._status_is_due = False
            await self._publish_status(online=True)
        if self._phase is Phase.DRAINING:
            self._judge_silence()
        while self._may_send() and await self._send_next():
            if not self._inbox.empty():
                break

    async def _next_items(self) -> list[_Item]:
        """What has arrived; empty when a timer is due first."""
        items: list[_Item] = []
        if self._inbox.empty():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._next_due() - time.monotonic())):
                    items.append(await self._inbox.get())
        while not self._inbox.empty():
            items.append(self._inbox.get_nowait())
        return items

    def _next_due(self) -> float:
        if self._phase is Phase.GREETING:
            return self._hello_due
        dues = [self._progress_at + self._settings.idle_hello_s]
        if self._waits_for_answers:
            dues.append(self._progress_at + self._settings.ack_timeout_s)
        if self._pause_until > time.monotonic():
            dues.append(self._pause_until)
        return min(dues)

    async def _take(self, item: _Item) -> None:
        match item:
            case _Ended(error=error):
                raise error
            case _Puback(code=code):
                self._on_puback(code)
            case _Changed():
                pass
            case Message(topic=self._topics.ack):
                self._link.acknowledge(item)
                await self._on_ack(item.payload)
            case Message():
                self._link.acknowledge(item)
                self._on_document(item)
            case _:
                assert_never(item)

    async def _say_hello(self) -> None:
        head = await self._outbox.head()
        if head.journal != self._journal:
            self._journal, self._through = head.journal, 0
        hello = Hello(
            nonce=self._nonce,
            journal=head.journal,
            first=head.first,
            last=head.last,
            hash=head.hash,
            withheld={
                sequence: record
                for (journal, sequence), record in self._standing.withheld.items()
                if journal == head.journal
            },
        )
        self._greeted.add(head.journal)
        # The next hello is due after the back-off, whatever becomes of this one.
        self._greeted_at = time.monotonic()
        self._hello_due = self._greeted_at + self._hello_backoff.ceiling_s
        self._hello_backoff = self._hello_backoff.after(connected_s=0.0)
        self._on_puback(await self._link.publish(self._topics.hello, hello.to_bytes()))

    async def _publish_status(self, *, online: bool) -> None:
        payload = messages.status(online=online, nonce=self._nonce, details=self._describe())
        await self._link.publish(self._topics.status, payload, retain=True)

    # Acknowledgements

    async def _on_ack(self, token: bytes) -> None:
        ack = await self._believable(token)
        if ack is None:
            return
        head = await self._outbox.head()
        if not await self._fits_our_chain(ack, head):
            self._stop_and_greet_later()
            return
        await self._advance_outbox(ack, head)
        if ack.fork is not None:
            self._alarms.tell(
                "fork",
                f"the backend holds other records around {ack.fork} of journal {ack.journal}: "
                "verify the journal; nothing more is sent until it is resolved",
            )
            self._stop_and_greet_later()
            return
        if self._phase is Phase.GREETING and ack.answers_hello:
            self._resume_after(max(ack.through, head.first - 1))
        elif self._phase is Phase.GREETING or ack.through < self._through:
            # The backend is back, or it knows less than it did (restored from an older copy, or answers crossed).
            self._greet_again()
        self._move_to(ack.through)
        self._resend.extend(
            (max(first, head.first), min(last, self._sent))
            for first, last in ack.resend
            if last >= head.first and first <= self._sent
        )

    async def _believable(self, token: bytes) -> Acknowledgement | None:
        """The acknowledgement, if a service key signed it for this device, this journal and this connection."""
        keys = self._keys()
        if not keys:
            self._alarms.tell(
                "no-service-keys", "no policy bundle names the backend's keys yet: no acknowledgement can be believed"
            )
            return None
        try:
            claims = signing.verify(token, keys, typ=messages.ACK_TYP)
            ack = parse_acknowledgement(claims)
        except (signing.SigningError, BadMessage) as error:
            self._alarms.tell("ack-refused", f"an acknowledgement is not from our backend, nothing is trimmed: {error}")
            return None
        if (ack.fleet, ack.device) != (self._settings.fleet, self._settings.device):
            self._alarms.tell(
                "ack-for-another", f"an acknowledgement is for {ack.fleet}/{ack.device}, nothing is trimmed"
            )
            return None
        if ack.nonce != self._nonce:
            # Genuine, but for an earlier connection: a replay, or a backend that missed our hello.
            if ack.journal == self._journal:
                self._greet_again()
            return None
        if ack.journal not in self._greeted:
            self._alarms.tell(
                "ack-wrong-journal", f"an acknowledgement is for journal {ack.journal}, nothing is trimmed"
            )
            return None
        if ack.journal != self._journal:
            return None
        return ack

    async def _fits_our_chain(self, ack: Acknowledgement, head: Head) -> bool:
        if ack.journal != head.journal:
            return False
        if ack.through > head.last:
            self._alarms.tell(
                "backend-ahead",
                f"the backend holds journal {ack.journal} up to {ack.through}, but it ends here at {head.last}: "
                "records were lost or an old copy was restored on this device; nothing is trimmed or sent",
            )
            return False
        ours = await self._outbox.hash_at(ack.through) if ack.through else None
        if ours is None:
            # Nothing to compare: nothing stored yet, or long acknowledged and pruned.
            return ack.through <= head.acknowledged
        if ack.hash != ours and (ack.hash or ack.through > head.acknowledged):
            self._alarms.tell(
                "fork",
                f"record {ack.through} of journal {ack.journal} differs between this device and the backend: "
                "one of them was changed; nothing is trimmed or sent until it is resolved",
            )
            return False
        return True

    async def _advance_outbox(self, ack: Acknowledgement, head: Head) -> None:
        told = self._standing.quarantined
        quarantined = {
            sequence: reason
            for sequence, reason in ack.quarantined.items()
            if sequence <= ack.through and (ack.journal, sequence) not in told
        }
        if ack.through <= head.acknowledged and not quarantined:
            return
        await self._outbox.acknowledge(journal=ack.journal, through=ack.through, quarantined=quarantined)
        for sequence, reason in sorted(quarantined.items()):
            told.add((ack.journal, sequence))
            self._standing.withheld.pop((ack.journal, sequence), None)
            self._emit(Quarantined(journal=ack.journal, sequence=sequence, reason=reason))
        if ack.through > head.acknowledged:
            self._emit(Acknowledged(journal=ack.journal, through=ack.through))

    def _resume_after(self, through: int) -> None:
        self._phase = Phase.DRAINING
        self._hello_backoff = self._settings.hello_backoff
        journal, reached = self._standing.reached
        if journal == self._journal and through > reached:
            # What we learn only now still arrived: steps of that length are fine.
            self._standing.stride = self._standing.stride.longer()
        self._standing.reached = (self._journal, through)
        self._through = through
        self._timeouts = 0
        self._rewind()

    def _move_to(self, through: int) -> None:
        if through <= self._through:
            return
        self._through = through
        self._sent = max(self._sent, through)
        self._standing.reached = (self._journal, through)
        self._window = self._window.arrived(through).widened(self._most_batches)
        self._progress_at = time.monotonic()
        self._timeouts = 0
        self._moved = True
        self._quota_pause_s = self._settings.quota_pause_s
        self._standing.stride = self._standing.stride.longer()

    def _rewind(self) -> None:
        """Everything after the last acknowledged record is sent again."""
        self._sent = self._through
        self._resend.clear()
        self._ready = None
        self._window = self._window.cleared()
        self._progress_at = time.monotonic()

    def _greet_again(self) -> None:
        """Ask where to resume: at once, but not oftener than the back-off's base."""
        soon = max(time.monotonic(), self._greeted_at + self._settings.hello_backoff.base_s)
        if self._phase is Phase.DRAINING:
            self._phase = Phase.GREETING
            self._rewind()
            self._hello_due = soon
        self._hello_due = min(self._hello_due, soon)

    def _stop_and_greet_later(self, pause_s: float | None = None) -> None:
        """Nothing is sent until the backend answers a later hello."""
        self._phase = Phase.GREETING
        self._rewind()
        wait_s = self._hello_backoff.ceiling_s if pause_s is None else pause_s
        self._hello_due = max(self._hello_due, time.monotonic() + wait_s)

    # Sending

    def _may_send(self) -> bool:
        return (
            self._phase is Phase.DRAINING
            and self._link.has_room
            and self._window.admits(0)
            and time.monotonic() >= self._pause_until
        )

    async def _send_next(self) -> bool:
        """Publish one more batch; False when there is nothing to send or no room for it."""
        if self._ready is None:
            self._ready = await self._prepare()
        if self._ready is None or not self._window.admits(len(self._ready[0].payload)):
            return False
        (batch, is_resend), self._ready = self._ready, None
        if self._window.is_empty:
            self._progress_at = time.monotonic()
        self._window = self._window.started(Flight(first=batch.first, last=batch.last, size_bytes=len(batch.payload)))
        if is_resend:
            _, last = self._resend.popleft()
            if batch.last < last:
                self._resend.appendleft((batch.last + 1, last))
        else:
            self._sent = batch.last
        puback = await self._link.send(
            self._records_topic, batch.payload, content_type=content_type(self._settings.codec)
        )
        puback.add_done_callback(self._hand_over)
        return True

    def _hand_over(self, puback: asyncio.Future[list[int]]) -> None:
        if not puback.cancelled():
            self._inbox.put_nowait(_Puback(code=puback.result()[0]))

    @property
    def _records_topic(self) -> str:
        # MQTT 5 names the codec in the content type; 3.1.1 has no place for it but the topic.
        if self._link.protocol is Protocol.MQTT_5:
            return self._topics.records
        return f"{self._topics.records}/{self._settings.codec}"

    async def _prepare(self) -> tuple[Batch, bool] | None:
        """The next batch and whether it was asked for again; records that cannot travel are withheld on the way."""
        if (await self._outbox.head()).journal != self._journal:
            # A new journal began (storage was lost or replaced): agree about that one.
            self._greet_again()
            return None
        limits = replace(self._settings.batch, packet_bytes=self._packet_bytes)
        while True:
            is_resend = bool(self._resend)
            after = self._resend[0][0] - 1 if is_resend else self._sent
            most = min(limits.records, self._resend[0][1] - after) if is_resend else limits.records
            page = await self._outbox.read(after, records=most, size_bytes=self._standing.stride.bytes_now)
            if is_resend and (not page or page[0].sequence > self._resend[0][1]):
                self._resend.popleft()
                continue
            if not page:
                return None
            travelling = self._travelling(page)
            if not travelling:
                self._skip(page[0].sequence, is_resend)
                continue
            made = make_batch(
                travelling,
                self._settings.codec,
                payload_bytes=limits.payload_bytes(self._records_topic),
            )
            if isinstance(made, Batch):
                return made, is_resend
            self._withhold_too_large(made)
            if self._phase is not Phase.DRAINING:
                return None

    def _travelling(self, page: list[Sealed]) -> list[Sealed]:
        """The page up to the first record that cannot travel."""
        travelling = []
        for record in page:
            if (self._journal, record.sequence) in self._standing.withheld:
                break
            if not fits_a_line(record.body):
                self._withhold(record, "not-a-line", "it contains a line feed or is empty")
                break
            travelling.append(record)
        return travelling

    def _skip(self, sequence: int, is_resend: bool) -> None:
        if not is_resend:
            self._sent = sequence
            return
        first, last = self._resend.popleft()
        if sequence < last:
            self._resend.appendleft((max(first, sequence) + 1, last))

    def _withhold_too_large(self, made: TooLarge) -> None:
        text = f"{made.payload_bytes} bytes packed, but a packet may have {self._packet_bytes}"
        self._withhold(made.record, "record-too-large", text)

    def _withhold(self, record: Sealed, code: str, why: str) -> None:
        """Keep one record here, tell the backend its hash, and go on with the others."""
        self._standing.withheld[self._journal, record.sequence] = Withheld(
            hash=hashlib.sha256(record.body).hexdigest(), reason=f"withheld by the device: {why}"
        )
        text = f"record {record.sequence} of journal {self._journal} cannot be sent: {why}"
        self._alarms.tell(code, text, about=str(record.sequence))
        # Only a hello carries it; the records around it need not wait for the back-off.
        self._phase = Phase.GREETING
        self._hello_due = 0.0

    def _on_puback(self, code: int) -> None:
        """PUBACK frees the window of the link, nothing more; only its refusals mean something."""
        if code == NO_MATCHING_SUBSCRIBERS:
            self._alarms.tell(
                "no-receiver", "the broker has no receiver for our records: they stay here until one is back"
            )
            self._stop_and_greet_later()
        elif code == QUOTA_EXCEEDED and time.monotonic() >= self._pause_until:
            self._alarms.tell("quota-exceeded", "the broker asks us to slow down")
            self._rewind()
            self._window = self._window.narrowed(1)
            self._pause_until = time.monotonic() + self._quota_pause_s
            self._quota_pause_s = min(self._quota_pause_s * 2, self._settings.quota_pause_cap_s)
        elif code >= 0x80 and code != QUOTA_EXCEEDED:
            self._alarms.tell(
                "refused-by-broker",
                f"the broker refuses our messages (reason 0x{code:02x}): check its access rules for "
                f"{self._settings.device}; the records stay here",
            )
            self._stop_and_greet_later(self._settings.refused_pause_s)

    @property
    def _waits_for_answers(self) -> bool:
        """By the backend, or by a broker that withholds so many PUBACKs that nothing can be sent."""
        return not self._window.is_empty or not self._link.has_room

    def _is_idle_for_long(self) -> bool:
        return (
            self._phase is Phase.DRAINING
            and not self._waits_for_answers
            and time.monotonic() >= self._progress_at + self._settings.idle_hello_s
        )

    def _judge_silence(self) -> None:
        waited_s = time.monotonic() - self._progress_at
        if not self._waits_for_answers or waited_s < self._settings.ack_timeout_s:
            return
        self._timeouts += 1
        if self._timeouts >= self._settings.ack_timeouts_before_reconnect:
            raise AnswerMissing(
                f"no acknowledgement by the backend in {self._timeouts} x {self._settings.ack_timeout_s:g} s"
            )
        self._rewind()

    def _on_document(self, message: Message) -> None:
        self._carrier.offer(message)
        if message.topic == self._timestamp_topic and message.payload:
            seen = hashlib.sha256(message.payload).hexdigest()
            if seen != self._standing.policy_timestamp:
                self._standing.policy_timestamp = seen
                self._emit(PolicyHint(timestamp=seen))
