"""The place for a certified reader of phones' wallets: its maker's program verifies, we take what it verified.

Apple VAS and Google Smart Tap give a pass only to a reader with its partner's keys, so nothing of them is here. Whoever
has one writes a `WalletReader` and announces it as an entry point of the group `roamkey.wallet_readers`:

    [project.entry-points."roamkey.wallet_readers"]
    springcard = "our_wallets:open_reader"        # called with name and port

What it tells is as good as a card that proved its key; a phone that is merely laid on stays a phone (cards/phones.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

from drivers.readers.reader import Assurance, Card, Emit, Feedback, ReaderFound, Seen, Technology
from drivers.readers.sightings import EMPTY_FOR_AT_LEAST_MS, EMPTY_POLLS_AT_LEAST
from drivers.readers.supervision import ReaderGone, Supervision
from firmware_profiles.profile import ProfileError

GROUP = "roamkey.wallet_readers"
PAYLOAD_MAX_BYTES = 256
SIGNAL_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What the reader verified: the pass's own identity, never a phone's UID. `scheme` is for people, "Apple VAS"."""

    payload: bytes = field(repr=False)
    scheme: str


Tell = Callable[[Verified | None], None]
"""The pass in the field, and None when it has gone. From the loop that runs the reader."""


class WalletReader(Protocol):
    model: str
    firmware: str

    async def run(self, tell: Tell) -> None:
        """Until cancelled. Whatever it raises is an outage, and it is run again after a while."""

    async def signal(self, feedback: Feedback, text: str) -> None: ...


OpenWallet = Callable[[str, str], WalletReader]


class WalletUnknown(ProfileError):
    """The configuration cannot work: no such plug-in is installed; the text says which are."""


def open_wallet(name: str, *, plugin: str, port: str) -> PluggedReader:
    """A Reader like any other. Raises WalletUnknown."""
    installed = {each.name: each for each in entry_points(group=GROUP)}
    if plugin not in installed:
        raise WalletUnknown(
            f"reader {name}: no plug-in {plugin!r} is installed ({GROUP}); installed: {', '.join(installed) or 'none'}"
        )
    return PluggedReader(name, opened_by=_loaded(installed[plugin]), port=port)


class PluggedReader:
    def __init__(self, name: str, *, opened_by: OpenWallet, port: str) -> None:
        self.name = name
        self._open = opened_by
        self._port = port
        self._reader: WalletReader | None = None
        self._supervision = Supervision(name, path=port, connect=self._connect)

    async def run(self, emit: Emit) -> None:
        await self._supervision.run(emit)

    async def signal(self, feedback: Feedback, text: str) -> None:
        if self._reader is not None:
            try:
                async with asyncio.timeout(SIGNAL_WITHIN_S):
                    await self._reader.signal(feedback, text)
            except (OSError, TimeoutError, RuntimeError, ValueError):
                return  # best effort: what it cannot show is not shown

    async def _connect(self, emit: Emit) -> None:
        field_ = _Field(self.name, emit)
        try:
            self._reader = self._open(self.name, self._port)
            emit(ReaderFound(reader=self.name, model=self._reader.model, firmware=self._reader.firmware))
            async with asyncio.TaskGroup() as tasks:
                looks = tasks.create_task(field_.look_for_ever())
                await self._reader.run(field_.told)
                looks.cancel()
        except Exception as error:  # a foreign program: whatever it trips over is an outage of this reader alone
            raise ReaderGone(
                f"the wallet reader's program fails ({type(error).__name__})", hint="see its maker's documentation"
            ) from error
        finally:
            self._reader = None
        raise ReaderGone("the wallet reader's program ended", hint="see its maker's documentation")


class _Field:
    """Makes looks out of a coming and a going, as the readers' contract wants them."""

    def __init__(self, name: str, emit: Emit) -> None:
        self._name = name
        self._emit = emit
        self._cards: tuple[Card, ...] = ()
        self._empty_looks = EMPTY_POLLS_AT_LEAST
        self._changed = asyncio.Event()

    def told(self, verified: Verified | None) -> None:
        if verified is None:
            self._cards = ()
        elif 0 < len(verified.payload) <= PAYLOAD_MAX_BYTES:
            wallet, proven = Technology.WALLET, Assurance.AUTHENTICATED
            self._cards, self._empty_looks = (Card(uid=verified.payload, technology=wallet, assurance=proven),), 0
        self._changed.set()

    async def look_for_ever(self) -> None:
        while True:
            while self._cards or self._empty_looks < EMPTY_POLLS_AT_LEAST:
                self._empty_looks += 0 if self._cards else 1
                now_ms = time.monotonic_ns() // 1_000_000
                self._emit(Seen(reader=self._name, cards=self._cards, monotonic_ms=now_ms))
                self._changed.clear()
                await self._wait(EMPTY_FOR_AT_LEAST_MS / (EMPTY_POLLS_AT_LEAST - 1) / 1_000)
            await self._changed.wait()

    async def _wait(self, at_most_s: float) -> None:
        try:
            async with asyncio.timeout(at_most_s):
                await self._changed.wait()
        except TimeoutError:
            return


def _loaded(point: EntryPoint) -> OpenWallet:
    def opened(name: str, port: str) -> WalletReader:
        found: OpenWallet = point.load()  # at each opening: a plug-in that does not load is an outage, too
        return found(name, port)

    return opened
