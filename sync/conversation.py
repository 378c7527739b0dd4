"""One connection's worth of delivery: agree where to resume, drain, believe only signed acknowledgements.

The procedure:
 1. subscribe to down/ack and wait for SUBACK
 2. say hello with a fresh nonce; the signed answers tell what the backend holds of each journal
 3. publish batches within the window, from there on; exactly the ranges asked for when it asks. The journal that is
    written now goes first, then earlier ones that still lack something: each has a lane of its own (sync.lane)
 4. on each signed, cumulative acknowledgement that fits our own chain, advance the outbox
A journal that differs from the backend's is not sent; where the two parted is searched by telling hashes in a hello.
PUBACK is not delivery. Nothing is ever deleted here: the outbox is a cursor, and a rogue broker can only delay.

Connecting and reconnecting is in `sync.uplink`; the MQTT library is in `sync.link`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import assert_never

from sync import messages, signing
from sync.alarms import Alarms
from sync.batch import Batch, TooLarge, agreed, content_type, fits_a_line, make_batch
from sync.grants import GRANT_TYP, parse_grant
from sync.lane import Lane, Phase, Search
from sync.link import (
    NO_MATCHING_SUBSCRIBERS,
    QUOTA_EXCEEDED,
    AnswerMissing,
    Link,
    LinkError,
    Message,
    Protocol,
)
from sync.messages import Acknowledgement, BadMessage, Hello, Withheld, greeting, parse_acknowledgement
from sync.ports import (
    DELIVERY_ALARMS,
    Acknowledged,
    AnswerCame,
    Diverged,
    Granted,
    Head,
    Outbox,
    OutboxBusy,
    OverridesCame,
    PolicyHint,
    Quarantined,
    Sealed,
    UplinkEvent,
)
from sync.retained import RetainedCarrier
from sync.settings import UplinkSettings
from sync.window import Flight, Pace, Stride, Window


@dataclass(slots=True, kw_only=True)
class Standing:
    """What one connection leaves to the next. Nothing here must survive a restart: hello tells it again."""

    stride: Stride
    # By journal and sequence: records that cannot travel, and those already told as quarantined.
    withheld: dict[tuple[str, int], Withheld] = field(default_factory=dict)
    quarantined: set[tuple[str, int]] = field(default_factory=set)
    # Where the backend stood in each journal when it was last heard.
    reached: dict[str, int] = field(default_factory=dict)
    policy_timestamp: str = ""
    # Live questions may come: the backlog leaves a short queue before them.
    leaves_room: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Puback:
    """What became of a batch at the broker."""

    code: int
    size_bytes: int = 0
    took_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Changed:
    """The outbox has more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """The link, or the watch over the outbox, has ended by this error."""

    error: BaseException


_Item = Message | _Puback | _Changed | _Ended


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A batch that waits for room in the window."""

    batch: Batch
    is_resend: bool
    lane: Lane


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
        grant_keys: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._inbox: asyncio.Queue[_Item] = asyncio.Queue()
        self._status_is_due = True
        self._settings = settings
        self._standing = standing
        self._outbox = outbox
        self._keys = keys
        self._grant_keys = grant_keys
        self._unproven_grant = b""
        self._emit = emit
        self._alarms = alarms
        self._carrier = carrier
        self._describe = describe
        self._topics = settings.topics
        self._timestamp_topic = settings.fleet_topics.policy_timestamp
        self._link = link
        self._nonce = nonce
        # In the order in which they may send: the journal that is written now first.
        self._lanes: dict[str, Lane] = {}
        self._ready: _Ready | None = None
        self._codec = agreed(settings.codec, ())
        self._most_batches = min(settings.window_batches, link.receive_maximum)
        self._window = Window(batches=self._most_batches, size_bytes=settings.window_bytes)
        self._packet_bytes = min(settings.packet_bytes, link.maximum_packet_size or settings.packet_bytes)
        self._hello_backoff = settings.hello_backoff
        self._hello_due = 0.0
        self._greeted_at = float("-inf")
        self._greeted: set[str] = set()
        self._pause_until = 0.0
        # Bytes on their way to the broker, and how many may be.
        self._under_way = 0
        self._pace = Pace(most_bytes=settings.window_bytes)
        # Questions under way, and until when the backlog gives way to them.
        self._asking: set[asyncio.Task[None]] = set()
        self._questions_until = 0.0
        # An acknowledgement could not be noted: ask for it again then.
        self._ask_again_at = float("inf")
        self._quota_pause_s = settings.quota_pause_s
        self._progress_at = 0.0
        self._timeouts = 0
        self._moved = False

    def refresh_status(self) -> None:
        self._status_is_due = True
        self._inbox.put_nowait(_Changed())

    def keys_changed(self) -> None:
        self._on_grant(self._unproven_grant)
        if self._greets:
            self._hello_due = 0.0
            self._inbox.put_nowait(_Changed())

    def ask(self, question: bytes, *, within_s: float) -> None:
        """A live question: now, past everything that waits, and no batch starts until its time is over."""
        self._questions_until = time.monotonic() + within_s
        task = asyncio.create_task(self._send_question(question, within_s))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def answered(self) -> None:
        """Nobody waits for an answer any more: the backlog goes on."""
        self._questions_until = 0.0
        self._inbox.put_nowait(_Changed())

    async def _send_question(self, question: bytes, within_s: float) -> None:
        """Silence is an answer to whoever asked, so a link that fails tells nobody else."""
        with contextlib.suppress(LinkError, TimeoutError):
            async with asyncio.timeout(within_s):
                await self._link.send(self._topics.ask, question, expiry_s=max(1, math.ceil(within_s)))

    def learn_from_its_end(self) -> None:
        """Batches were under way and nothing came of them: the next ones should be shorter."""
        if not self._moved and not self._window.is_empty:
            self._standing.stride = self._standing.stride.shorter()

    async def run(self) -> None:
        topics = self._topics
        await self._link.subscribe([topics.ack, topics.answer, topics.grant, topics.override, self._timestamp_topic])
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
        if self._is_idle_for_long() or time.monotonic() >= self._ask_again_at:
            self._ask_again_at = float("inf")
            for lane in self._lanes.values():
                self._greet_again(lane)
        if self._greets and time.monotonic() >= self._hello_due:
            await self._say_hello()
        if self._status_is_due:
            self._status_is_due = False
            await self._publish_status(online=True)
        if self._drains:
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
        dues = [self._hello_due if self._greets else self._progress_at + self._settings.idle_hello_s]
        if self._drains and self._waits_for_answers:
            dues.append(self._progress_at + self._settings.ack_timeout_s)
        dues.append(self._ask_again_at)
        dues += [each for each in (self._pause_until, self._questions_until) if each > time.monotonic()]
        return min(dues)

    async def _take(self, item: _Item) -> None:
        match item:
            case _Ended(error=error):
                raise error
            case _Puback(code=code, size_bytes=size_bytes, took_s=took_s):
                self._under_way -= size_bytes
                if took_s is not None:
                    self._pace = self._pace.took(took_s)
                self._on_puback(code)
            case _Changed():
                pass
            case Message(topic=self._topics.ack):
                self._link.acknowledge(item)
                await self._on_ack(item.payload)
            case Message(topic=self._topics.answer):
                self._link.acknowledge(item)
                self._emit(AnswerCame(token=item.payload))
            case Message(topic=self._topics.override):
                self._link.acknowledge(item)
                self._emit(OverridesCame(payload=item.payload))
            case Message(topic=self._topics.grant):
                self._link.acknowledge(item)
                self._on_grant(item.payload)
            case Message():
                self._link.acknowledge(item)
                self._on_document(item)
            case _:
                assert_never(item)

    @property
    def _greets(self) -> bool:
        """Some journal waits to hear where to resume."""
        return not self._lanes or any(lane.phase is Phase.GREETING for lane in self._lanes.values())

    @property
    def _drains(self) -> bool:
        return any(lane.phase is Phase.DRAINING for lane in self._lanes.values())

    async def _say_hello(self) -> None:
        heads = await self._outbox.heads()
        self._follow(heads)
        hellos = [await self._hello_of(self._lanes[head.journal], head) for head in heads]
        self._greeted.update(self._lanes)
        # The next hello is due after the back-off, whatever becomes of this one.
        self._greeted_at = time.monotonic()
        self._hello_due = self._greeted_at + self._hello_backoff.ceiling_s
        self._hello_backoff = self._hello_backoff.after(connected_s=0.0)
        self._on_puback(await self._link.publish(self._topics.hello, greeting(hellos)))

    async def _hello_of(self, lane: Lane, head: Head) -> Hello:
        if lane.search is not None:
            wanted = lane.search.next_marks(head.first)
            hashes = {sequence: await self._outbox.hash_at(sequence, journal=head.journal) for sequence in wanted}
            lane.search.marks = {sequence: hash for sequence, hash in hashes.items() if hash is not None}
        return Hello(
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
            lost=head.lost,
            marks=lane.search.marks if lane.search is not None else {},
        )

    def _follow(self, heads: Sequence[Head]) -> bool:
        """A lane for each journal. Whether one is new: storage was lost or replaced, or an old journal salvaged."""
        before = self._lanes
        self._lanes = {head.journal: before.get(head.journal) or Lane(journal=head.journal) for head in heads}
        for journal in before.keys() - self._lanes.keys():
            self._forget_under_way(before[journal])
        return not self._lanes.keys() <= before.keys()

    async def _publish_status(self, *, online: bool) -> None:
        payload = messages.status(online=online, nonce=self._nonce, details=self._describe())
        await self._link.publish(self._topics.status, payload, retain=True)

    # Acknowledgements

    async def _on_ack(self, token: bytes) -> None:
        ack = await self._believable(token)
        if ack is None:
            return
        heads = await self._outbox.heads()
        head = next((head for head in heads if head.journal == ack.journal), None)
        lane = self._lanes.get(ack.journal)
        if head is None or lane is None:
            return
        if not await self._fits_our_chain(ack, head, is_present=head is heads[0]):
            self._block(lane)
            self._search_on(lane, ack, head, is_present=head is heads[0])
            return
        await self._advance_outbox(ack, head)
        if ack.fork is not None:
            self._alarms.tell(
                "fork",
                f"the backend holds other records around {ack.fork} of journal {ack.journal}: "
                "verify the journal; nothing more of it is sent until it is resolved",
            )
            self._block(lane)
            return
        lane.search = None
        if ack.answers_hello:
            self._codec = agreed(self._settings.codec, ack.unpacks)
        if lane.phase is Phase.GREETING and ack.answers_hello:
            self._resume_after(lane, max(ack.through, head.first - 1))
        elif lane.phase is Phase.GREETING or ack.through < lane.through:
            # The backend is back, or it knows less than it did (restored from an older copy, or answers crossed).
            self._greet_again(lane)
        self._move_to(lane, ack.through)
        lane.resend.extend(
            (max(first, head.first), min(last, lane.sent))
            for first, last in ack.resend
            if last >= head.first and first <= lane.sent
        )

    def _search_on(self, lane: Lane, ack: Acknowledgement, head: Head, *, is_present: bool) -> None:
        """One round of finding the last record in common; at its end the journal's owner is told."""
        if not is_present or not ack.answers_hello:
            return
        if lane.search is None:
            # Where the backend ends beyond our head nothing is known to differ: it may only have more.
            lane.search = Search(apart=ack.through if ack.through <= head.last else None, before=head.last + 1)
        elif ack.agreed is not None:
            lane.search.learn(ack.agreed)
        search = lane.search
        if not search.is_done and search.next_marks(head.first):
            self._hello_due = max(time.monotonic(), self._greeted_at + self._settings.hello_backoff.base_s)
            return
        lane.search = None
        if search.apart is None or search.agreed < search.apart:
            self._emit(Diverged(journal=lane.journal, agreed=search.agreed, backend_through=ack.through))

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
            lane = self._lanes.get(ack.journal)
            if lane is not None:
                self._greet_again(lane)
            return None
        if ack.journal not in self._greeted:
            self._alarms.tell(
                "ack-wrong-journal", f"an acknowledgement is for journal {ack.journal}, nothing is trimmed"
            )
            return None
        return ack

    def _on_grant(self, token: bytes) -> None:
        """Believed if a key that may grant signed it for this device. One from before we had that key is kept."""
        if not token:
            return
        self._unproven_grant = token
        keys = self._grant_keys()
        if not keys:
            return
        try:
            grant = parse_grant(signing.verify(token, keys, typ=GRANT_TYP))
        except (signing.SigningError, BadMessage) as error:
            self._alarms.tell("grant-refused", f"a grant is not from our backend, nothing is taken: {error}")
            return
        if (grant.fleet, grant.device) != (self._settings.fleet, self._settings.device):
            self._alarms.tell("grant-refused", f"a grant is for {grant.fleet}/{grant.device}, nothing is taken")
            return
        self._unproven_grant = b""
        self._emit(Granted(grant=grant))

    async def _fits_our_chain(self, ack: Acknowledgement, head: Head, *, is_present: bool) -> bool:
        if ack.through > head.last and not is_present:
            return True  # it came through before its tail became unreadable here
        if ack.through > head.last:
            self._alarms.tell(
                "backend-ahead",
                f"the backend holds journal {ack.journal} up to {ack.through}, but it ends here at {head.last}: "
                "records were lost or an old copy was restored on this device; nothing is trimmed or sent",
            )
            return False
        ours = await self._outbox.hash_at(ack.through, journal=head.journal) if ack.through else None
        if ours is None:
            # Nothing to compare: nothing stored yet, long acknowledged and pruned, or unreadable here.
            return ack.through <= head.acknowledged or not is_present
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
        try:
            await self._outbox.acknowledge(journal=ack.journal, through=ack.through, quarantined=quarantined)
        except OutboxBusy as error:
            # Nothing is lost: every hello is answered with the same again.
            self._ask_again_at = time.monotonic() + self._settings.hello_backoff.cap_s
            self._alarms.tell("acknowledgement-waits", f"what the backend has could not be noted here: {error}")
            return
        for sequence, reason in sorted(quarantined.items()):
            told.add((ack.journal, sequence))
            self._standing.withheld.pop((ack.journal, sequence), None)
            self._emit(Quarantined(journal=ack.journal, sequence=sequence, reason=reason))
        if ack.through > head.acknowledged:
            self._emit(Acknowledged(journal=ack.journal, through=ack.through))

    def _resume_after(self, lane: Lane, through: int) -> None:
        lane.phase = Phase.DRAINING
        for code in DELIVERY_ALARMS:
            self._alarms.over(code)
        self._hello_backoff = self._settings.hello_backoff
        reached = self._standing.reached.get(lane.journal)
        if reached is not None and through > reached:
            # What we learn only now still arrived: steps of that length are fine.
            self._standing.stride = self._standing.stride.longer()
        self._standing.reached[lane.journal] = through
        lane.through = through
        self._timeouts = 0
        self._rewind(lane)

    def _move_to(self, lane: Lane, through: int) -> None:
        if through <= lane.through:
            return
        lane.through = through
        lane.sent = max(lane.sent, through)
        self._standing.reached[lane.journal] = through
        self._window = self._window.arrived(through, journal=lane.journal).widened(self._most_batches)
        self._progress_at = time.monotonic()
        self._timeouts = 0
        self._moved = True
        self._quota_pause_s = self._settings.quota_pause_s
        self._standing.stride = self._standing.stride.longer()

    def _rewind(self, lane: Lane) -> None:
        """Everything after the last acknowledged record is sent again."""
        lane.rewind()
        self._forget_under_way(lane)
        self._progress_at = time.monotonic()

    def _rewind_all(self) -> None:
        for lane in self._lanes.values():
            self._rewind(lane)

    def _forget_under_way(self, lane: Lane) -> None:
        if self._ready is not None and self._ready.lane.journal == lane.journal:
            self._ready = None
        self._window = self._window.cleared(journal=lane.journal)

    def _greet_again(self, lane: Lane) -> None:
        """Ask where to resume: soon, without the back-off, which is for a backend that says nothing."""
        soon = max(time.monotonic(), self._greeted_at + self._settings.hello_again_s)
        if lane.phase is Phase.DRAINING:
            if not self._greets:
                self._hello_due = soon
            lane.phase = Phase.GREETING
            self._rewind(lane)
        self._hello_due = min(self._hello_due, soon)

    def _block(self, lane: Lane) -> None:
        """Nothing of this journal is sent until the backend answers a later hello."""
        lane.phase = Phase.GREETING
        self._rewind(lane)
        self._hello_due = max(self._hello_due, time.monotonic() + self._hello_backoff.ceiling_s)

    def _stop_and_greet_later(self, pause_s: float | None = None) -> None:
        """Nothing is sent until the backend answers a later hello."""
        for lane in self._lanes.values():
            lane.phase = Phase.GREETING
        self._rewind_all()
        wait_s = self._hello_backoff.ceiling_s if pause_s is None else pause_s
        self._hello_due = max(self._hello_due, time.monotonic() + wait_s)

    # Sending

    def _may_send(self) -> bool:
        quiet_until = max(self._pause_until, self._questions_until)
        if self._standing.leaves_room and self._under_way >= self._pace.bytes_now:
            return False
        return self._drains and self._link.has_room and self._window.admits(0) and time.monotonic() >= quiet_until

    async def _send_next(self) -> bool:
        """Publish one more batch; False when there is nothing to send or no room for it."""
        if self._ready is None:
            self._ready = await self._prepare()
        if self._ready is None or not self._window.admits(len(self._ready.batch.payload)):
            return False
        ready, self._ready = self._ready, None
        batch, lane = ready.batch, ready.lane
        if self._window.is_empty:
            self._progress_at = time.monotonic()
        self._window = self._window.started(
            Flight(first=batch.first, last=batch.last, size_bytes=len(batch.payload), journal=lane.journal)
        )
        if ready.is_resend:
            _, last = lane.resend.popleft()
            if batch.last < last:
                lane.resend.appendleft((batch.last + 1, last))
        else:
            lane.sent = batch.last
        puback = await self._link.send(self._records_topic, batch.payload, content_type=content_type(self._codec))
        self._under_way += len(batch.payload)
        puback.add_done_callback(partial(self._hand_over, len(batch.payload), time.monotonic()))
        return True

    def _hand_over(self, size_bytes: int, sent_at: float, puback: asyncio.Future[list[int]]) -> None:
        if not puback.cancelled():
            took_s = time.monotonic() - sent_at
            self._inbox.put_nowait(_Puback(code=puback.result()[0], size_bytes=size_bytes, took_s=took_s))

    @property
    def _records_topic(self) -> str:
        # MQTT 5 names the codec in the content type; 3.1.1 has no place for it but the topic.
        if self._link.protocol is Protocol.MQTT_5:
            return self._topics.records
        return f"{self._topics.records}/{self._codec}"

    async def _prepare(self) -> _Ready | None:
        """The next batch, of the first journal that has one."""
        heads = await self._outbox.heads()
        if self._follow(heads):
            self._hello_due = 0.0  # a journal that the backend has not heard of
        for head in heads:
            lane = self._lanes[head.journal]
            if lane.phase is Phase.DRAINING and (lane.resend or lane.sent < head.last):
                ready = await self._prepare_of(lane)
                if ready is not None:
                    return ready
        return None

    async def _prepare_of(self, lane: Lane) -> _Ready | None:
        """Records that cannot travel are withheld on the way."""
        limits = replace(self._settings.batch, packet_bytes=self._packet_bytes)
        while True:
            is_resend = bool(lane.resend)
            after = lane.resend[0][0] - 1 if is_resend else lane.sent
            most = min(limits.records, lane.resend[0][1] - after) if is_resend else limits.records
            size_bytes = self._standing.stride.bytes_now
            if self._standing.leaves_room:
                size_bytes = min(size_bytes, self._pace.bytes_now)
            page = await self._outbox.read(after, records=most, size_bytes=size_bytes, journal=lane.journal)
            if is_resend and (not page or page[0].sequence > lane.resend[0][1]):
                lane.resend.popleft()
                continue
            if not page:
                return None
            travelling = self._travelling(lane, page)
            if not travelling:
                self._skip(lane, page[0].sequence, is_resend)
                continue
            made = make_batch(
                travelling,
                self._codec,
                payload_bytes=limits.payload_bytes(self._records_topic),
            )
            if isinstance(made, Batch):
                return _Ready(batch=made, is_resend=is_resend, lane=lane)
            self._withhold_too_large(lane, made)
            if lane.phase is not Phase.DRAINING:
                return None

    def _travelling(self, lane: Lane, page: list[Sealed]) -> list[Sealed]:
        """The page up to the first gap, and up to the first record that cannot travel."""
        travelling: list[Sealed] = []
        for record in page:
            if travelling and record.sequence != travelling[-1].sequence + 1:
                break
            if (lane.journal, record.sequence) in self._standing.withheld:
                break
            if not fits_a_line(record.body):
                self._withhold(lane, record, "not-a-line", "it contains a line feed or is empty")
                break
            travelling.append(record)
        return travelling

    def _skip(self, lane: Lane, sequence: int, is_resend: bool) -> None:
        if not is_resend:
            lane.sent = sequence
            return
        first, last = lane.resend.popleft()
        if sequence < last:
            lane.resend.appendleft((max(first, sequence) + 1, last))

    def _withhold_too_large(self, lane: Lane, made: TooLarge) -> None:
        text = f"{made.payload_bytes} bytes packed, but a packet may have {self._packet_bytes}"
        self._withhold(lane, made.record, "record-too-large", text)

    def _withhold(self, lane: Lane, record: Sealed, code: str, why: str) -> None:
        """Keep one record here, tell the backend its hash, and go on with the others."""
        self._standing.withheld[lane.journal, record.sequence] = Withheld(
            hash=hashlib.sha256(record.body).hexdigest(), reason=f"withheld by the device: {why}"
        )
        text = f"record {record.sequence} of journal {lane.journal} cannot be sent: {why}"
        self._alarms.tell(code, text, about=str(record.sequence))
        # Only a hello carries it; the records around it need not wait for the back-off.
        lane.phase = Phase.GREETING
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
            self._rewind_all()
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
            not self._greets
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
        self._rewind_all()

    def _on_document(self, message: Message) -> None:
        self._carrier.offer(message)
        if message.topic == self._timestamp_topic and message.payload:
            seen = hashlib.sha256(message.payload).hexdigest()
            if seen != self._standing.policy_timestamp:
                self._standing.policy_timestamp = seen
                self._emit(PolicyHint(timestamp=seen))
