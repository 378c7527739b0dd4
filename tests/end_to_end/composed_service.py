"""The service with a witness inside, as a process: it notes what was done and shown, and dies or hangs when told to.

python -m tests.end_to_end.composed_service --witness FILE [--die-at N | --die-after MOMENT | --hang loop|journal]
    --config FILE --log LEVEL

Each line of the witness file is one moment, with its time in milliseconds: an effect that was done, or something that
the outside was told (a reader showed it, a charger was commanded). It is written before the process can die there, and
survives it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent.config import Config, load
from agent.core.effects import Effect, Record, Signal
from agent.journal import Journal
from agent.logs import set_up_logging
from agent.main import serve
from agent.runtime import Runtime
from drivers.chargers.charger import Charger
from drivers.readers.reader import Feedback, Reader


def witnessed_in(path: Path) -> list[dict[str, Any]]:
    """What a witness wrote, each with `at_ms` on time.monotonic()."""
    lines = (line.split(" ", 1) for line in path.read_text().splitlines())
    return [{"at_ms": int(at_ms), **json.loads(said)} for at_ms, said in lines]


class Witness:
    def __init__(self, path: Path, die_at: int | None, die_after: str | None = None) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._die_at = die_at
        self._die_after = die_after
        self._count = 0
        self._last = ""

    def note(self, what: str, **more: Any) -> None:
        said = json.dumps({"what": what, **more})
        repeated, self._last = said == self._last, said
        if repeated:  # a meter that goes on metering is one moment
            return
        self._count += 1
        os.write(self._file, f"{time.monotonic_ns() // 1_000_000} {said}\n".encode())
        if self._count == self._die_at or what == self._die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    def effect(self, effect: Effect) -> None:
        kinds = "+".join(type(fact).__name__ for fact in effect.facts) if isinstance(effect, Record) else ""
        self.note(f"{type(effect).__name__} {kinds}".strip())


class WitnessedReader:
    """Notes what the person at the reader is shown."""

    def __init__(self, reader: Reader, witness: Witness) -> None:
        self.name = reader.name
        self._reader = reader
        self._witness = witness

    async def run(self, emit: Callable[[Any], None]) -> None:
        await self._reader.run(emit)

    async def signal(self, feedback: Feedback, text: str) -> None:
        self._witness.note("shown", reader=self.name, feedback=feedback.value)
        await self._reader.signal(feedback, text)


class WitnessedCharger:
    """Notes what the charger is told."""

    def __init__(self, charger: Charger, witness: Witness) -> None:
        self.name = charger.name
        self._charger = charger
        self._witness = witness

    async def run(self, emit: Callable[[Any], None]) -> None:
        await self._charger.run(emit)

    async def start(self, session: str, max_energy_wh: int | None) -> None:
        self._witness.note("told to start", session=session)
        await self._charger.start(session, max_energy_wh)

    async def stop(self, session: str) -> None:
        self._witness.note("told to stop", session=session)
        await self._charger.stop(session)

    async def query(self) -> None:
        await self._charger.query()


def composed(config: Config, witness: Witness, hang: str | None) -> Runtime:
    def after(effect: Effect) -> None:
        witness.effect(effect)
        if hang == "loop" and isinstance(effect, Signal):
            time.sleep(3600)

    runtime = Runtime(config, after=after)
    for name, reader in runtime.readers.items():
        runtime.readers[name] = WitnessedReader(reader, witness)
    for name, charger in runtime.chargers.items():
        runtime.chargers[name] = WitnessedCharger(charger, witness)
    if hang == "journal":
        append = Journal.append

        def stuck(self: Journal, entries: Sequence[Any]) -> Any:
            if any(type(fact).__name__ == "DecisionMade" for fact, _ in entries):
                time.sleep(3600)  # an fsync that does not come back
            return append(self, entries)

        Journal.append = stuck  # type: ignore[method-assign]
    return runtime


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--witness", type=Path, required=True)
    parser.add_argument("--die-at", type=int)
    parser.add_argument("--die-after", help="the moment's name, such as: Record DecisionMade+SessionAuthorised")
    parser.add_argument("--hang", choices=("loop", "journal"))
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--log", default="info")
    arguments = parser.parse_args()
    set_up_logging(arguments.log)
    witness = Witness(arguments.witness, arguments.die_at, arguments.die_after)
    return serve(load(arguments.config), lambda config: composed(config, witness, arguments.hang))


if __name__ == "__main__":
    sys.exit(main())
