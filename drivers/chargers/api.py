"""A charger that the gateway's own software stands for: its events and commands go through the local API.

No HTTP here: the API handler (agent/api.py) calls report(), and the `commands` it gave streams what the agent asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from drivers.chargers.charger import ChargerEvent, ChargerUnavailable, Emit


@dataclass(frozen=True, slots=True, kw_only=True)
class StartAsked:
    charger: str
    session: str
    max_energy_wh: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StopAsked:
    charger: str
    session: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusAsked:
    charger: str


Asked = StartAsked | StopAsked | StatusAsked
Commands = Callable[[Asked], bool]


class ApiCharger:
    """`commands` answers whether somebody took the command. That it was obeyed is known only from a later report."""

    def __init__(self, name: str, *, commands: Commands) -> None:
        self.name = name
        self._commands = commands
        self._emit: Emit | None = None

    async def run(self, emit: Emit) -> None:
        """Silent at first, but for one question: what the charger does is for its software to report."""
        self._emit = emit
        try:
            self._commands(StatusAsked(charger=self.name))
            await asyncio.Event().wait()
        finally:
            self._emit = None

    def report(self, event: ChargerEvent) -> None:
        """Raises ChargerUnavailable while the service is starting or stopping: report it again."""
        if event.charger != self.name:
            raise ValueError(f"an event of charger {event.charger} was reported to charger {self.name}")
        if self._emit is None:
            raise ChargerUnavailable(self.name, "the service does not listen to it yet", hint="report it again")
        self._emit(event)

    async def start(self, session: str, max_energy_wh: int | None) -> None:
        self._ask(StartAsked(charger=self.name, session=session, max_energy_wh=max_energy_wh))

    async def stop(self, session: str) -> None:
        self._ask(StopAsked(charger=self.name, session=session))

    async def query(self) -> None:
        self._ask(StatusAsked(charger=self.name))

    def _ask(self, asked: Asked) -> None:
        if not self._commands(asked):
            raise ChargerUnavailable(
                self.name,
                "no software of the gateway listens for its commands",
                hint="let it read the command stream of the local API",
            )
