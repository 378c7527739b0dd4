"""A fleet, a device and sessions at it, made of the real parts without a service: what evidence is collected from."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.cache.cache import Activated, PolicyCache
from agent.core.credentials import Assurance, Credential, key_check, reference
from agent.core.decisions import Granted, decide
from agent.core.facts import (
    DecisionMade,
    EndReason,
    Fact,
    Holder,
    Outcome,
    PolicyStamp,
    SessionAuthorised,
    SessionEnded,
    SessionStarted,
    Trigger,
)
from agent.core.instants import ClockQuality, Instant
from agent.core.requests import Place, Request, Usage
from agent.evidence.collection import documents_of, span_of
from agent.evidence.document import Evidence
from agent.journal import Journal
from agent.vault import Vault
from sync.backend.publisher import Publisher
from sync.carriers import FolderCarrier
from sync.signing import generate

FLEET, DEVICE = "meadow", "van-7"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
TOKEN_KEY = bytes(range(32))
CARD = Credential(reference=reference(TOKEN_KEY, "04A1B2C3D4E5F6"), assurance=Assurance.STATIC)
HOLDER = Holder(label="card 7", group="vans", driver="anna", vehicle="van-7", cost_centre="4711")
PLACE = Place(evse="DE*ABC*E1*1", network="DE*ABC", country="DE", site="depot")
GROUPS: dict[str, Any] = {
    "fleet": {"countries": ["DE", "NL"]},
    "vans": {"parent": "fleet", "networks": ["DE*ABC"], "max_energy_wh": 40_000},
}


def at(minutes: float = 0) -> Instant:
    """Noon plus this many minutes, on all clocks."""
    return Instant(
        utc=NOON + timedelta(minutes=minutes),
        floor=NOON - timedelta(days=1),
        monotonic_ms=int(minutes * 60_000) + 10_000_000,
        boot="boot-1",
        quality=ClockQuality.SYNCHRONISED,
        entropy=str(minutes).encode(),
    )


@dataclass
class Case:
    """Open until `close`. `publishes` is the fleet office, `charges` a session from tap to checkpoint."""

    folder: Path
    device: str = DEVICE
    vouched: bool = True
    groups: dict[str, Any] = field(default_factory=lambda: GROUPS)
    revoked: list[str] = field(default_factory=list)
    publisher: Publisher = field(init=False)
    vault: Vault = field(init=False)
    cache: PolicyCache = field(init=False)
    journal: Journal = field(init=False)
    bootstrap: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.publisher = Publisher.init(self.folder / "office", fleet=FLEET, now=NOON - timedelta(days=1))
        self.bootstrap = self.publisher.root
        (self.folder / "token.key").write_bytes(TOKEN_KEY)
        self.vault = Vault.open(self.folder / "vault", token_key=self.folder / "token.key")
        self.cache = self._opened_cache()
        self.journal = Journal.open(
            self.folder / "journal", source=f"/fleets/{FLEET}/devices/{self.device}", now=at(-1)
        )
        self.publishes()

    def _opened_cache(self) -> PolicyCache:
        return PolicyCache(self.folder / "policy", fleet=FLEET, root=self.bootstrap, key=TOKEN_KEY, now=at())

    def reopens_its_cache(self) -> None:
        self.cache.close()
        self.cache = self._opened_cache()

    def publishes(self, *, minutes: float = 0, vouched: bool | None = None) -> None:
        """Publish, and let the device take it."""
        self.vouched = self.vouched if vouched is None else vouched
        self.publisher.publish(self.documents(), now=NOON + timedelta(minutes=minutes))
        self.takes(minutes=minutes)

    def takes(self, *, minutes: float = 0) -> None:
        update = self.cache.update(FolderCarrier(self.folder / "office" / "repository"), at(minutes))
        assert isinstance(asyncio.run(update), Activated)

    def documents(self) -> dict[str, bytes]:
        service = generate()
        ours = {"device": self.device, "keys": [{"kid": self.vault.kid, "jwk": self.vault.public}]}
        other = generate()
        theirs = {"device": "van-8", "keys": [{"kid": other.kid, "jwk": json.loads(other.public_jwk)}]}
        made: dict[str, Any] = {
            "policy.json": {
                "schema": 1,
                "fleet": FLEET,
                "revision": self.publisher.next_version,
                "issued": "2026-11-22T12:00:00Z",
                "key_check": key_check(TOKEN_KEY),
                "groups": self.groups,
            },
            "people.json": {"schema": 1, "drivers": [{"id": "anna"}]},
            "vehicles.json": {"schema": 1, "vehicles": [{"id": "van-7"}]},
            "keys.json": {
                "schema": 1,
                "keys": [{"kid": service.kid, "use": "ack", "jwk": json.loads(service.public_jwk)}],
            },
            "devices.json": {"schema": 1, "devices": [theirs, *([ours] if self.vouched else [])]},
            **({"revoked.json": {"schema": 1, "revoked": self.revoked}} if self.revoked else {}),
        }
        return {name: json.dumps(document).encode() for name, document in made.items()}

    def charges(self, session: str = "s-1", *, minute: float = 0, **changes: Any) -> None:
        self.journal.append([(fact, at(minute)) for fact in self.tap(session, minute, **changes)])
        self.journal.append([(self.start(session, minute), at(minute))])
        self.journal.append([(self.end(session, minute), at(minute + 60))])
        self.journal.seal_checkpoint(self.vault, at(minute + 60))

    def tap(self, session: str, minute: float, **changes: Any) -> tuple[Fact, Fact]:
        active = self.cache.active
        assert active is not None
        age_s = int((at(minute).utc - active.policy.confirmed).total_seconds())
        stamp = PolicyStamp(revision=active.policy.revision, fingerprint=active.policy.fingerprint, age_s=age_s)
        asked = Request(credential=CARD, token=None, place=PLACE)
        assert not isinstance(decide(asked, active.policy, Usage(), at(minute)), Granted)  # nobody without a token
        made = DecisionMade(
            decision=f"d-{session}",
            trigger=Trigger.TAP,
            outcome=Outcome.GRANTED,
            credential=CARD,
            holder=HOLDER,
            place=PLACE,
            reader="front",
            charger="left",
            reasons=(),
            warnings=(),
            max_energy_wh=40_000,
            policy=stamp,
            clock=ClockQuality.SYNCHRONISED,
            text="Charge now.",
            support="K7Q2",
            waited_ms=0,
            ocpi="ALLOWED",
            ocpp16="Accepted",
            ocpp201="Accepted",
            oicp="000",
        )
        made = replace(made, **changes)
        begun = SessionAuthorised(
            session=session,
            decision=made.decision,
            credential=CARD,
            holder=HOLDER,
            place=made.place,
            reader="front",
            charger="left",
            max_energy_wh=40_000,
            authorised_at=at(minute).utc,
            boot="boot-1",
            monotonic_ms=at(minute).monotonic_ms,
        )
        return made, begun

    def start(self, session: str, minute: float) -> SessionStarted:
        return SessionStarted(session=session, meter_wh=1_000, started_at=at(minute).utc, boot="boot-1", monotonic_ms=1)

    def end(self, session: str, minute: float) -> SessionEnded:
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
            authorised_at=at(minute).utc,
            started_at=at(minute).utc,
            ended_at=at(minute + 60).utc,
            meter_start_wh=1_000,
            meter_stop_wh=12_500,
            energy_wh=11_500,
            duration_s=3_600,
            duration_source="monotonic",
        )

    def evidence(self, session: str = "s-1") -> Evidence:
        span = span_of(self.journal, session)
        active = self.cache.active
        assert active is not None
        bundles, _ = self.bundles(session)
        return Evidence(
            fleet=FLEET,
            device=self.device,
            session=session,
            records=tuple(self.bodies(span.first, span.last)),
            device_key=self.vault.public,
            roots=tuple(self.cache.archive.roots()),
            bundles=tuple(bundles),
        )

    def bundles(self, session: str = "s-1") -> tuple[Sequence[Any], list[str]]:
        active = self.cache.active
        assert active is not None
        return documents_of(
            self.cache.archive,
            deciding=span_of(self.journal, session).fingerprint,
            active=active.policy.fingerprint,
            device=self.device,
            kid=self.vault.kid,
        )

    def bodies(self, first: int, last: int) -> list[bytes]:
        held = self.journal.read(first - 1, records=last - first + 1, size_bytes=10**9)
        return [each.body for each in held]

    def close(self) -> None:
        self.journal.close()
        self.cache.close()
