"""A PN532 on a serial line or a PN533 on USB, polled through nfcpy. The only place that knows nfcpy.

nfcpy 1.0.4 is used for what it knows, the chip and the cards: Chipset, Device and ContactlessFrontend.sense. Not for
what it does badly as a service: its search for devices, its transport (pn532_transport.py instead) and connect().

One thread a connection; it touches the transport, nfcpy's objects and `emit`, and is woken by a Stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from drivers.back_off import delays_s
from drivers.cards.apdu import CardTorn, NotGenuine
from drivers.cards.iso_dep import IsoDep
from drivers.cards.proof import CardKeys, Link, NoKeys, proving
from drivers.readers.firmware import Admission, admit
from drivers.readers.pn532_frames import HAS_ATS, TARGETS_ANSWER, targets
from drivers.readers.pn532_transport import HOME_BAUD, Awake, Pn532Transport
from drivers.readers.reader import (
    UID_SIZES_14443A,
    Card,
    Emit,
    Feedback,
    ReaderFound,
    Seen,
    card_14443a,
)
from drivers.readers.rejects import Rejected
from drivers.readers.sightings import EmptyPolls
from drivers.readers.stop import Stop
from drivers.readers.supervision import ReaderGone, State, Supervision
from drivers.serial_port import PortFailed

if TYPE_CHECKING:
    from firmware_profiles.profile import Profile

LIST_TARGETS = 0x4A
AT_MOST_TWO_TYPE_A = bytes([0x02, 0x00])
LIST_TIMEOUT_S = 1.0
FAILED_POLLS = 3  # one may be a card torn away in mid-answer, three in a row are the reader
CLOSE_WITHIN_S = 0.9  # four short waits for a chip that does not answer any more take 0.5 s

log = logging.getLogger(__name__)


class Pn532Reader:
    """`transport` opens the line to the chip, for the stop that it heeds; a serial port where nothing is said."""

    def __init__(
        self,
        name: str,
        *,
        profile: Profile,
        port: str,
        keys: CardKeys | None = None,
        transport: Callable[[Stop], Transport] | None = None,
        delays: Callable[[], Iterator[float]] = delays_s,
    ) -> None:
        self.name = name
        self._profile = profile
        self._transport = transport or partial(Pn532Transport, port)
        self._keys = keys or NoKeys()
        self._supervision = Supervision(name, path=port, connect=self._connect, delays=delays)

    @property
    def state(self) -> State:
        return self._supervision.state

    async def run(self, emit: Emit) -> None:
        await self._supervision.run(emit)

    async def signal(self, feedback: Feedback, text: str) -> None:
        """A bare module has no lamp and no buzzer: nothing can be shown, and nothing is pretended."""
        log.debug("reader %s has no way to show %s", self.name, feedback.value)

    async def _connect(self, emit: Emit) -> None:
        stop = Stop()
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"reader-{self.name}")
        connection = asyncio.get_running_loop().run_in_executor(thread, self._serve, emit, stop)
        thread.shutdown(wait=False)  # takes no more work; its thread ends with the connection
        try:
            await asyncio.shield(connection)
        finally:
            stop.set()
            await asyncio.wait({connection}, timeout=CLOSE_WITHIN_S)
            if connection.done() and not connection.cancelled():
                connection.exception()  # looked at: a cancelled run() does not tell it any more

    def _serve(self, emit: Emit, stop: Stop) -> None:
        """In the thread: open, poll until stopped or lost, close. Ends with ReaderGone or PortFailed, or quietly."""
        transport = self._transport(stop)
        try:
            with contextlib.suppress(_Stopped):
                _Polling(self.name, self._profile, transport, stop, self._keys).until_stopped(emit)
        finally:
            transport.close()


class Transport(Protocol):
    """The line to a chip. nfcpy drives it with `TYPE`, `read` and `write`; we wake, stop and close it."""

    TYPE: str
    chip: str  # nfcpy's module for it
    two_targets: bool  # whether it can have two cards at once
    path: str
    lost: PortFailed | None

    def read(self, timeout: float) -> bytearray: ...

    def write(self, raw: bytes | bytearray) -> None: ...

    def wake(self) -> Awake: ...

    @property
    def stopped(self) -> bool: ...

    def heed_no_stop(self) -> None: ...

    def close(self) -> None: ...


class _Stopped(Exception):
    """run() was cancelled."""


class _Polling:
    """One connection: nfcpy's device over an open transport."""

    def __init__(self, name: str, profile: Profile, transport: Transport, stop: Stop, keys: CardKeys) -> None:
        self._name = name
        self._proving = proving(keys)
        self._profile = profile
        self._transport = transport
        self._stop = stop
        self._poll_s = profile.polling.poll_ms / 1_000
        self._admission: Admission

    def until_stopped(self, emit: Emit) -> None:
        frontend, awake = self._opened()
        try:
            self._admission = admit(self._profile, awake.firmware)
            emit(self._found(awake, self._admission))
            self._poll_for_ever(frontend, emit)
        finally:
            self._put_to_sleep(frontend)

    def _opened(self) -> tuple[Any, Awake]:
        nfc = _nfc()
        try:
            awake = self._transport.wake()
            # Not nfc.clf.pn532.init(): it pastes the port into a shell to try speeds that a UID does not need.
            module = getattr(nfc.clf, self._transport.chip)
            chipset = module.Chipset(self._transport, module.log)
            frontend = nfc.clf.ContactlessFrontend()
            frontend.device = module.Device(chipset, module.log)
        except (ReaderGone, PortFailed):
            raise
        except Exception as error:
            raise self._ended_by(error) from error
        return frontend, awake

    def _poll_for_ever(self, frontend: Any, emit: Emit) -> None:
        empty_polls = EmptyPolls()
        failed = 0
        while True:
            began_s = time.monotonic()
            try:
                looked = self._admission.cards(self._look(frontend))
                cards = self._proving.looked(looked, partial(self._conversation, frontend))
                failed = 0
            except Exception as error:  # nfcpy lets through what its parsing trips over: IndexError, TypeError, ...
                failed += 1
                if failed >= FAILED_POLLS or self._transport.lost is not None or self._transport.stopped:
                    raise self._ended_by(error) from error
                log.debug("reader %s: poll failed (%s)", self._name, type(error).__name__)
            else:
                self._tell(cards, empty_polls, emit)
            if self._stop.wait(began_s + self._poll_s - time.monotonic()):
                raise _Stopped

    def _tell(self, cards: tuple[Card, ...] | None, empty_polls: EmptyPolls, emit: Emit) -> None:
        if cards is None:
            return  # it is being laid on or taken away: the next look knows more
        now_ms = time.monotonic_ns() // 1_000_000
        if cards:
            empty_polls.card_seen()
        if cards or empty_polls.empty(now_ms):
            emit(Seen(reader=self._name, cards=cards, monotonic_ms=now_ms))

    def _conversation(self, frontend: Any) -> Link:
        """With the one card in the field, selected anew: after the search for a second one it may be asleep."""
        nfc = _nfc()
        target = frontend.sense(nfc.clf.RemoteTarget("106A"), iterations=1)
        if target is None or not target.sel_res:
            raise CardTorn("the card is gone")
        if not target.sel_res[0] & HAS_ATS:
            raise NotGenuine("the card does not speak ISO 14443-4")

        def exchange(frame: bytes, wait_s: float) -> bytes:
            try:
                return bytes(frontend.exchange(bytearray(frame), wait_s))
            except nfc.clf.CommunicationError as error:
                raise CardTorn("the card does not answer") from error

        blocks = IsoDep(exchange)
        return Link(transceive=blocks.transceive, historical=blocks.activate())

    def _look(self, frontend: Any) -> tuple[Card, ...]:
        """Who is there. sense() asks for one card; only when there is one is the chip asked for a second."""
        target = frontend.sense(_nfc().clf.RemoteTarget("106A"), iterations=1)
        if target is None:
            return ()
        uid = bytes(target.sdd_res or b"")
        if not self._transport.two_targets:
            return (card_14443a(uid),) if len(uid) in UID_SIZES_14443A else ()
        # sense() never asks for two, so this is the same chip command once more, with the field dropped before it:
        # a card that was selected already keeps quiet otherwise.
        frontend.device.mute()
        answer = frontend.device.chipset.command(LIST_TARGETS, AT_MOST_TWO_TYPE_A, timeout=LIST_TIMEOUT_S)
        listed = targets(TARGETS_ANSWER + bytes(answer))
        if isinstance(listed, Rejected):
            log.warning("reader %s: a card told lengths that do not fit; not read", self._name)
            return ()
        if not listed and len(uid) in UID_SIZES_14443A:  # at the edge of the field: seen once is seen
            return (card_14443a(uid),)
        return listed

    def _found(self, awake: Awake, admission: Admission) -> ReaderFound:
        latched = f"had been left at {awake.found_at_baud} baud; brought back to {HOME_BAUD}"
        return ReaderFound(
            reader=self._name,
            model=f"{self._profile.make} {self._profile.model}",
            firmware=admission.firmware,
            findings=admission.findings + ((latched,) if awake.found_at_baud != HOME_BAUD else ()),
        )

    def _put_to_sleep(self, frontend: Any) -> None:
        """Field off, chip asleep, ready for the next opener. A chip that is gone need not be told."""
        if self._transport.lost is None:
            self._transport.heed_no_stop()
            with contextlib.suppress(Exception):  # it is being given up; whatever it says now changes nothing
                frontend.close()

    def _ended_by(self, error: Exception) -> Exception:
        if self._transport.stopped:
            return _Stopped()
        if self._transport.lost is not None:
            return self._transport.lost
        return ReaderGone(
            f"the PN532 on {self._transport.path} answers wrongly or not at all ({type(error).__name__})",
            hint="check its power and cable; if it happens again, take its power away for a moment",
        )


def _nfc() -> Any:
    """nfcpy, imported when a PN532 is first opened (0.1 s), and told to keep quiet: its debug log has UIDs in it."""
    import nfc.clf.pn532
    import nfc.clf.pn533

    logging.getLogger("nfc").setLevel(logging.CRITICAL)
    return nfc
