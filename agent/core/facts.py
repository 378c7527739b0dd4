"""What happened: the facts that the journal keeps and the backend receives, in the past tense.

A fact's bytes are made in agent/wire.py; sessions are folded from these in sessions.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from agent.core.answers import Heard, Mode, Verdict, Whitelist
from agent.core.budgets import Lease, LeaseUse, UsedUp, Want
from agent.core.credentials import Credential
from agent.core.instants import ClockQuality
from agent.core.overrides import MostCost
from agent.core.policy import Freshness
from agent.core.prices import CostLimit, Prices
from agent.core.reasons import Ground, Reason
from agent.core.requests import Place
from agent.core.running_cost import Cost


class Outcome(StrEnum):
    GRANTED = "granted"
    OVERRIDE = "granted_by_override"
    REFUSED = "refused"
    NEEDS_INPUT = "needs_input"


class Trigger(StrEnum):
    """Who asked for the decision."""

    TAP = "tap"
    REQUEST = "request"


class UseEnd(StrEnum):
    """Why a contract is no longer in use: its session ended, or nothing was signed after all."""

    ENDED = "ended"
    CHALLENGE_USED = "challenge_used"
    KEY_UNAVAILABLE = "key_unavailable"
    STORAGE = "storage"
    FAILED = "failed"


class EndReason(StrEnum):
    """Why a session ended; words of OCPP 2.0.1 ReasonEnumType where it has one."""

    LOCAL = "Local"
    EV_DISCONNECTED = "EVDisconnected"
    ENERGY_LIMIT = "EnergyLimitReached"
    STOPPED_BY_EV = "StoppedByEV"
    FAULT = "Other"
    POWER_LOSS = "PowerLoss"
    TIMEOUT = "Timeout"
    TIME_LIMIT = "TimeLimitReached"
    SOC_LIMIT = "SOCLimitReached"
    COST_LIMIT = "LocalOutOfCredit"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyStamp:
    """Which policy decided and how old it was; `state` is its rung of the staleness ladder."""

    revision: int
    fingerprint: str
    age_s: int
    state: Freshness | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Whose token it is, as the policy had it at that moment: the cost allocation of a session."""

    label: str | None = None
    group: str | None = None
    parent: str | None = None
    driver: str | None = None
    vehicle: str | None = None
    cost_centre: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionMade:
    """A yes or no and all of why. `ocpi` to `oicp`: the same verdict in the peers' words (statuses.py)."""

    decision: str
    trigger: Trigger
    outcome: Outcome
    credential: Credential
    holder: Holder
    place: Place
    reader: str | None
    charger: str | None
    reasons: tuple[Reason, ...]
    warnings: tuple[Reason, ...]
    max_energy_wh: int | None
    policy: PolicyStamp | None
    clock: ClockQuality
    text: str
    support: str
    waited_ms: int
    ocpi: str
    ocpp16: str
    ocpp201: str
    oicp: str
    max_duration_s: int | None = None
    target_soc_percent: int | None = None
    cost: CostLimit | None = None
    prices: Prices | None = None
    soc_percent: int | None = None
    pin_proven: bool | None = None
    odometer_km: int | None = None
    mode: Mode | None = None
    whitelist: Whitelist | None = None
    backend: Heard | None = None
    override: str | None = None
    override_by: str | None = None
    override_why: str | None = None
    waived: tuple[Reason, ...] | None = None
    grounds: tuple[Ground, ...] | None = None
    leases: tuple[LeaseUse, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendAnswered:
    """The backend's signed answer, in time, to the question that this decision asked. Silence leaves no record."""

    decision: str
    ask: str
    credential: Credential
    verdict: Verdict
    answered_at: datetime
    keep_s: int
    jws: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideReceived:
    """A signed one-time override for a card at this device; good until it is used, or `not_after`."""

    override: str
    token: str
    waives: tuple[str, ...]
    why: str
    by: str
    issued: datetime
    not_after: datetime
    jws: str
    max_energy_wh: int | None = None
    max_duration_s: int | None = None
    max_cost: MostCost | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideUsed:
    """Used up by this decision, for ever: recorded with it, before anybody saw a green light.

    `jws` proves it; a break-glass code has none, and only the fleet can check its counter.
    """

    override: str
    decision: str
    credential: Credential
    by: str
    why: str
    rules: tuple[str, ...]
    jws: str | None = None
    counter: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTried:
    """Somebody gave a break-glass code that is none of this card at this device. Five in a row slow it down."""

    credential: Credential
    reader: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractOpened:
    """A signature with an ISO 15118 contract was permitted by this decision: from now on the contract is in use.

    It counts as a session of the contract and of the vehicle until a ContractClosed of the same decision, at most
    `lasts_s`. `session` is what the vehicle's own software calls its session.
    """

    decision: str
    credential: Credential
    vehicle: str | None
    opened_at: datetime
    boot: str
    monotonic_ms: int
    lasts_s: int
    session: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractClosed:
    """The contract is no longer in use. For every `reason` but `ended` there is no signature and was no session."""

    decision: str
    reason: UseEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class PinTried:
    """A driver gave a PIN. Five wrong ones in a row lock it, also over a restart. `salt` names the PIN."""

    driver: str
    salt: str
    right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionAuthorised:
    session: str
    decision: str
    credential: Credential
    holder: Holder
    place: Place
    reader: str | None
    charger: str
    max_energy_wh: int | None
    authorised_at: datetime
    boot: str
    monotonic_ms: int
    max_duration_s: int | None = None
    target_soc_percent: int | None = None
    cost: CostLimit | None = None
    odometer_km: int | None = None
    prices: Prices | None = None
    leases: tuple[LeaseUse, ...] | None = None
    route: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPriced:
    """The tariff that was shown, and by which this session is counted: OCPI JSON, exactly as it came.

    With each session, so that its records alone prove its price. `zone` is the location's, IANA.
    """

    session: str
    sha256: str
    document: str
    zone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted:
    """`clock` tells how far `started_at` can be believed; a ClockSynchronised of the same boot corrects it."""

    session: str
    meter_wh: int
    started_at: datetime
    boot: str
    monotonic_ms: int
    clock: ClockQuality | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionMetered:
    """`duration_ms` is the session's so far, `cost` what would have to be paid if it ended now."""

    session: str
    meter_wh: int
    energy_wh: int
    power_w: int | None
    duration_ms: int | None = None
    cost: Cost | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStopRequested:
    """`by` is the credential that stopped it (same token, or another of its parent group), or None for a limit."""

    session: str
    reason: EndReason
    by: Credential | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInterrupted:
    """The agent was not watching (crash, power loss, restart); what the charger did meanwhile is yet unknown."""

    session: str
    last_meter_wh: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionResumed:
    session: str
    meter_wh: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded:
    """The bill's basis. `complete` is false when the end was not seen and the figures are the last known ones.

    `duration_source`: "monotonic"; across a reboot "wall" (the difference of two wall clocks that are believed) or
    "at_least" (one of them was not: so long at least, and the records' corrected times tell more); "none".
    """

    session: str
    decision: str
    credential: Credential
    holder: Holder
    place: Place
    charger: str
    reason: EndReason
    started: bool
    complete: bool
    interrupted: bool
    authorised_at: datetime
    started_at: datetime | None
    ended_at: datetime
    meter_start_wh: int | None
    meter_stop_wh: int | None
    energy_wh: int
    duration_s: int
    duration_source: str
    cost: Cost | None = None
    leases: tuple[LeaseUse, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSigned:
    """A signed record of the charger's meter about this session (OCMF and the like), byte for byte, or a part of it.

    One that names a card is kept in a `box`: base64 of nonce and AES-256-GCM under a key made from the fleet's token
    key, since no card number may stand in a journal. `sha256` is of the whole record's own bytes. Whose key signed it
    has to be known from elsewhere: `public_key` is only what the charger said.
    """

    session: str
    charger: str
    format: str
    sha256: str
    part: int
    parts: int
    text: str | None = None
    box: str | None = None
    public_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionContradicted:
    """The charger said something that does not fit the session: kept as told, changed nothing."""

    session: str | None
    charger: str
    event: str
    phase: str
    meter_wh: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetGranted:
    """Leases of budgets came from the backend. The record tells all that this device holds, whatever came before it.

    `held` are the leases as they were signed, `leases` what became of each here so far, `used_up` the budgets of which
    the backend has nothing left to lend.
    """

    message: int
    newest: int
    held: tuple[Lease, ...]
    leases: tuple[LeaseUse, ...]
    used_up: tuple[UsedUp, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetAsked:
    """The device asks for leases, and gives back what is left of those that it will not use any more (`closed`).

    `leases` are those that it goes on with, cumulative, as in the records of the sessions.
    """

    wants: tuple[Want, ...]
    closed: tuple[LeaseUse, ...]
    leases: tuple[LeaseUse, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStarted:
    version: str
    boot: str
    open_sessions: int
    policy_revision: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStopped:
    open_sessions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderFound:
    reader: str
    model: str
    firmware: str
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderLost:
    reader: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargerFound:
    charger: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargerLost:
    charger: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargerFaulted:
    charger: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyActivated:
    revision: int
    fingerprint: str
    previous_revision: int | None
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRejected:
    """An offered bundle was refused and the active one kept. `error` is the TUF reason or our own check's name."""

    error: str
    detail: str
    kept_revision: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStepped:
    """The wall clock moved against the monotonic one. Records keep the time they were sealed with."""

    step_ms: int
    quality: ClockQuality


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSynchronised:
    """The wall clock is right for the first time in this boot: what the monotonic clock of this boot counts from.

    Any record of the same `boot`, before or after this one, happened at `offset_ms` + its `monotonicms`, in
    milliseconds since 1970-01-01T00:00Z. That corrects records sealed while the clock was still wrong (1970, a
    battery gone flat); the records themselves are never rewritten, so a reader keeps both times. `was` is the quality
    before. Without network time for a whole boot there is no such record, and order is all that is known.
    """

    boot: str
    offset_ms: int
    was: ClockQuality


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalOpened:
    """The first record of every journal. `predecessor` names the journal that was lost or moved aside, if known.

    `reason`: "created"; "storage lost"; "corrupt" (moved aside; `salvaged` records could be read, those that the
    backend lacks are delivered under the old journal's id); "device changed"; "diverged" (the backend holds another
    continuation than this device: its storage lost what it had confirmed, or an older image was restored. Both agree
    up to `agreed`; what this device recorded after that follows here, sealed anew).
    """

    reason: str
    predecessor: str | None
    salvaged: int | None
    agreed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsQuarantined:
    """The backend could not take these records; they stay here and are not sent again by themselves."""

    journal: str
    sequences: tuple[int, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsShed:
    """Facts that were given up before they were sealed, because room was short.

    `kind` is their type without its prefix (only "session.metered": the meter is cumulative, so the next sample or
    the end says the same and more). `sessions` names at most 20 of those concerned, `count` counts all that were lost.
    """

    kind: str
    count: int
    sessions: tuple[str, ...]
    reason: str


class GivenUp(StrEnum):
    """What was deleted before its time."""

    ACKNOWLEDGED = "acknowledged"  # records that the backend has
    COPIES = "quarantined"  # copies of records that the backend could not take


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsGivenUp:
    """Sealed records deleted here before their time, because room was short; only what the backend has, or refused.

    `count` of them, with sequences from `first` to `last`. It is recorded in the transaction that deletes them.
    """

    what: GivenUp
    journal: str
    first: int
    last: int
    count: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A JWS of the device's key over journal id, sequence and hash of the record before this one."""

    jws: str


SessionFact = (
    SessionAuthorised
    | SessionPriced
    | SessionStarted
    | SessionMetered
    | SessionStopRequested
    | SessionInterrupted
    | SessionResumed
    | SessionEnded
)

Fact = (
    DecisionMade
    | BackendAnswered
    | OverrideReceived
    | OverrideUsed
    | CodeTried
    | PinTried
    | ContractOpened
    | ContractClosed
    | SessionFact
    | SessionContradicted
    | SessionSigned
    | BudgetGranted
    | BudgetAsked
    | AgentStarted
    | AgentStopped
    | ReaderFound
    | ReaderLost
    | ChargerFound
    | ChargerLost
    | ChargerFaulted
    | PolicyActivated
    | PolicyRejected
    | ClockStepped
    | ClockSynchronised
    | JournalOpened
    | RecordsQuarantined
    | RecordsShed
    | RecordsGivenUp
    | Checkpoint
)
