"""The vehicle's contracts: signs with them when the fleet's policy permits, takes in new ones whole or not at all.

What is right is judged in agent/core/contracts; here is what must be durable, and in which order. Every method is for
one thread; nothing here waits for a network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from agent.contracts.challenges import SignedChallenges
from agent.contracts.key_store import KeyStore, KeyStoreError
from agent.contracts.shelf import Mark, Shelf, read_shelf, write_shelf
from agent.core.contracts.certificates import Unreadable, read_certificate
from agent.core.contracts.contract import (
    ANY_CONTRACT,
    DEFAULT_PRIORITY,
    USABLE,
    Contract,
    State,
    Wanted,
    choose,
    state_of,
)
from agent.core.contracts.exi_fragments import RootId
from agent.core.contracts.installation import (
    InstallationResponse,
    NotInstalled,
    Obstacle,
    Offer,
    judge_installation,
)
from agent.core.contracts.key_transport import KeyTransportError
from agent.core.contracts.signing import (
    AuthorizationRequest,
    InstallationRequest,
    MeteringReceiptRequest,
    Signed,
    Unsignable,
)
from agent.core.contracts.trust import RevocationKey, TrustBundle
from agent.core.decisions import AskBackend, Decision, Granted, NeedsInput, Refused
from agent.core.instants import Instant
from agent.core.limits import Limits
from agent.files import sync_folder

PROVISIONING_KEY = "provisioning"
MAX_CONTRACTS = 20


class Obstruction(StrEnum):
    """Why nothing was signed, besides the fleet's own reasons. Names are stable."""

    NO_CONTRACT = "NO_CONTRACT"
    NOT_SIGNABLE = "NOT_SIGNABLE"
    NOT_PERMITTED = "NOT_PERMITTED"
    CHALLENGE_USED = "CHALLENGE_USED"
    KEY_UNAVAILABLE = "KEY_UNAVAILABLE"
    STORAGE = "STORAGE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is known of the session for which a signature is asked: where, whose charger, and what it is called.

    The challenge names no charger (a relay could stand between), so what the policy sees here is all there is.
    """

    evse: str | None = None
    network: str | None = None
    country: str | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the fleet's policy decides about: this contract, used in this session.

    `again`: another contract was refused just before. `within`: the decision that let this contract sign before, in
    the session that goes on.
    """

    contract: Contract
    context: Context
    again: bool = False
    within: str | None = None


Permit = Callable[[Asked], Decision]


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """What a vehicle's stack sends: the contract's chain, its eMAID as the message has it, and the signature."""

    contract: Contract
    signed: Signed
    explanation: tuple[str, ...]
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSigned:
    """No signature exists. `decision` holds the fleet's reasons when it was the policy that refused."""

    obstruction: Obstruction
    detail: str
    explanation: tuple[str, ...] = ()
    decision: Refused | NeedsInput | AskBackend | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """`repeated`: this very certificate was there already, and nothing changed."""

    contract: Contract
    repeated: bool = False


class Wallet:
    """Opened once; everything that a crash left half done is put in order then."""

    def __init__(self, folder: Path, keys: KeyStore) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / "contracts.json"
        self._keys = keys
        self._shelf = read_shelf(self._path)
        self._challenges = SignedChallenges(folder / "challenges")
        self._sweep()

    @property
    def contracts(self) -> tuple[Contract, ...]:
        return self._shelf.contracts

    def states(self, *, now: Instant, remembered: frozenset[RevocationKey] = frozenset()) -> dict[str, State]:
        """By the fingerprint of the contract's certificate."""
        revoked = self._revoked(remembered)
        return {each.fingerprint: state_of(each, self.contracts, now=now, revoked=revoked) for each in self.contracts}

    def sign_authorization(
        self,
        id: str,
        challenge: bytes,
        *,
        context: Context,
        permit: Permit,
        now: Instant,
        wanted: Wanted = ANY_CONTRACT,
        remembered: frozenset[RevocationKey] = frozenset(),
    ) -> Authorization | NotSigned:
        """The order is the promise: the policy permits a contract, the challenge is durably used up, and then it signs.

        Contracts are put to the policy in order of preference until one is permitted; where the driver is asked for
        something, that contract waits for it and no other is tried. A refusal uses up no challenge, so that the fleet
        may change its mind.
        """
        try:
            request = AuthorizationRequest(id=id, challenge=challenge)
        except Unsignable as error:
            return NotSigned(obstruction=Obstruction.NOT_SIGNABLE, detail=str(error))
        if self._challenges.known(challenge):
            return NotSigned(obstruction=Obstruction.CHALLENGE_USED, detail="this challenge was signed before")
        decisions: list[Decision] = []

        def objections(contract: Contract) -> tuple[str, ...]:
            if any(isinstance(each, NeedsInput) for each in decisions):
                return ("not asked for, since another one waits for the driver",)
            decisions.append(permit(Asked(contract=contract, context=context, again=bool(decisions))))
            return against(decisions[-1])

        revoked = self._revoked(remembered)
        choice = choose(self.contracts, wanted=wanted, now=now, revoked=revoked, objections=objections)
        contract, granted = choice.contract, decisions[-1] if decisions else None
        if contract is None or contract.key is None or not isinstance(granted, Granted):
            return _none_usable(decisions, choice.explanation)
        try:
            if not self._challenges.take(challenge):
                return NotSigned(obstruction=Obstruction.CHALLENGE_USED, detail="this challenge was signed before")
            signed = self._keys.sign(contract.key, request)
        except OSError as error:
            return NotSigned(
                obstruction=Obstruction.STORAGE, detail=f"the challenge cannot be recorded ({error.strerror})"
            )
        except KeyStoreError as error:
            return NotSigned(obstruction=Obstruction.KEY_UNAVAILABLE, detail=str(error))
        return Authorization(contract=contract, signed=signed, explanation=choice.explanation, limits=granted.limits)

    def sign_metering_receipt(
        self,
        request: MeteringReceiptRequest,
        *,
        fingerprint: str,
        within: str,
        context: Context,
        permit: Permit,
        now: Instant,
        remembered: frozenset[RevocationKey] = frozenset(),
    ) -> Authorization | NotSigned:
        """With the contract that authorised this session, by its certificate's fingerprint; the policy decides anew.

        `within` is the decision by which it did. What is revoked, expired or superseded since signs nothing more.
        """
        contract = next((each for each in self.contracts if each.fingerprint == fingerprint), None)
        if contract is None or contract.key is None:
            return NotSigned(obstruction=Obstruction.NO_CONTRACT, detail="the session's contract is no longer here")
        state = self.states(now=now, remembered=remembered)[fingerprint]
        if state not in USABLE:
            return NotSigned(obstruction=Obstruction.NO_CONTRACT, detail=f"the session's contract is {state}")
        decision = permit(Asked(contract=contract, context=context, within=within))
        if not isinstance(decision, Granted):
            return NotSigned(
                obstruction=Obstruction.NOT_PERMITTED,
                detail="the fleet's policy refuses this receipt",
                decision=decision,
            )
        try:
            signed = self._keys.sign(contract.key, request)
        except KeyStoreError as error:
            return NotSigned(obstruction=Obstruction.KEY_UNAVAILABLE, detail=str(error))
        return Authorization(contract=contract, signed=signed, explanation=(), limits=decision.limits)

    def sign_installation_request(
        self, id: str, *, provisioning_certificate: bytes, roots: tuple[RootId, ...]
    ) -> Signed | NotSigned:
        """With the vehicle's own key: it asks for a contract and grants nobody anything, so no policy is asked."""
        try:
            if read_certificate(provisioning_certificate).point != self._keys.point(PROVISIONING_KEY):
                raise Unsignable("the provisioning certificate belongs to another key")
            request = InstallationRequest(id=id, provisioning_certificate=provisioning_certificate, roots=roots)
            return self._keys.sign(PROVISIONING_KEY, request)
        except (Unsignable, Unreadable) as error:
            return NotSigned(obstruction=Obstruction.NOT_SIGNABLE, detail=str(error))
        except KeyStoreError as error:
            return NotSigned(obstruction=Obstruction.KEY_UNAVAILABLE, detail=str(error))

    def install(
        self,
        response: InstallationResponse,
        *,
        bundle: TrustBundle,
        now: Instant,
        remembered: frozenset[RevocationKey] = frozenset(),
        priority: int | None = None,
    ) -> Installed | NotInstalled:
        """1. judge the response whole, 2. no roll-back, 3. unwrap and keep the key, 4. swap the file, 5. tidy up.

        Killed before 4 the old contract is there and nothing else; after 4 the new one.
        """
        offer = judge_installation(response, bundle=bundle, now=now, remembered=remembered)
        if isinstance(offer, NotInstalled):
            return offer
        contract, key = _contract(offer, response, now)
        known = self._known(contract)
        if known is not None:
            return known
        if len(self.contracts) >= MAX_CONTRACTS:
            return NotInstalled(
                obstacle=Obstacle.WALLET_FULL, detail=f"{MAX_CONTRACTS} contracts are here already: remove one"
            )
        try:
            if PROVISIONING_KEY not in self._keys.names():
                return NotInstalled(
                    obstacle=Obstacle.NO_PROVISIONING_KEY,
                    detail="the vehicle's provisioning key is not in the key store",
                )
            self._keys.take_in(
                key, under=PROVISIONING_KEY, sender=response.dh_public_key, field=response.encrypted_key,
                point=offer.leaf.point,
            )  # fmt: skip
            self._swap(self._with(contract, priority))
        except KeyTransportError as error:
            return NotInstalled(obstacle=Obstacle.KEY_TRANSPORT, detail=str(error))
        except (KeyStoreError, OSError) as error:
            self._shelf = read_shelf(self._path)  # which of the two it is now is told by the disk alone
            return NotInstalled(obstacle=Obstacle.STORAGE, detail=f"the contract could not be stored: {error}")
        with suppress(KeyStoreError, OSError):  # what is left over is harmless, and the next start tries again
            self.tidy(now=now)
        return Installed(contract=next(each for each in self.contracts if each.fingerprint == contract.fingerprint))

    def remove(self, fingerprint: str) -> bool:
        """False when there is no such contract. What was removed cannot come back by a replay."""
        kept = tuple(each for each in self.contracts if each.fingerprint != fingerprint)
        if len(kept) == len(self.contracts):
            return False
        self._swap(replace(self._shelf, contracts=kept))
        self._sweep()
        return True

    def tidy(self, *, now: Instant) -> None:
        """Destroy the keys of superseded contracts, and forget all but the newest superseded one of each.

        Only with a clock that can be believed: without one the newest certificate may turn out not to be valid yet.
        """
        if not now.trusted:
            return
        states = self.states(now=now)
        kept: list[Contract] = []
        for each in sorted(self.contracts, key=lambda contract: contract.age_rank, reverse=True):
            if states[each.fingerprint] is not State.SUPERSEDED:
                kept.append(each)
            elif not any(other.key is None and _same_contract(other, each) for other in kept):
                kept.append(replace(each, key=None))
        shelf = replace(self._shelf, contracts=tuple(sorted(kept, key=_order)))
        if shelf != self._shelf:
            self._swap(shelf)
            self._sweep()

    def _known(self, contract: Contract) -> Installed | NotInstalled | None:
        """None when it is newer than whatever of this contract was ever here."""
        mark = self._shelf.marks.get(contract.emaid.canonical)
        if mark is None or contract.age_rank > (mark.not_before, mark.serial):
            return None
        for each in self.contracts:
            if each.fingerprint == contract.fingerprint == mark.fingerprint and each.key is not None:
                return Installed(contract=each, repeated=True)
        return NotInstalled(
            obstacle=Obstacle.ROLLED_BACK,
            detail=f"a certificate of this contract that begins {mark.not_before:%Y-%m-%dT%H:%M:%SZ} was here before",
        )

    def _with(self, contract: Contract, priority: int | None) -> Shelf:
        """A renewed contract keeps its priority, unless another was named."""
        mark = Mark(not_before=contract.not_before, serial=contract.serial, fingerprint=contract.fingerprint)
        inherited = [each.priority for each in self.contracts if _same_contract(each, contract)]
        inherited.append(DEFAULT_PRIORITY)
        placed = replace(contract, priority=inherited[0] if priority is None else priority)
        return Shelf(
            contracts=tuple(sorted((*self.contracts, placed), key=_order)),
            marks={**self._shelf.marks, contract.emaid.canonical: mark},
        )

    def _swap(self, shelf: Shelf) -> None:
        write_shelf(self._path, shelf)
        self._shelf = shelf

    def _sweep(self) -> None:
        """Keys that no contract has are left-overs of a crash between two steps, or of a removal.

        Without the contracts' file nothing is swept: it may be lost, and then the keys are all that is left.
        """
        if not self._path.exists():
            return
        for temporary in self._path.parent.glob(".*.new"):
            temporary.unlink(missing_ok=True)
        used = {each.key for each in self.contracts} | {PROVISIONING_KEY}
        for name in self._keys.names() - used:
            self._keys.destroy(name)
        sync_folder(self._path.parent)

    def _revoked(self, remembered: frozenset[RevocationKey]) -> frozenset[str]:
        """Fingerprints of the contracts of which any certificate is among these."""
        return frozenset(
            each.fingerprint for each in self.contracts if remembered and each.revocation_keys & remembered
        )


def against(decision: Decision) -> tuple[str, ...]:
    """Why the fleet does not let a contract be used; empty when it does."""
    codes = [] if isinstance(decision, Granted) else [each.code for each in decision.reasons]
    verb = "waits for the driver" if isinstance(decision, NeedsInput) else "refused by the fleet"
    return () if isinstance(decision, Granted) else (f"{verb}: {', '.join(dict.fromkeys(codes))}",)


def _none_usable(decisions: Sequence[Decision], explanation: tuple[str, ...]) -> NotSigned:
    """With the reasons of the contract that waits for the driver, else of the one that was preferred."""
    refusals = [each for each in decisions if not isinstance(each, Granted)]
    if not refusals:
        return NotSigned(
            obstruction=Obstruction.NO_CONTRACT, detail="no contract can be used here", explanation=explanation
        )
    waiting = next((each for each in refusals if isinstance(each, NeedsInput)), refusals[0])
    return NotSigned(
        obstruction=Obstruction.NOT_PERMITTED,
        detail="the fleet's policy refuses this session",
        explanation=explanation,
        decision=waiting,
    )


def _contract(offer: Offer, response: InstallationResponse, now: Instant) -> tuple[Contract, str]:
    """The contract and the name of its key, which follows from the certificate: trying again begins nothing new."""
    leaf = offer.leaf
    key = f"contract-{leaf.fingerprint[:32]}"
    contract = Contract(
        emaid=offer.emaid,
        chain=(response.contract_leaf, *response.contract_subs),
        fingerprint=leaf.fingerprint,
        serial=leaf.serial,
        issuer=offer.issuer,
        not_before=leaf.not_before,
        not_after=leaf.not_after,
        installed=now.latest,
        key=key,
        revocation_keys=offer.revocation_keys,
    )
    return contract, key


def _same_contract(one: Contract, other: Contract) -> bool:
    return one.emaid.canonical == other.emaid.canonical


def _order(contract: Contract) -> tuple[int, str, float]:
    return contract.priority, contract.emaid.canonical, -contract.not_before.timestamp()
