"""Records as a fleet's days make them: whole sessions, each with its own card, driver, place and figures.

Sealed by the agent's own code; on average about 800 bytes each, as the reference's figures were taken with.
"""

from __future__ import annotations

import itertools
import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.core.credentials import Assurance, Credential
from agent.core.facts import (
    DecisionMade,
    EndReason,
    Fact,
    Holder,
    Outcome,
    PolicyStamp,
    SessionAuthorised,
    SessionEnded,
    SessionMetered,
    SessionStarted,
    SessionStopRequested,
    Trigger,
)
from agent.core.instants import ClockQuality, Instant, time_ordered_id
from agent.core.requests import Place
from agent.journal import Journal

Entry = tuple[Fact, Instant]

DRIVERS = 200
SITES = 40
METER_SAMPLES = 8
PER_SESSION = METER_SAMPLES + 5
GROUP = 500


def sessions(seed: int = 1) -> Iterator[Entry]:
    """For ever: the facts of one session after the other, each with its instant."""
    chance = random.Random(seed)
    boot = str(uuid.UUID(int=chance.getrandbits(128)))
    cards = [Credential(reference=chance.randbytes(32).hex(), assurance=Assurance.STATIC) for _ in range(DRIVERS)]
    utc = datetime(2026, 3, 2, 5, 0, tzinfo=UTC)
    policy = PolicyStamp(revision=12, fingerprint=chance.randbytes(32).hex(), age_s=900)
    for number in itertools.count():
        utc += timedelta(seconds=chance.randint(60, 4000))
        who, site = chance.randrange(DRIVERS), chance.randrange(SITES)
        card = cards[who]
        holder = Holder(
            label=f"card {who}",
            group="vans",
            driver=f"d-{who:04}",
            vehicle=f"VAN-{who}",
            cost_centre=f"depot-{who % 7}",
        )
        place = Place(evse=f"DE*ABC*E{site:04}*{number % 4 + 1}", network="DE*ABC", country="DE", site=f"depot {site}")
        meter = chance.randint(100_000, 9_000_000)
        clock = _Clock(utc, boot, chance)
        first = clock.now()
        decision, session = time_ordered_id(first, 1), time_ordered_id(first, 2)
        yield (
            DecisionMade(
                decision=decision,
                trigger=Trigger.TAP,
                outcome=Outcome.GRANTED,
                credential=card,
                holder=holder,
                place=place,
                reader="front",
                charger="left",
                reasons=(),
                warnings=(),
                max_energy_wh=60_000,
                policy=policy,
                clock=ClockQuality.SYNCHRONISED,
                text="You can charge",
                support=session[-6:],
                waited_ms=chance.randint(1, 40),
                ocpi="ALLOWED",
                ocpp16="Accepted",
                ocpp201="Accepted",
                oicp="000",
            ),
            first,
        )
        yield (
            SessionAuthorised(
                session=session,
                decision=decision,
                credential=card,
                holder=holder,
                place=place,
                reader="front",
                charger="left",
                max_energy_wh=60_000,
                authorised_at=first.utc,
                boot=boot,
                monotonic_ms=first.monotonic_ms,
            ),
            first,
        )
        begun = clock.later(chance.uniform(3, 30))
        yield (
            SessionStarted(
                session=session, meter_wh=meter, started_at=begun.utc, boot=boot, monotonic_ms=begun.monotonic_ms
            ),
            begun,
        )
        energy = 0
        for _ in range(METER_SAMPLES):
            now = clock.later(chance.uniform(55, 65))
            power = chance.randint(9_000, 11_000)
            energy += power // 60
            yield SessionMetered(session=session, meter_wh=meter + energy, energy_wh=energy, power_w=power), now
        now = clock.later(chance.uniform(5, 50))
        yield SessionStopRequested(session=session, reason=EndReason.LOCAL, by=card), now
        now = clock.later(chance.uniform(1, 4))
        yield (
            SessionEnded(
                session=session,
                decision=decision,
                credential=card,
                holder=holder,
                place=place,
                charger="left",
                reason=EndReason.LOCAL,
                started=True,
                complete=True,
                interrupted=False,
                authorised_at=first.utc,
                started_at=begun.utc,
                ended_at=now.utc,
                meter_start_wh=meter,
                meter_stop_wh=meter + energy,
                energy_wh=energy,
                duration_s=int((now.utc - begun.utc).total_seconds()),
                duration_source="monotonic",
            ),
            now,
        )


class _Clock:
    """Wall and monotonic clock of one device that was booted long ago."""

    def __init__(self, utc: datetime, boot: str, chance: random.Random) -> None:
        self._utc = utc
        self._boot = boot
        self._chance = chance

    def later(self, seconds: float) -> Instant:
        self._utc += timedelta(milliseconds=int(seconds * 1000))
        return self.now()

    def now(self) -> Instant:
        monotonic_ms = int((self._utc - datetime(2026, 2, 1, tzinfo=UTC)).total_seconds() * 1000)
        return Instant(
            utc=self._utc,
            floor=self._utc,
            monotonic_ms=monotonic_ms,
            boot=self._boot,
            quality=ClockQuality.SYNCHRONISED,
            entropy=self._chance.randbytes(16),
        )


def fill(folder: Path, records: int, *, source: str) -> int:
    """Append so many records to the journal of this folder; returns the last sequence."""
    entries = sessions()
    with Journal.open(folder, source=source, now=next(entries)[1]) as journal:
        while records > 0:
            group = list(itertools.islice(entries, min(GROUP, records)))
            journal.append(group)
            records -= len(group)
        return journal.head().last
