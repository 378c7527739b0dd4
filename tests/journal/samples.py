"""Builders of facts, instants and journals that default everything; and one sample of every fact, for golden files."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from agent.core.answers import Verdict
from agent.core.budgets import Lease, LeaseUse, UsedUp, Want
from agent.core.credentials import Assurance, Credential, reference
from agent.core.facts import (
    AgentStarted,
    AgentStopped,
    BackendAnswered,
    BudgetAsked,
    BudgetGranted,
    ChargerFaulted,
    ChargerFound,
    ChargerLost,
    Checkpoint,
    ClockStepped,
    ClockSynchronised,
    CodeTried,
    ContractClosed,
    ContractOpened,
    DecisionMade,
    EndReason,
    Fact,
    GivenUp,
    Holder,
    JournalOpened,
    Outcome,
    OverrideReceived,
    OverrideUsed,
    PinTried,
    PolicyActivated,
    PolicyRejected,
    PolicyStamp,
    ReaderFound,
    ReaderLost,
    RecordsGivenUp,
    RecordsQuarantined,
    RecordsShed,
    SessionAuthorised,
    SessionContradicted,
    SessionEnded,
    SessionInterrupted,
    SessionMetered,
    SessionPriced,
    SessionResumed,
    SessionSigned,
    SessionStarted,
    SessionStopRequested,
    Trigger,
    UseEnd,
)
from agent.core.instants import ClockQuality, Instant
from agent.core.overrides import MostCost
from agent.core.prices import CostLimit, plain_prices
from agent.core.reasons import Reason, ReasonCode
from agent.core.requests import Place
from agent.core.tariff.tariffs import Basis
from agent.journal import Journal
from sync.ports import Sealed

SOURCE = "/fleets/nordlicht/devices/gw-17"
JOURNAL = "4b8f2c1e-6f0a-4d55-9b1e-0c7a5d3e2f10"
BOOT = "7d0c5e3a-1f2b-4c6d-8e9f-a0b1c2d3e4f5"
MORNING = datetime(2026, 3, 2, 7, 30, tzinfo=UTC)

KEY = hashlib.sha256(b"golden token key").digest()
CARD = Credential(reference=reference(KEY, "04A1B2C3D4E5F6"), assurance=Assurance.STATIC)
HOLDER = Holder(label="card 7", group="vans", driver="d-041", vehicle="v-12", cost_centre="4711")
PLACE = Place(
    evse="DE*ABC*E1234*1", network="DE*ABC", country="DE", site="depot", connector="IEC_62196_T2", power_w=22_000
)

PRICES = plain_prices(
    "EUR", basis=Basis.GROSS, tax_percent=Decimal(20), per_kwh=Decimal("0.66"), until=MORNING + timedelta(days=1)
)

TARIFF = (
    '{"country_code":"DE","party_id":"ABC","id":"12","currency":"EUR","tax_included":"NO","elements":[{"price_components"'
    ':[{"type":"ENERGY","price":0.55,"vat":19,"step_size":1}]}],"last_updated":"2026-01-01T00:00:00Z"}'
)

OCMF = 'OCMF|{"FV":"1.0","PG":"T12","MS":"4711","IS":false,"RD":[]}|{"SD":"3044"}'


def sha256_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


_ticks = itertools.count(1)


def an_instant(
    utc: datetime = MORNING,
    *,
    floor: datetime | None = None,
    quality: ClockQuality = ClockQuality.SYNCHRONISED,
    monotonic_ms: int | None = None,
) -> Instant:
    """Every call has entropy of its own, as in the service."""
    tick = next(_ticks)
    return Instant(
        utc=utc,
        floor=floor or min(utc, MORNING),
        monotonic_ms=tick * 1000 if monotonic_ms is None else monotonic_ms,
        boot=BOOT,
        quality=quality,
        entropy=hashlib.sha256(tick.to_bytes(8, "big")).digest()[:16],
    )


GOLDEN_INSTANT = Instant(
    utc=MORNING + timedelta(milliseconds=250),
    floor=MORNING,
    monotonic_ms=2_592_000_123,  # 30 days of uptime: more than a CloudEvents Integer holds
    boot=BOOT,
    quality=ClockQuality.SYNCHRONISED,
    entropy=bytes(range(16)),
)


def authorised(session: str = "s-1") -> SessionAuthorised:
    return SessionAuthorised(
        session=session,
        decision=f"d-{session}",
        credential=CARD,
        holder=HOLDER,
        place=PLACE,
        reader="front",
        charger="left",
        max_energy_wh=30_000,
        authorised_at=MORNING,
        boot=BOOT,
        monotonic_ms=1_000,
        max_duration_s=14_400,
        target_soc_percent=80,
        cost=CostLimit(prices=PRICES, gross=Decimal("25.00")),
    )


def started(session: str = "s-1") -> SessionStarted:
    return SessionStarted(
        session=session, meter_wh=1_204_500, started_at=MORNING + timedelta(seconds=9), boot=BOOT, monotonic_ms=10_000
    )


def metered(session: str = "s-1", energy_wh: int = 500) -> SessionMetered:
    return SessionMetered(session=session, meter_wh=1_204_500 + energy_wh, energy_wh=energy_wh, power_w=11_000)


def ended(session: str = "s-1") -> SessionEnded:
    return SessionEnded(
        session=session,
        decision=f"d-{session}",
        credential=CARD,
        holder=HOLDER,
        place=PLACE,
        charger="left",
        reason=EndReason.LOCAL,
        started=True,
        complete=True,
        interrupted=False,
        authorised_at=MORNING,
        started_at=MORNING + timedelta(seconds=9),
        ended_at=MORNING + timedelta(hours=1, microseconds=500),
        meter_start_wh=1_204_500,
        meter_stop_wh=1_215_500,
        energy_wh=11_000,
        duration_s=3_591,
        duration_source="monotonic",
    )


def a_refusal() -> DecisionMade:
    return DecisionMade(
        decision="01a204b3-a4b2-702a-b7f9-b202b9001398",
        trigger=Trigger.TAP,
        outcome=Outcome.REFUSED,
        credential=CARD,
        holder=HOLDER,
        place=PLACE,
        reader="front",
        charger=None,
        reasons=(
            Reason(code=ReasonCode.NETWORK, rule="network_allowed", observed="DE*XYZ", limit="DE*ABC", group="vans"),
            Reason(
                code=ReasonCode.TIME_WINDOW, rule="inside_window", observed="Mon 08:30", limit="Mon-Fri 18:00-06:00"
            ),
        ),
        warnings=(Reason(code=ReasonCode.CACHE_STALE, rule="fresh_enough", missing=True),),
        max_energy_wh=None,
        policy=PolicyStamp(revision=12, fingerprint="9f2d4c", age_s=5_400),
        clock=ClockQuality.HOLDOVER,
        text="Nicht in diesem Netz – bitte Depot anrufen",
        support="K7-4QX",
        waited_ms=3,
        ocpi="NOT_ALLOWED",
        ocpp16="Blocked",
        ocpp201="NotAtThisLocation",
        oicp="210",
        prices=PRICES,
        soc_percent=40,
    )


LEASE = Lease(
    id="0c6a2f1e-9d2b-4f7a-8a53-3f6f2a5b9e10",
    budget="drivers/d-041",
    journal=JOURNAL,
    amount=120_000_000,
    per_session=60_000_000,
    not_before=MORNING - timedelta(minutes=5),
    spend_until=MORNING + timedelta(days=3),
    settle_by=MORNING + timedelta(days=10),
    issued_at=MORNING,
    number=41,
)

SAMPLES: tuple[Fact, ...] = (
    a_refusal(),
    BackendAnswered(
        decision="d-1",
        ask="q-1",
        credential=CARD,
        verdict=Verdict.ALLOWED,
        answered_at=datetime(2026, 3, 2, 7, 30, 2, tzinfo=UTC),
        keep_s=86_400,
        jws="eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl",
    ),
    OverrideReceived(
        override="o-1",
        token=CARD.reference,
        waives=("inside_window", "network_allowed"),
        why="the depot is closed for works",
        by="ada",
        issued=datetime(2026, 3, 2, 7, 0, tzinfo=UTC),
        not_after=datetime(2026, 3, 2, 11, 0, tzinfo=UTC),
        jws="eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl",
        max_energy_wh=20_000,
        max_duration_s=7_200,
        max_cost=MostCost(currency="EUR", gross=Decimal("25.00")),
    ),
    OverrideUsed(
        override="break-glass-7",
        decision="d-1",
        credential=CARD,
        by="break-glass code",
        why="no signal, battery empty",
        rules=("network_allowed",),
        counter=7,
    ),
    CodeTried(credential=CARD, reader="front"),
    ContractOpened(
        decision="d-1",
        credential=CARD,
        vehicle="VAN-7",
        opened_at=datetime(2026, 3, 2, 7, 30, tzinfo=UTC),
        boot="0b2f9a5e-7c1d-4e8a-9f3b-6d5c4b3a2f10",
        monotonic_ms=86_400_000,
        lasts_s=86_400,
        session="8F3A6C01D2E4B507",
    ),
    ContractClosed(decision="d-1", reason=UseEnd.ENDED),
    BudgetGranted(
        message=1_772_436_600,
        newest=41,
        held=(LEASE,),
        leases=(LeaseUse(lease=LEASE.id, budget=LEASE.budget, amount=0, consumed=0, reserved=0, count=0),),
        used_up=(UsedUp(budget="vans", until=MORNING + timedelta(days=29)),),
    ),
    BudgetAsked(
        wants=(Want(budget="drivers/d-041", need=60_000_000),),
        closed=(LeaseUse(lease="b1f0", budget="vans", amount=0, consumed=18_250, reserved=0, count=7),),
        leases=(
            LeaseUse(lease=LEASE.id, budget=LEASE.budget, amount=0, consumed=41_870_000, reserved=60_000_000, count=3),
        ),
    ),
    PinTried(driver="d-041", salt="9f2d4c51", right=False),
    authorised(),
    SessionPriced(session="s-1", sha256=sha256_of(TARIFF), document=TARIFF, zone="Europe/Berlin"),
    started(),
    metered(),
    SessionStopRequested(session="s-1", reason=EndReason.LOCAL, by=CARD),
    SessionInterrupted(session="s-1", last_meter_wh=1_205_000),
    SessionResumed(session="s-1", meter_wh=None),
    ended(),
    SessionContradicted(session=None, charger="left", event="Metered", phase="none", meter_wh=7),
    SessionSigned(
        session="s-1",
        charger="left",
        format="OCMF",
        sha256=sha256_of(OCMF),
        part=1,
        parts=1,
        text=OCMF,
        public_key="3059301306072a8648ce3d020106082a8648ce3d030107034200",
    ),
    AgentStarted(version="0.1.0", boot=BOOT, open_sessions=1, policy_revision=None),
    AgentStopped(open_sessions=0),
    ReaderFound(reader="front", model="PN532", firmware="1.6", findings=("answers late",)),
    ReaderLost(reader="front", cause="no answer on /dev/ttyUSB0"),
    ChargerFound(charger="left", state="available"),
    ChargerLost(charger="left", cause="the port is gone"),
    ChargerFaulted(charger="left", code="GroundFailure"),
    PolicyActivated(revision=12, fingerprint="9f2d4c", previous_revision=None, tokens=340),
    PolicyRejected(error="BadVersionNumberError", detail="timestamp 11 is older than 12", kept_revision=12),
    ClockStepped(step_ms=-86_400_000, quality=ClockQuality.UNKNOWN),
    ClockSynchronised(boot=BOOT, offset_ms=1_769_845_800_127, was=ClockQuality.UNKNOWN),
    JournalOpened(reason="corrupt", predecessor="0f0e0d0c-0b0a-4908-8706-050403020100", salvaged=41),
    RecordsQuarantined(journal=JOURNAL, sequences=(4, 9), reasons=("too large", "unknown type")),
    RecordsShed(kind="session.metered", count=41, sessions=("s-1", "s-2"), reason="storage scarce"),
    RecordsGivenUp(
        what=GivenUp.ACKNOWLEDGED,
        journal=JOURNAL,
        first=1,
        last=500,
        count=500,
        reason="little room: 61% of 1024 KiB used",
    ),
    Checkpoint(jws="eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"),
)


def at(*facts: Fact, now: Instant | None = None) -> list[tuple[Fact, Instant]]:
    """Entries as the journal takes them."""
    return [(fact, now or an_instant()) for fact in facts]


def open_journal(folder: Path, *, source: str = SOURCE, now: Instant | None = None) -> Journal:
    return Journal.open(folder, source=source, now=now or an_instant())


def bodies_of(journal: Journal) -> list[bytes]:
    return [one.body for one in everything(journal)]


def everything(journal: Journal) -> Sequence[Sealed]:
    return journal.read(0, records=1_000_000, size_bytes=1_000_000_000)
