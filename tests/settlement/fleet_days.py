"""Sessions of a fleet as their devices seal them and a backend stores them, built from a few words each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from agent.core.facts import EndReason, Fact, Holder, SessionAuthorised, SessionEnded, SessionMetered, SessionStarted
from agent.core.instants import ClockQuality, Instant
from agent.core.quotes import Quote
from agent.core.requests import Place
from agent.core.sessions import ended as ended_by
from agent.core.sessions import fold, priced_by
from agent.ocpi.quotes import quote_of, read_quote
from agent.wire import GENESIS, hash_of, seal, source_of
from sync.backend.records import read_record
from sync.backend.store import Delivery, Store
from tests.journal.samples import CARD, MORNING

FLEET = "meadow"
TARIFF = (
    '{"country_code":"DE","party_id":"ABC","id":"T1","currency":"EUR","elements":[{"price_components":['
    '{"type":"FLAT","price":1.00,"vat":25,"step_size":1},{"type":"ENERGY","price":0.40,"vat":25,"step_size":1},'
    '{"type":"PARKING_TIME","price":6.00,"vat":25,"step_size":60}]}],"last_updated":"2026-01-01T00:00:00Z"}'
)
QUOTE = read_quote(TARIFF, "Europe/Berlin")
HOLDER = Holder(label="card 7", group="vans", driver="anna", vehicle="van-7", cost_centre="4711")
PLACE = Place(evse="DE*ABC*E1*1", network="DE*ABC", country="DE", site="depot", connector="IEC_62196_T2")


@dataclass(kw_only=True)
class Drive:
    """One session: it began so long after the morning, took so much, and stood some time afterwards."""

    id: str
    minutes: float = 0
    kwh: str = "10"
    charging_min: int = 60
    parked_min: int = 0
    quote: Quote | None = field(default_factory=lambda: QUOTE)
    place: Place = PLACE
    holder: Holder = HOLDER
    route: str | None = "tour 5"
    complete: bool = True

    def facts(self) -> list[tuple[Fact, Instant]]:
        wh = int(Decimal(self.kwh) * 1000)
        begun = SessionAuthorised(
            session=self.id, decision=f"d-{self.id}", credential=CARD, holder=self.holder, place=self.place,
            reader="front", charger="left", max_energy_wh=None, authorised_at=self.at(0).utc, boot="b",
            monotonic_ms=self.at(0).monotonic_ms, route=self.route, odometer_km=12_345,
        )  # fmt: skip
        start = SessionStarted(
            session=self.id, meter_wh=5_000, started_at=self.at(0).utc, boot="b",
            monotonic_ms=self.at(0).monotonic_ms, clock=ClockQuality.SYNCHRONISED,
        )  # fmt: skip
        sample = SessionMetered(
            session=self.id, meter_wh=5_000 + wh, energy_wh=wh, power_w=10_000, duration_ms=self.charging_min * 60_000
        )
        shown = () if self.quote is None else (priced_by(self.id, self.quote),)
        facts: list[Fact] = [begun, *shown, start, sample]
        session = fold(facts, quote_of)  # type: ignore[arg-type]
        assert session is not None
        over = self.at(self.charging_min + self.parked_min)
        end = ended_by(session, reason=EndReason.LOCAL, meter_wh=5_000 + wh, complete=self.complete, now=over)
        return [
            *((fact, self.at(0)) for fact in facts[:-1]),
            (sample, self.at(self.charging_min)),
            (end, over),
        ]

    def at(self, minutes: float) -> Instant:
        passed = timedelta(minutes=self.minutes + minutes)
        return Instant(
            utc=MORNING + passed, floor=MORNING, monotonic_ms=int(passed.total_seconds() * 1000) + 1_000, boot="b",
            quality=ClockQuality.SYNCHRONISED, entropy=hashlib.sha256(f"{self.id}{minutes}".encode()).digest()[:16],
        )  # fmt: skip

    @property
    def began(self) -> datetime:
        return self.at(0).utc

    @property
    def ended(self) -> datetime:
        return self.at(self.charging_min + self.parked_min).utc


def sealed(entries: Iterable[tuple[Fact, Instant]], *, device: str = "van-7", journal: str = "j-1") -> list[bytes]:
    """As one journal, from its first record on."""
    bodies: list[bytes] = []
    for sequence, (fact, now) in enumerate(entries, 1):
        previous = hash_of(bodies[-1]) if bodies else GENESIS
        source = source_of(FLEET, device)
        bodies.append(seal(fact, sequence=sequence, previous=previous, journal=journal, source=source, now=now))
    return bodies


def a_backend(path: Path, drives: Sequence[Drive], *more: tuple[Fact, Instant]) -> Path:
    bodies = sealed([*(entry for drive in drives for entry in drive.facts()), *more])
    store_into(path, bodies)
    return path


def store_into(path: Path, bodies: Sequence[bytes], device: str = "van-7") -> None:
    lines = tuple(read_record(body, source_of(FLEET, device)) for body in bodies)
    with closing(Store(path)) as store:
        store.take([Delivery(device=device, lines=lines)])


def elsewhere(evse: str) -> Place:
    return replace(PLACE, evse=evse)


def ends(drives: Iterable[Drive]) -> list[SessionEnded]:
    return [fact for drive in drives for fact, _ in drive.facts() if isinstance(fact, SessionEnded)]
