"""A short day of a fleet, played on the stage: what drivers do, and what must have happened in the end.

Nothing here talks to the service's inside: cards are laid on readers, cables plugged, the broker stopped, the service
killed. What happened is read from its journal, as a technician would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.demo.fleet import ANNA, BERT, CARLA, DORA, STRANGER
from agent.demo.stage import Stage
from drivers.readers.virtual_cards import ClassicCard, Phone, Type2Card

Records = list[dict[str, Any]]
Narrate = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Done:
    """What the drivers did, counted by the one who did it; compared with the journal at the end."""

    taps: int = 0
    granted: int = 0
    refused: int = 0
    stopped: int = 0
    sessions: int = 0


class Story:
    """`pace` stretches the pauses: 1 is a brisk day."""

    def __init__(self, stage: Stage, narrate: Narrate, pace: float) -> None:
        self.stage = stage
        self.done = Done()
        self._narrate = narrate
        self._pace = pace

    async def play(self) -> None:
        await self.morning()
        await self.at_the_wrong_reader()
        await self.no_signal()
        await self.power_cut()
        await self.evening()

    async def morning(self) -> None:
        """A card granted and charged to the end; the card forgotten on the reader is one tap."""
        await self._ready()
        self._narrate("Anna plugs in at bay 1 and forgets her card on the reader")
        left, bay = self.stage.left, self.stage.bays[0]
        bay.plug_in(demand_wh=9_000)
        left.present(Type2Card(ANNA))
        await self._granted()
        await self._pause(2.5)
        left.remove()
        await self.stage.until("the car is full", ended(1))
        self.done.sessions += 1
        bay.unplug()

    async def at_the_wrong_reader(self) -> None:
        for who, card in (
            ("Bert taps: wrong network for his group, and outside his hours", ClassicCard(BERT)),
            ("Carla taps a card that was reported stolen", Type2Card(CARLA)),
            ("a stranger taps a card that the fleet does not know", Type2Card(STRANGER)),
            ("somebody holds a phone to the reader: its UID is new at every look", Phone()),
        ):
            self._narrate(who)
            self.stage.left.present(card)
            await self._refused()
            await self._pause(0.5)
            self.stage.left.remove()
            await self._pause(0.9)

    async def no_signal(self) -> None:
        self._narrate("the network is gone")
        await self.stage.broker.kill()
        await self._pause(0.5)
        self._narrate("Dora holds her fob to the 125 kHz reader of bay 2")
        self.stage.bays[1].plug_in(demand_wh=60_000)
        await self._touch_right(DORA)
        await self._granted()
        await self.stage.until("charging begins", count("session.started", 2))
        await self._pause(1.5)

    async def power_cut(self) -> None:
        self._narrate("SIGKILL in the middle of Dora's session; the charger goes on")
        await self.stage.agent.kill()
        await self._pause(1.5)
        self._narrate("the service starts again, still without a network")
        await self.stage.agent.start()
        await self.stage.until("the session is taken up again", count("session.resumed", 1))
        await self._pause(1.0)
        self._narrate("Dora taps again to stop")
        await self._touch_right(DORA)
        self.done.taps += 1
        self.done.stopped += 1
        await self.stage.until("Dora's session ends", ended(2))
        self.done.sessions += 1
        self.stage.bays[1].unplug()

    async def evening(self) -> None:
        self._narrate("Anna comes back to bay 1, still without a network")
        self.stage.bays[0].plug_in(demand_wh=5_000)
        self.stage.left.present(Type2Card(ANNA))
        await self._granted()
        self.stage.left.remove()
        await self.stage.until("the car is full", ended(3))
        self.done.sessions += 1
        self.stage.bays[0].unplug()
        self._narrate("the network is back: the backlog is delivered")
        await self.stage.broker.start()
        await self._delivered()

    async def _ready(self) -> None:
        """The policy has come over the broker, both readers and both chargers are there."""
        self._narrate("the service starts and fetches the fleet's signed policy from the broker")
        await self.stage.until("a policy", count("policy.activated", 1))
        await self.stage.until("both readers", count("reader.found", 2))
        await self.stage.until("both chargers", count("charger.found", 2))

    async def _granted(self) -> None:
        self.done.taps += 1
        self.done.granted += 1
        await self.stage.until("a yes", count("session.authorised", self.done.granted))

    async def _refused(self) -> None:
        self.done.taps += 1
        self.done.refused += 1
        await self.stage.until("a no", refusals(self.done.refused))

    async def _touch_right(self, tag: bytes) -> None:
        self.stage.right.present(tag)
        await self._pause(0.6)
        self.stage.right.remove()
        await self._pause(1.2)

    async def _delivered(self) -> None:
        """Everything that was sealed so far is stored and acknowledged by the backend."""
        backlog = -1
        for _ in range(200):
            status = await self.stage.status()
            backlog = status["journal"]["backlog"] if status is not None else -1
            if backlog == 0:
                return
            await asyncio.sleep(0.1)
        self._narrate(f"still {backlog} records not acknowledged")

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self._pace)


def count(kind: str, at_least: int) -> Callable[[Records], bool]:
    return lambda seen: sum(event["type"] == f"io.roamkey.{kind}" for event in seen) >= at_least


def ended(sessions: int) -> Callable[[Records], bool]:
    return count("session.ended", sessions)


def refusals(at_least: int) -> Callable[[Records], bool]:
    return lambda seen: (
        sum(event["type"] == "io.roamkey.decision.made" and event["data"]["outcome"] == "refused" for event in seen)
        >= at_least
    )
