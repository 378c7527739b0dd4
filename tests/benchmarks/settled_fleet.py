"""A backend's database and a network's bill of any size: sessions at 400 EVSEs, one CDR in a hundred wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from agent.core.facts import EndReason, Fact, SessionAuthorised, SessionEnded, SessionStarted
from agent.core.instants import ClockQuality, Instant
from agent.core.prices import plain_prices
from agent.core.requests import Place
from agent.core.running_cost import Cost
from agent.core.tariff.tariffs import Basis
from agent.wire import GENESIS, hash_of, seal, source_of
from sync.backend.records import read_record
from sync.backend.store import Delivery, Store
from tests.journal.samples import CARD, HOLDER, MORNING

FLEET, DEVICE, JOURNAL = "meadow", "van-7", "j-1"
EVSES = 400
BATCH = 3_000
PRICES = plain_prices("EUR", basis=Basis.NET, tax_percent=Decimal(25), per_kwh=Decimal("0.40"))


def a_large_fleet(path: Path, sessions: int) -> Path:
    """Through the receiver's own store, without its network."""
    source = source_of(FLEET, DEVICE)
    with closing(Store(path)) as store:
        waiting = []
        for body in bodies(sessions, source):
            waiting.append(read_record(body, source))
            if len(waiting) >= BATCH:
                store.take([Delivery(device=DEVICE, lines=tuple(waiting))])
                waiting.clear()
        store.take([Delivery(device=DEVICE, lines=tuple(waiting))])
    return path


def bodies(sessions: int, source: str) -> Iterator[bytes]:
    previous, sequence = GENESIS, 0
    for number in range(sessions):
        for fact, now in session(number):
            sequence += 1
            body = seal(fact, sequence=sequence, previous=previous, journal=JOURNAL, source=source, now=now)
            previous = hash_of(body)
            yield body


def began(number: int) -> datetime:
    """Two hours apart at each EVSE."""
    return MORNING + timedelta(hours=2 * (number // EVSES), seconds=number % EVSES)


def energy_wh(number: int) -> int:
    return 4_000 + number * 7_919 % 40_000


def evse(number: int) -> str:
    return f"DE*ABC*E{number % EVSES:05}"


def session(number: int) -> Iterator[tuple[Fact, Instant]]:
    start, over = began(number), began(number) + timedelta(hours=1)
    place = Place(evse=evse(number), network="DE*ABC", country="DE")
    ids = {"session": f"s-{number}", "decision": f"d-{number}", "credential": CARD, "holder": HOLDER, "place": place}
    net = Decimal(energy_wh(number)) / 1000 * Decimal("0.40")
    yield (
        SessionAuthorised(
            **ids, reader="front", charger="left", max_energy_wh=None, authorised_at=start, boot="b",
            monotonic_ms=number, prices=PRICES,
        ),
        an_instant(start, number),
    )  # fmt: skip
    yield (
        SessionStarted(
            session=f"s-{number}", meter_wh=0, started_at=start, boot="b", monotonic_ms=number,
            clock=ClockQuality.SYNCHRONISED,
        ),
        an_instant(start, number),
    )  # fmt: skip
    yield (
        SessionEnded(
            **ids, charger="left", reason=EndReason.LOCAL, started=True, complete=True, interrupted=False,
            authorised_at=start, started_at=start, ended_at=over, meter_start_wh=0, meter_stop_wh=energy_wh(number),
            energy_wh=energy_wh(number), duration_s=3_600, duration_source="monotonic",
            cost=Cost(currency="EUR", net=net, gross=net * Decimal("1.25")),
        ),
        an_instant(over, number),
    )  # fmt: skip


def an_instant(utc: datetime, number: int) -> Instant:
    return Instant(
        utc=utc, floor=MORNING, monotonic_ms=number, boot="b", quality=ClockQuality.SYNCHRONISED,
        entropy=number.to_bytes(8, "big"),
    )  # fmt: skip


def a_large_bill(path: Path, cdrs: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for number in range(cdrs):
            file.write(json.dumps(a_cdr(number)) + "\n")
    return path


def a_cdr(number: int) -> dict[str, object]:
    kwh = energy_wh(number) / 1000 + (3 if number % 100 == 17 else 0)
    net = round(kwh * 0.40, 4)
    start = began(number)
    return {
        "country_code": "DE", "party_id": "ABC", "id": f"N-{number}", "start_date_time": stamp(start),
        "end_date_time": stamp(start + timedelta(hours=1)), "cdr_location": {"id": "L", "evse_id": evse(number)},
        "currency": "EUR", "total_energy": kwh, "total_time": 1,
        "charging_periods": [
            {"start_date_time": stamp(start), "dimensions": [{"type": "ENERGY", "volume": kwh}]},
        ],
        "total_cost": {"excl_vat": net, "incl_vat": round(net * 1.25, 4)},
        "last_updated": stamp(start + timedelta(hours=2)),
    }  # fmt: skip


def stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
