"""Deliver an outbox to the backend: connect, agree where to resume, drain, believe only signed acknowledgements.

The procedure of one connection:
 1. connect (a new client object, clean start, last will)
 2. subscribe to down/ack and wait for SUBACK
 3. say hello with a fresh nonce; the signed answer tells what the backend holds
 4. publish batches within the window, from there on; exactly the ranges asked for when it asks
 5. on each signed, cumulative acknowledgement that fits our own chain, advance the outbox
PUBACK is not delivery. Nothing is ever deleted here: the outbox is a cursor, and a rogue broker can only delay.

What a record means is unknown here; the MQTT library is in `sync.link`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import random
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import assert_never

from sync import messages, signing
from sync.backoff import Backoff
from sync.batch import (
    Batch,
    BatchLimits,
    Codec,
    TooLarge,
    content_type,
    fits_a_line,
    make_batch,
)
from sync.link import (
    NO_MATCHING_SUBSCRIBERS,
    QUOTA_EXCEEDED,
    AnswerMissing,
    Dialect,
    Link,
    LinkError,
    LinkSettings,
    Message,
    Protocol,
    Will,
    open_link,
)
from sync.messages import Acknowledgement, BadMessage, Hello, Withheld, parse_acknowledgement
from sync.ports import (
    Acknowledged,
    Alarm,
    Connected,
    Disconnected,
    Head,
    Outbox,
    PolicyHint,
    Quarantined,
    Sealed,
    UplinkEvent,
)
from sync.retained import RetainedCarrier
from sync.topics import DEFAULT_ROOT, DeviceTopics, FleetTopics
from sync.window import Flight, Stride, Window

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkSettings:
    """One device's delivery. Every limit has its unit and its reason."""

    link: LinkSettings
    fleet: str
    device: str
    root: str = DEFAULT_ROOT
    codec: Codec = Codec.ZLIB
    batch: BatchLimits = field(default_factory=BatchLimits)
    # Public clouds end at 128 KiB without announcing it, and a 3.1.1 broker cannot announce anything.
    packet_bytes: int = 128 * 1024
    window_batches: int = 20
    window_bytes: int = 256 * 1024
    # Without progress for this long, what is under way is taken for lost and sent again.
    ack_timeout_s: float = 30.0
    # After so many in a row the connection itself is suspected.
    ack_timeouts_before_reconnect: int = 3
    # Waiting for the backend: hello is repeated with this back-off, for as long as it takes.
    hello_backoff: Backoff = field(default_factory=lambda: Backoff(base_s=5.0, cap_s=60.0))
    # The broker forbids or cannot take our topic: only people can help, so ask seldom.
    refused_pause_s: float = 60.0
    quota_pause_s: float = 1.0
    quota_pause_cap_s: float = 60.0
    # Even when idle, ask now and then: a backend restored from an old copy does not know what it lost.
    idle_hello_s: float = 600.0
    reconnect: Backoff = field(default_factory=Backoff)
    # A new record waits this long for company before it is sent.
    linger_s: float = 0.02
    will_delay_s: int = 30
    # How long a broker may take to serve a retained document before it counts as absent.
    retained_silence_s: float = 1.0
    same_alarm_s: float = 60.0


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


class Uplink:
    """Runs until cancelled; whatever the link does is told through `emit` and tried again."""

    def __init__(
        self,
        settings: UplinkSettings,
        outbox: Outbox,
        keys: Callable[[], Mapping[str, str]],
        emit: Callable[[UplinkEvent], None],
        *,
        describe: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        # The same bound twice: batches without the backend's word, and packets without PUBACK.
        in_flight = min(settings.link.in_flight, settings.window_batches)
        self._settings = replace(settings, link=replace(settings.link, in_flight=in_flight))
        self._outbox = outbox
        self._keys = keys
        self._emit = emit
        self._describe = describe
        self._fleet_topics = FleetTopics(fleet=settings.fleet, root=settings.root)
        self._topics = DeviceTopics(fleet=settings.fleet, root=settings.root, device=settings.device)
        self._carrier = RetainedCarrier(self._fleet_topics, silence_s=settings.retained_silence_s)
        self._stride = Stride(most_bytes=settings.batch.size_bytes, bytes_now=settings.batch.size_bytes)
        self._withheld: dict[tuple[str, int], Withheld] = {}
        self._quarantined: set[tuple[str, int]] = set()
        # Where the backend stood when it was last heard, over all connections.
        self._reached: tuple[str, int] = ("", 0)
        self._alarmed: dict[str, float] = {}
        self._policy_timestamp = ""
        self._conversation: _Conversation | None = None

    def carrier(self) -> RetainedCarrier:
        """Documents over this uplink's connection."""
        return self._carrier

    def refresh_status(self) -> None:
        """Publish the retained status again, with what `describe()` says now."""
        if self._conversation is not None:
            self._conversation.status_is_due = True
            self._conversation.inbox.put_nowait(_Changed())

    async def run(self) -> None:
        dialect = Dialect(wanted=self._settings.link.protocol)
        backoff = self._settings.reconnect
        while True:
            connected_at = None
            nonce = secrets.token_hex(8)
            will = Will(
                topic=self._topics.status,
                payload=messages.status(online=False, nonce=nonce),
                delay_s=self._settings.will_delay_s,
            )
            try:
                async with open_link(self._settings.link, protocol=dialect.next, will=will) as link:
                    connected_at = time.monotonic()
                    dialect = dialect.worked()
                    self._tell_connected(link)
                    await self._converse(link, nonce)
            except LinkError as error:
                dialect = dialect.failed(error)
                self._emit(Disconnected(reason=str(error)))
                log.info("uplink: %s", error)
            wait_s = backoff.wait_s(random.random)
            backoff = backoff.after(connected_s=0.0 if connected_at is None else time.monotonic() - connected_at)
            await asyncio.sleep(wait_s)

    async def _converse(self, link: Link, nonce: str) -> None:
        conversation = _Conversation(self, link, nonce)
        self._conversation = conversation
        self._carrier.attach(link)
        watch = asyncio.create_task(conversation.watch_outbox())
        listen = asyncio.create_task(conversation.listen())
        try:
            await conversation.run()
        except asyncio.CancelledError:
            await conversation.say_goodbye()
            raise
        finally:
            self._conversation = None
            self._carrier.detach()
            for task in (watch, listen):
                task.cancel()
            await asyncio.gather(watch, listen, return_exceptions=True)
            if conversation.ended_without_progress:
                self._stride = self._stride.shorter()

    def _tell_connected(self, link: Link) -> None:
        if not link.encrypted:
            log.warning("uplink: the connection to %s is not encrypted", self._settings.link.host)
        if link.protocol is not Protocol.MQTT_5:
            log.warning("uplink: broker speaks MQTT %s only: refusals stay invisible", link.protocol)
        self._emit(Connected(protocol=link.protocol.value, encrypted=link.encrypted))

    def _alarm(self, code: str, text: str, *, about: str = "") -> None:
        """The same alarm at most once in a while: a rogue broker must not be able to flood the log."""
        now, key = time.monotonic(), f"{code} {about}"
        if now - self._alarmed.get(key, float("-inf")) < self._settings.same_alarm_s:
            return
        self._alarmed[key] = now
        log.warning("uplink: %s: %s", code, text)
        self._emit(Alarm(code=code, text=text))


class _Conversation:
    """One connection's worth of delivery. One inbox, one owner: only `run` changes what is below."""

    def __init__(self, uplink: Uplink, link: Link, nonce: str) -> None:
        settings = uplink._settings
        self.inbox: asyncio.Queue[Message | _Puback | _Changed | LinkError] = asyncio.Queue()
        self.status_is_due = True
        self._uplink = uplink
        self._settings = settings
        self._outbox = uplink._outbox
        self._topics = uplink._topics
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
        self._pause_until = 0.0
        self._quota_pause_s = settings.quota_pause_s
        self._progress_at = 0.0
        self._timeouts = 0
        self._moved = False

    @property
    def ended_without_progress(self) -> bool:
        """Batches were under way and nothing came of them: the next ones should be shorter."""
        return not self._moved and not self._window.is_empty

    async def run(self) -> None:
        await self._link.subscribe([self._topics.ack, self._uplink._fleet_topics.policy_timestamp])
        while True:
            await self._act()
            for item in await self._next_items():
                await self._take(item)

    async def watch_outbox(self) -> None:
        while True:
            await self._outbox.changed()
            await asyncio.sleep(self._settings.linger_s)
            self.inbox.put_nowait(_Changed())

    async def listen(self) -> None:
        try:
            while True:
                self.inbox.put_nowait(await self._link.receive())
        except LinkError as error:
            self.inbox.put_nowait(error)

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
        if self.status_is_due:
            self.status_is_due = False
            await self._publish_status(online=True)
        if self._phase is Phase.DRAINING:
            self._judge_silence()
        while self._may_send() and await self._send_next():
            if not self.inbox.empty():
                break

    async def _next_items(self) -> list[Message | _Puback | _Changed | LinkError]:
        """What has arrived; empty when a timer is due first."""
        items = []
        if self.inbox.empty():
            # Work may be left when _act() stopped to look at the inbox; then there is an item already.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._next_due() - time.monotonic())):
                    items.append(await self.inbox.get())
        while not self.inbox.empty():
            items.append(self.inbox.get_nowait())
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

    async def _take(self, item: Message | _Puback | _Changed | LinkError) -> None:
        match item:
            case LinkError():
                raise item
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
                for (journal, sequence), record in self._uplink._withheld.items()
                if journal == head.journal
            },
        )
        # The next hello is due after the back-off, whatever becomes of this one.
        self._hello_due = time.monotonic() + self._hello_backoff.ceiling_s
        self._hello_backoff = self._hello_backoff.after(connected_s=0.0)
        self._on_puback(await self._link.publish(self._topics.hello, hello.to_bytes()))

    async def _publish_status(self, *, online: bool) -> None:
        payload = messages.status(online=online, nonce=self._nonce, details=self._uplink._describe())
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
            self._uplink._alarm(
                "fork",
                f"the backend holds other records around {ack.fork} of journal {ack.journal}: "
                "verify the journal; nothing more is sent until it is resolved",
            )
            self._stop_and_greet_later()
            return
        if ack.answers_hello:
            self._resume_after(max(ack.through, head.first - 1))
        elif ack.through < self._through:
            # The backend knows less than it did: it was restored from an older copy, or answers crossed.
            self._greet_again()
        self._move_to(ack.through)
        self._resend.extend(
            (max(first, head.first), min(last, self._sent))
            for first, last in ack.resend
            if last >= head.first and first <= self._sent
        )

    async def _believable(self, token: bytes) -> Acknowledgement | None:
        """The acknowledgement, if a service key signed it for this device, this journal and this connection."""
        try:
            claims = signing.verify(token, self._uplink._keys(), typ=messages.ACK_TYP)
            ack = parse_acknowledgement(claims)
        except (signing.SigningError, BadMessage) as error:
            self._uplink._alarm(
                "ack-refused", f"an acknowledgement is not from our backend, nothing is trimmed: {error}"
            )
            return None
        if (ack.fleet, ack.device) != (self._settings.fleet, self._settings.device):
            self._uplink._alarm(
                "ack-for-another", f"an acknowledgement is for {ack.fleet}/{ack.device}, nothing is trimmed"
            )
            return None
        if ack.journal != self._journal:
            self._uplink._alarm(
                "ack-wrong-journal", f"an acknowledgement is for journal {ack.journal}, nothing is trimmed"
            )
            return None
        if ack.nonce != self._nonce:
            # Genuine, but an answer to an earlier connection: a replay, or a backend that missed our hello.
            self._greet_again()
            return None
        return ack

    async def _fits_our_chain(self, ack: Acknowledgement, head: Head) -> bool:
        if ack.journal != head.journal:
            return False
        if ack.through > head.last:
            self._uplink._alarm(
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
            self._uplink._alarm(
                "fork",
                f"record {ack.through} of journal {ack.journal} differs between this device and the backend: "
                "one of them was changed; nothing is trimmed or sent until it is resolved",
            )
            return False
        return True

    async def _advance_outbox(self, ack: Acknowledgement, head: Head) -> None:
        told = self._uplink._quarantined
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
            self._uplink._withheld.pop((ack.journal, sequence), None)
            self._uplink._emit(Quarantined(journal=ack.journal, sequence=sequence, reason=reason))
        if ack.through > head.acknowledged:
            self._uplink._emit(Acknowledged(journal=ack.journal, through=ack.through))

    def _resume_after(self, through: int) -> None:
        self._phase = Phase.DRAINING
        self._hello_backoff = self._settings.hello_backoff
        self._hello_due = time.monotonic()
        journal, reached = self._uplink._reached
        if journal == self._journal and through > reached:
            # What we learn only now still arrived: steps of that length are fine.
            self._uplink._stride = self._uplink._stride.longer()
        self._uplink._reached = (self._journal, through)
        self._through = through
        self._timeouts = 0
        self._rewind()

    def _move_to(self, through: int) -> None:
        if through <= self._through:
            return
        self._through = through
        self._sent = max(self._sent, through)
        self._uplink._reached = (self._journal, through)
        self._window = self._window.arrived(through).widened(self._most_batches)
        self._progress_at = time.monotonic()
        self._timeouts = 0
        self._moved = True
        self._quota_pause_s = self._settings.quota_pause_s
        self._uplink._stride = self._uplink._stride.longer()

    def _rewind(self) -> None:
        """Everything after the last acknowledged record is sent again."""
        self._sent = self._through
        self._resend.clear()
        self._ready = None
        self._window = self._window.cleared()
        self._progress_at = time.monotonic()

    def _greet_again(self) -> None:
        """Ask where to resume; at once the first time, then with back-off."""
        if self._phase is Phase.DRAINING:
            self._phase = Phase.GREETING
            self._rewind()
            self._hello_due = max(time.monotonic(), self._hello_due + self._hello_backoff.base_s)

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
            self.inbox.put_nowait(_Puback(code=puback.result()[0]))

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
            page = await self._outbox.read(after, records=most, size_bytes=self._uplink._stride.bytes_now)
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
            if (self._journal, record.sequence) in self._uplink._withheld:
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
        self._uplink._withheld[self._journal, record.sequence] = Withheld(
            hash=hashlib.sha256(record.body).hexdigest(), reason=f"withheld by the device: {why}"
        )
        text = f"record {record.sequence} of journal {self._journal} cannot be sent: {why}"
        self._uplink._alarm(code, text, about=str(record.sequence))
        # Only a hello carries it; the records around it need not wait for the back-off.
        self._phase = Phase.GREETING
        self._hello_due = 0.0

    def _on_puback(self, code: int) -> None:
        """PUBACK frees the window of the link, nothing more; only its refusals mean something."""
        if code == NO_MATCHING_SUBSCRIBERS:
            self._uplink._alarm(
                "no-receiver", "the broker has no receiver for our records: they stay here until one is back"
            )
            self._stop_and_greet_later()
        elif code == QUOTA_EXCEEDED and time.monotonic() >= self._pause_until:
            self._uplink._alarm("quota-exceeded", "the broker asks us to slow down")
            self._rewind()
            self._window = self._window.narrowed(1)
            self._pause_until = time.monotonic() + self._quota_pause_s
            self._quota_pause_s = min(self._quota_pause_s * 2, self._settings.quota_pause_cap_s)
        elif code >= 0x80 and code != QUOTA_EXCEEDED:
            self._uplink._alarm(
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
        self._uplink._carrier.offer(message)
        if message.topic == self._uplink._fleet_topics.policy_timestamp and message.payload:
            seen = hashlib.sha256(message.payload).hexdigest()
            if seen != self._uplink._policy_timestamp:
                self._uplink._policy_timestamp = seen
                self._uplink._emit(PolicyHint(timestamp=seen))
