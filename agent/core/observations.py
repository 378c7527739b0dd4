"""What was seen, by readers, chargers, the clock, the network and people. Input of agent.core.agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from agent.core.answers import Answer
from agent.core.budgets import Holdings, Lease
from agent.core.credentials import CardDoubt, Credential
from agent.core.facts import ClockSynchronised, PolicyRejected, RecordsQuarantined, UseEnd
from agent.core.history import History
from agent.core.instants import ClockQuality
from agent.core.overrides import Override
from agent.core.policy import Policy, Token
from agent.core.requests import NOTHING, Place, Signs, Told
from agent.core.sessions import Session
from agent.core.whereabouts import Fix


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """A credential with what the token table says of it, looked up by the shell. With a `doubt` it is only a claim."""

    credential: Credential
    token: Token | None
    lookup_failed: bool = False
    doubt: CardDoubt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighted:
    """One look of a reader at its field; nothing presented when the field is empty. Taps come out of presence.py."""

    reader: str
    presented: tuple[Presented, ...]
    monotonic_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tapped:
    """A tap injected by a person or a program: as if presented, without a presence to wait for."""

    reader: str
    presented: Presented
    request: str | None = None
    told: Told = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRequested:
    """The gateway's own software asks whether this credential may charge; nothing is started.

    `signs`: the credential is a contract, and a yes takes it into use.
    """

    request: str
    presented: Presented
    charger: str | None
    place: Place
    told: Told = NOTHING
    signs: Signs | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractReleased:
    """The session for which this decision let a contract sign has ended, or nothing was signed."""

    decision: str
    reason: UseEnd
    request: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderFound:
    reader: str
    model: str
    firmware: str
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderLost:
    reader: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Positioned:
    """Somebody measured where the device is."""

    fix: Fix


@dataclass(frozen=True, slots=True, kw_only=True)
class PluggedIn:
    """`evse`: which charging point this is, if the link to it says so."""

    charger: str
    evse: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplugged:
    charger: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingStarted:
    charger: str
    session: str | None
    meter_wh: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    charger: str
    session: str | None
    meter_wh: int
    power_w: int | None
    soc_percent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterSigned:
    """The charger's meter has signed a record; `content` is its text, or a box of it (agent/signed_meter.py)."""

    charger: str
    session: str | None
    format: str
    sha256: str
    content: str = field(repr=False)
    boxed: bool = False
    public_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingStopped:
    charger: str
    session: str | None
    meter_wh: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Faulted:
    charger: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargerFound:
    """The link stands (again) and this is what the charger is doing now; `charging` with or without our session."""

    charger: str
    charging: bool
    state: str
    session: str | None
    meter_wh: int | None
    evse: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargerLost:
    charger: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyActivated:
    policy: Policy
    tokens: int
    announce: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """Something the shell found out that changes no session but belongs in the journal."""

    fact: PolicyRejected | RecordsQuarantined | ClockSynchronised


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStepped:
    step_ms: int
    quality: ClockQuality


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageChanged:
    full: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Woken:
    """The service has started: these sessions were open in the journal, and this is what else it remembers."""

    version: str
    sessions: tuple[Session, ...]
    history: History = field(default_factory=History)
    holdings: Holdings = field(default_factory=Holdings)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantReceived:
    """The backend's newest word on our leases, signed by it. `replaces`: leases to give back once the new are here."""

    number: int
    leases: tuple[Lease, ...]
    used_up: Mapping[str, datetime]
    replaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalChanged:
    """The journal began anew under this id: storage was lost or replaced, or it parted from the backend's."""

    journal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """The service stops cleanly; running sessions stay open and are resumed at the next start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendAnswered:
    """The backend's answer to a question of ours; that it is genuine and for this very question is proven."""

    ask: str
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChanged:
    """Whether the backend can be asked now, as far as the link tells: a half-open link tells nothing."""

    up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideOffered:
    """An override for this device has come, by whatever way; its signature is proven."""

    override: Override


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A time asked for with WakeAt has come."""


Observation = (
    Sighted
    | Tapped
    | DecisionRequested
    | ContractReleased
    | ReaderFound
    | ReaderLost
    | Positioned
    | PluggedIn
    | Unplugged
    | ChargingStarted
    | Metered
    | ChargingStopped
    | MeterSigned
    | Faulted
    | ChargerFound
    | ChargerLost
    | PolicyActivated
    | Noted
    | ClockStepped
    | StorageChanged
    | Woken
    | GrantReceived
    | JournalChanged
    | Leaving
    | BackendAnswered
    | LinkChanged
    | OverrideOffered
    | Tick
)
