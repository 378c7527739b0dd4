"""A contract in the wallet: its state, and which of several is used. Keeping them on disk is agent/contracts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from agent.core.contracts.emaid import Emaid
from agent.core.contracts.trust import ClockState, RevocationKey, clock_state, moment_of
from agent.core.instants import Instant

DEFAULT_PRIORITY = 100


class State(StrEnum):
    PRESENT = "present"
    EXPIRES_SOON = "expires_soon"
    PENDING = "pending"
    EXPIRED = "expired"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"


USABLE = frozenset({State.PRESENT, State.EXPIRES_SOON})


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """`chain`: DER, the leaf first, without the root. `key`: its name in the key store, None once it is destroyed.

    `issuer`: the root's name, as RFC 4514 writes it. A lower `priority` is used first. `revocation_keys`: whose
    revocation would end it, its own and its sub-CAs'.
    """

    emaid: Emaid
    chain: tuple[bytes, ...]
    fingerprint: str
    serial: int
    issuer: str
    not_before: datetime
    not_after: datetime
    installed: datetime
    key: str | None
    priority: int = DEFAULT_PRIORITY
    revocation_keys: frozenset[RevocationKey] = frozenset()

    @property
    def age_rank(self) -> tuple[datetime, int]:
        """Of two certificates of one contract the one with the later start is the newer, then the higher serial."""
        return self.not_before, self.serial


def state_of(
    contract: Contract,
    contracts: Iterable[Contract],
    *,
    now: Instant,
    revoked: frozenset[str],
    soon: timedelta = timedelta(days=14),
) -> State:
    """`revoked`: fingerprints of leaves. A newer certificate takes over only when it is valid itself."""
    if contract.fingerprint in revoked:
        return State.REVOKED
    newer = (each for each in contracts if _replaces(each, contract) and each.fingerprint not in revoked)
    if contract.key is None or any(not _is_pending(each, now) for each in newer):
        return State.SUPERSEDED
    if moment_of(now) > contract.not_after:
        return State.EXPIRED
    if _is_pending(contract, now):
        return State.PENDING
    return State.EXPIRES_SOON if contract.not_after - moment_of(now) <= soon else State.PRESENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the charger and the vehicle accept; None is no restriction. `roots`: names as RFC 4514 writes them."""

    emaid: str | None = None
    providers: frozenset[str] | None = None
    roots: frozenset[str] | None = None


ANY_CONTRACT = Wanted()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """`explanation`: one line a contract, in order of preference, why it was taken or passed over."""

    contract: Contract | None
    explanation: tuple[str, ...]


Permits = Callable[[Contract], Sequence[str]]


def choose(
    contracts: Sequence[Contract],
    *,
    wanted: Wanted,
    now: Instant,
    revoked: frozenset[str],
    objections: Permits = lambda contract: (),
) -> Choice:
    """The first by priority that nothing speaks against; then the one valid longest, then by name: never by chance.

    `objections`: the fleet's policy on a contract, as sentences; none means that it may be used. It is asked in order
    of preference and no further than the first that may be used.
    """
    ranked = sorted(contracts, key=lambda each: (each.priority, -each.not_after.timestamp(), each.emaid.canonical))
    chosen: Contract | None = None
    explanation = []
    for each in ranked:
        state = state_of(each, contracts, now=now, revoked=revoked)
        against = [] if state in USABLE else [f"is {state}"]
        against += _unwanted(each, wanted)
        against += objections(each) if not against and chosen is None else ()
        if against:
            explanation.append(f"{masked(each)}: {'; '.join(against)}")
        elif chosen is None:
            chosen = each
            explanation.append(f"{masked(each)}: used, priority {each.priority}")
        else:
            explanation.append(f"{masked(each)}: usable, but comes later (priority {each.priority})")
    return Choice(contract=chosen, explanation=tuple(explanation) or ("there is no contract in the wallet",))


def masked(contract: Contract) -> str:
    """For logs and explanations: the provider and the certificate, never the whole eMAID."""
    return f"{contract.emaid.provider}•••• ({contract.fingerprint[:8]})"


def _unwanted(contract: Contract, wanted: Wanted) -> list[str]:
    against = []
    if wanted.emaid is not None and wanted.emaid != contract.emaid.canonical:
        against.append("another contract was asked for")
    if wanted.providers is not None and contract.emaid.provider not in wanted.providers:
        against.append(f"the charger does not support {contract.emaid.provider}")
    if wanted.roots is not None and contract.issuer not in wanted.roots:
        against.append("the charger does not know its root")
    return against


def _replaces(newer: Contract, older: Contract) -> bool:
    return newer.key is not None and newer.emaid.canonical == older.emaid.canonical and newer.age_rank > older.age_rank


def _is_pending(contract: Contract, now: Instant) -> bool:
    """Not valid yet. With an untrusted clock nobody can say so, and the newest is taken for valid."""
    return clock_state(now) is not ClockState.UNTRUSTED and moment_of(now) < contract.not_before
