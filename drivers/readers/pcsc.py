"""A reader behind pcscd: waits for cards, asks each for its UID, and lets whoever is asked talk to it.

The daemon's library is pcsc_lite.py, what its answers mean pcsc_answers.py, trying again supervision.py. One thread a
connection; it touches its context and `emit`, and is woken by cancelling the look that it waits in.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from drivers.back_off import LONGEST_UNWATCHED_S, delays_s
from drivers.cards.apdu import CardTorn, NotGenuine
from drivers.cards.proof import CardKeys, Link, NoKeys, Proofs, proving
from drivers.readers import pcsc_answers
from drivers.readers.decoders import as_on_air
from drivers.readers.firmware import Admission, admit
from drivers.readers.pcsc_lite import (
    CARD_AWAY,
    CARD_MUTE,
    CARD_PRESENT,
    IN_USE,
    NO_READER,
    NO_SERVICE,
    NOT_ALLOWED,
    READER_UNAVAILABLE,
    READER_UNKNOWN,
    Channel,
    Context,
    LibraryMissing,
    PcscFailed,
    Reported,
)
from drivers.readers.reader import Card, Emit, Feedback, ReaderFound, Seen
from drivers.readers.rejects import Rejected
from drivers.readers.sightings import EmptyPolls
from drivers.readers.stop import Stop
from drivers.readers.supervision import ReaderGone, State, Supervision
from firmware_profiles.profile import commands_for

if TYPE_CHECKING:
    from firmware_profiles.profile import Profile

DAEMON_SOCKET = "/run/pcscd/pcscd.comm"  # appears when the daemon starts: then we need not wait any longer
CLOSE_WITHIN_S = 0.9

log = logging.getLogger(__name__)


class PcscReader:
    """`port` is a part of the reader's name, as `roamkey doctor` lists it; empty: the one that the profile matches."""

    def __init__(self, name: str, *, profile: Profile, port: str, keys: CardKeys | None = None) -> None:
        self.name = name
        self._profile = profile
        self._port = port
        self._keys = keys or NoKeys()
        self._context: Context | None = None
        self._to_show: queue.SimpleQueue[tuple[bytes, ...]] = queue.SimpleQueue()
        daemon = os.environ.get("PCSCLITE_CSOCK_NAME", DAEMON_SOCKET)  # as the library finds it
        delays = partial(delays_s, longest_s=LONGEST_UNWATCHED_S)
        self._supervision = Supervision(name, path=daemon, connect=self._connect, delays=delays)

    @property
    def state(self) -> State:
        return self._supervision.state

    async def run(self, emit: Emit) -> None:
        await self._supervision.run(emit)

    async def signal(self, feedback: Feedback, text: str) -> None:
        """Handed to the thread, which shows it between two looks."""
        commands = commands_for(self._profile, feedback.value)
        context = self._context
        if not commands or context is None:
            log.debug("reader %s has no way to show %s", self.name, feedback.value)
            return
        self._to_show.put(commands)
        context.cancel()

    async def _connect(self, emit: Emit) -> None:
        stop = Stop()
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"reader-{self.name}")
        connection = asyncio.get_running_loop().run_in_executor(thread, self._serve, emit, stop)
        thread.shutdown(wait=False)  # takes no more work; its thread ends with the connection
        try:
            await asyncio.shield(connection)
        finally:
            stop.set()
            if (context := self._context) is not None:
                context.cancel()
            await asyncio.wait({connection}, timeout=CLOSE_WITHIN_S)
            if connection.done() and not connection.cancelled():
                connection.exception()  # looked at: a cancelled run() does not tell it any more

    def _serve(self, emit: Emit, stop: Stop) -> None:
        """In the thread: until stopped, quietly, or lost, with ReaderGone."""
        try:
            with Context() as context:
                self._context = context
                try:
                    reader = self._chosen(context.readers())
                    watching = _Watching(self.name, self._profile, context, reader, proving(self._keys))
                    watching.until(stop, emit, self._to_show)
                finally:
                    self._context = None
        except LibraryMissing as error:
            raise ReaderGone(str(error), hint="install the packages pcscd and libpcsclite1") from error
        except PcscFailed as error:
            raise _gone(error) from error

    def _chosen(self, readers: tuple[str, ...]) -> str:
        wanted = (self._port,) if self._port else self._profile.match.product
        found = [name for name in readers if any(each.casefold() in name.casefold() for each in wanted)]
        if len(found) == 1:
            return found[0]
        there = ", ".join(readers) or "none"
        if found:
            raise ReaderGone(
                f"{len(found)} PC/SC readers could be meant: {', '.join(found)}", hint="name one of them as port"
            )
        raise ReaderGone(
            f"no PC/SC reader is named {' or '.join(wanted)}",
            hint=f"readers there: {there}; check the cable, and `roamkey doctor` for kernel modules in the way",
        )


class _Watching:
    """One connection to the daemon, one reader."""

    def __init__(self, name: str, profile: Profile, context: Context, reader: str, proving: Proofs) -> None:
        self._name = name
        self._profile = profile
        self._context = context
        self._reader = reader
        self._proving = proving
        self._poll_s = profile.polling.poll_ms / 1_000
        self._known: tuple[int, int, bytes] | None = None
        self._complained_of: tuple[int, int, bytes] | None = None

    def until(self, stop: Stop, emit: Emit, to_show: queue.SimpleQueue[tuple[bytes, ...]]) -> None:
        admission = admit(self._profile, self._firmware())
        for command in self._profile.setup:
            self._tell(command)
        emit(self._found(admission))
        empty_polls = EmptyPolls()
        counted, due_s = 0, time.monotonic()
        report: Reported | None = None
        while not stop.wait(0):
            left_ms = max(0, round(1_000 * (due_s - time.monotonic())))
            if (news := self._context.look(self._reader, counted=counted, within_ms=left_ms)) is not None:
                counted, report = news.counted, news
            with contextlib.suppress(queue.Empty):
                while True:
                    for command in to_show.get_nowait():
                        self._tell(command)
            changed = report is not None and self._changed(report)
            if not changed and time.monotonic() < due_s:
                continue
            due_s = time.monotonic() + self._poll_s
            # Asked anew each time: a card exchanged between two looks of the daemon changes nothing in its state.
            cards = () if report is None else self._read(report, admission)
            if cards is None:
                continue  # it is being laid on or taken away: the next look knows more
            now_ms = time.monotonic_ns() // 1_000_000
            if cards:
                empty_polls.card_seen()
            if cards or empty_polls.empty(now_ms):
                emit(Seen(reader=self._name, cards=cards, monotonic_ms=now_ms))

    def _changed(self, report: Reported) -> bool:
        """Whether a card came or went. That somebody connects is a change, too, but not one that matters here."""
        if report.flags & (READER_UNKNOWN | READER_UNAVAILABLE):
            raise ReaderGone(f"{self._reader} has gone", hint="check its cable")
        known = (report.flags & (CARD_PRESENT | CARD_MUTE), report.counted >> 16, report.atr)
        changed, self._known = known != self._known, known
        return changed

    def _read(self, report: Reported, admission: Admission) -> tuple[Card, ...] | None:
        with contextlib.ExitStack() as talk:
            opened: list[Channel] = []

            def channel() -> Channel:
                if not opened:
                    opened.append(talk.enter_context(self._context.card(self._reader)))
                return opened[0]

            try:
                seen = admission.cards(self._identified(report, channel))
                return self._proving.looked(seen, lambda: _link(report.atr, channel))
            except PcscFailed as error:
                if error.code not in CARD_AWAY:
                    raise
        return None

    def _identified(self, report: Reported, channel: Callable[[], Channel]) -> tuple[Card, ...]:
        """The card as its UID shows it."""
        if not report.flags & CARD_PRESENT or report.flags & CARD_MUTE:
            return ()
        read = pcsc_answers.card(report.atr, channel().transmit(pcsc_answers.GET_UID))
        if isinstance(read, Rejected):
            self._complain("a card that tells no UID", read)
            return ()
        if self._profile.uid is not None:
            judged = as_on_air((read,), self._profile.uid)
            if isinstance(judged, Rejected):
                self._complain("a UID that its profile does not know", judged)
                return ()
            return judged
        return (read,)

    def _complain(self, what: str, rejected: Rejected) -> None:
        """Once a presence, however often it is looked at."""
        if self._complained_of != self._known:
            self._complained_of = self._known
            log.warning("reader %s: %s (%s)", self._name, what, rejected.reason.value)

    def _firmware(self) -> str | None:
        if not (query := self._profile.firmware.query):
            return None
        said = self._tell(query)
        return None if said is None else pcsc_answers.firmware(said)

    def _tell(self, command: bytes) -> bytes | None:
        """To the reader itself. With a card in the field as an APDU, without as an escape; None when neither works."""
        for channel_of, say in ((self._context.card, Channel.transmit), (self._context.device, Channel.control)):
            try:
                with channel_of(self._reader) as channel:
                    return say(channel, command)
            except PcscFailed as error:
                if error.code in NO_SERVICE | NO_READER:
                    raise
                log.debug("reader %s does not take a command (%s)", self._name, error)
        return None

    def _found(self, admission: Admission) -> ReaderFound:
        return ReaderFound(
            reader=self._name,
            model=f"{self._profile.make} {self._profile.model}",
            firmware=admission.firmware,
            findings=admission.findings,
        )


def _link(atr: bytes, channel: Callable[[], Channel]) -> Link:
    """To the card itself, as drivers/cards wants it."""
    historical = pcsc_answers.historical_bytes(atr) or b""
    if historical.startswith(pcsc_answers.STORAGE_CARD):
        raise NotGenuine("the card does not speak ISO 14443-4")

    def transceive(command: bytes) -> bytes:
        try:
            return channel().transmit(command)
        except PcscFailed as error:
            if error.code in CARD_AWAY:
                raise CardTorn("the card has left the field") from error
            raise

    return Link(transceive=transceive, historical=historical)


def _gone(error: PcscFailed) -> ReaderGone:
    if error.code in NO_SERVICE:
        return ReaderGone("the PC/SC daemon does not answer", hint="start it: systemctl start pcscd.socket")
    if error.code in NO_READER:
        return ReaderGone("the PC/SC reader has gone", hint="check its cable")
    if error.code == IN_USE:
        return ReaderGone("the PC/SC reader is in use by another program", hint="stop the other program")
    if error.code == NOT_ALLOWED:
        return ReaderGone(
            "the PC/SC daemon does not let us in",
            hint="start it (systemctl start pcscd.socket); if it runs, install the polkit rule in systemd/",
        )
    return ReaderGone(f"PC/SC fails ({error})", hint="check the reader with pcsc_scan")
