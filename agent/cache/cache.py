"""The fleet's policy on this device: the generation in force, token look-ups, and updates that keep the good one.

Signatures are judged in sync/documents.py and documents in documents.py; what is written how is in generations.py.
When to update, and what is recorded of it, is the runtime's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from agent.cache import denials
from agent.cache.archive import PROVING_PARTS, Archive
from agent.cache.contents import Contents, KeyUse, ServiceKey
from agent.cache.denials import Denials, DenialStore
from agent.cache.examination import (
    Case,
    Examination,
    ExaminationFailed,
    Examine,
    Once,
    Unfit,
    hashes,
    here,
    is_the_same,
    nothing_is_offered,
)
from agent.cache.generations import GenerationDamaged, Loaded
from agent.cache.parts import PartLost
from agent.cache.tokens import Ambiguous, TokensUnreadable, TokenTable
from agent.core.credentials import key_check
from agent.core.instants import ClockQuality, Instant
from agent.core.policy import Policy, Token
from sync.bundle import FIRST_PART, TIMESTAMP, SignedBundle
from sync.carriers import Carrier, CarrierError
from sync.ceilings import Ceilings, CeilingsUnfit, ceilings_of
from sync.trust_store import Remembered, Trust, TrustStore, TrustStoreBusy, TrustStoreDamaged, TrustStoreError
from sync.verdicts import FirstPart, Moment, Rejected, Verified

__all__ = [
    "Activated",
    "Active",
    "Ambiguous",
    "PartLost",
    "PolicyCache",
    "Refused",
    "TokensUnreadable",
    "TrustStoreBusy",
    "Unchanged",
    "Update",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """The bundle in force."""

    policy: Policy
    tokens: TokenTable
    token_count: int
    service_keys: tuple[ServiceKey, ...]

    @property
    def keys(self) -> Mapping[str, str]:
        """Who may acknowledge records: kid to public JWK."""
        return self.keys_for(KeyUse.ACKNOWLEDGEMENT)

    def keys_for(self, use: KeyUse) -> Mapping[str, str]:
        return {key.kid: key.jwk for key in self.service_keys if key.use is use}


@dataclass(frozen=True, slots=True, kw_only=True)
class Activated:
    """Another bundle is in force from now on, durably. `previous_revision` is None when there was none."""

    policy: Policy
    tokens: int
    previous_revision: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchanged:
    """The bundle in force was confirmed; the policy is the same but for its newer `confirmed`."""

    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The good one stays in force. `error` is a stable name, `transient` says that waiting can help.

    `policy`: the good one, with what the refused one revokes, when that is signed rightly and new.
    """

    error: str
    detail: str
    transient: bool = False
    policy: Policy | None = None


Update = Activated | Unchanged | Refused


class PolicyCache:
    """Open for as long as the agent runs; raises TrustStoreBusy when another process has this folder.

    Anything else that is wrong with the folder is told in `findings` and never stops the start: what can still be
    trusted is in force, and nobody charges when nothing can.
    """

    def __init__(
        self, folder: Path, *, fleet: str, root: bytes, key: bytes, now: Instant, examine: Examine = here
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.findings: list[str] = []
        self._fleet = fleet
        self._root = root
        self._key_check = key_check(key)
        self._case = Case(folder=folder, fleet=fleet, root=root, key_check=self._key_check)
        self._examine = examine
        self._parts = self._case.parts
        self._generations = self._case.generations
        self.archive = Archive(folder / "archive")
        self._denial_store = DenialStore(folder)
        self._denied = self._denial_store.read()
        self._store = self._open_store(folder / "trust.sqlite")
        self._remembered: Remembered | None = None
        self._loaded: Loaded | None = None
        self._active: Active | None = None
        self._is_suspect = False
        self._is_updating = False
        self._start(now)

    @property
    def active(self) -> Active | None:
        return self._active

    def lookup(self, reference: str) -> Token | None:
        """None when the fleet has no such token; raises TokensUnreadable when that cannot be said."""
        if self._active is None:
            return None
        if self._loaded is not None and self._loaded.generation.contents.key_check != self._key_check:
            raise TokensUnreadable("the token reference key of this device is not the one of the bundle")
        try:
            return self._active.tokens.get(reference)
        except TokensUnreadable:
            self._is_suspect = True  # the next update builds the table anew, also from an unchanged bundle
            raise

    def lookup_alias(self, alias: str) -> str | None:
        """The reference of the one token that is told so; raises Ambiguous, or TokensUnreadable."""
        if self._active is None:
            return None
        try:
            return self._active.tokens.alias(alias)
        except TokensUnreadable:
            self._is_suspect = True
            raise

    def trust_papers(self) -> dict[str, bytes]:
        """The fleet's signed documents about contracts in the bundle in force, by name. Raises PartLost."""
        return self._bodies("contracts/")

    def profiles(self) -> dict[str, bytes]:
        """The readers' profiles in the bundle in force, by name. Raises PartLost."""
        return self._bodies("profiles/")

    def _bodies(self, folder: str) -> dict[str, bytes]:
        if self._loaded is None:
            return {}
        parts = self._loaded.generation.parts
        try:
            return {name: self._parts.read(sha256) for name, sha256 in parts.items() if name.startswith(folder)}
        except PartLost:
            self._is_suspect = True  # the next update fetches it again
            raise

    async def update(self, carrier: Carrier, now: Instant) -> Update:
        """Fetch, judge, build beside the old one, switch. One at a time; whatever happens, the good one stays."""
        if self._is_updating:
            raise RuntimeError("an update is under way")
        self._is_updating = True
        try:
            return await self._update(carrier, now)
        except (OSError, sqlite3.Error, TrustStoreError, GenerationDamaged) as error:
            return Refused(error="StorageUnusable", detail=f"{type(error).__name__}: {error}", transient=True)
        except PartLost as error:
            return Refused(error="PartLost", detail=str(error), transient=True)
        except ExaminationFailed as error:
            return Refused(error="ExaminationFailed", detail=str(error), transient=True)
        finally:
            self._is_updating = False

    def close(self) -> None:
        if self._active is not None:
            self._active.tokens.close()
        if self._store is not None:
            self._store.close()

    async def _update(self, carrier: Carrier, now: Instant) -> Update:
        if self._store is None:
            return Refused(error="StorageUnusable", detail="; ".join(self.findings), transient=True)
        moment = Moment(
            latest=now.latest,
            clock_proven=now.quality is ClockQuality.SYNCHRONISED,
            boot=now.boot,
            monotonic_ms=now.monotonic_ms,
        )
        once = Once(carrier)
        if self._active is not None and await self._is_confirmed(once, moment):
            return Unchanged(policy=self._active.policy)
        if await nothing_is_offered(once):
            return Refused(error="Missing", detail=f"{TIMESTAMP}: nothing is published here", transient=True)
        async with self._examine(self._case, once, self._remembered, moment) as examination:
            return await self._judged(examination, self._store)

    async def _is_confirmed(self, carrier: Carrier, now: Moment) -> bool:
        """The carrier offers what is in force, as it was verified before: by far the most frequent case."""
        loaded, remembered = self._loaded, self._remembered
        if self._is_suspect or loaded is None or remembered is None or remembered.bundle != loaded.name:
            return False
        try:
            return await is_the_same(self._case, carrier, remembered, loaded.generation.parts, now)
        except CarrierError:
            return False  # the examination asks again, and says what is wrong

    async def _judged(self, examination: Examination, store: TrustStore) -> Update:
        verified = examination.verdict
        if isinstance(verified, Rejected):
            policy = await self._deny(verified.first) if verified.first is not None else None
            return Refused(error=verified.error, detail=verified.detail, transient=verified.transient, policy=policy)
        if self._loaded is not None and self._holds(self._loaded, verified):
            active = await self._confirm(self._loaded, store, verified.trust)
            if verified.roots:
                await asyncio.to_thread(self._keep_proof, self._loaded, verified.roots)
            return Unchanged(policy=active.policy)
        built = await examination.build()
        if isinstance(built, Unfit):
            first, role, root = verified.targets.get(FIRST_PART), verified.trust.targets, verified.trust.root
            policy = None
            if first is not None:
                part = FirstPart(sha256=first.sha256, version=role.version, keys=role.keys, root=root.version)
                policy = await self._deny(part)
            return Refused(error=built.code, detail=built.detail, policy=policy)
        activated = await self._switch(built, store, verified.trust)
        if self._loaded is not None:
            await asyncio.to_thread(self._keep_proof, self._loaded, verified.roots)
        return activated

    async def _deny(self, first: FirstPart) -> Policy | None:
        """Revocations count before the rest, and without it. None when they are unfit, or deny nothing new."""
        revoked = denials.read_part(await asyncio.to_thread(self._parts.read, first.sha256))
        denied = Denials(version=first.version, keys=first.keys, root=first.root, revoked=revoked)
        if denied == self._denied or self._active is None or self._loaded is None or self._remembered is None:
            return None
        await asyncio.to_thread(self._denial_store.write, denied)
        self._denied = denied
        before = self._active.policy.revoked
        self._active = _activate(self._loaded, self._remembered.trust, denied)
        return self._active.policy if self._active.policy.revoked != before else None

    def _holds(self, loaded: Loaded, verified: Verified) -> bool:
        return not self._is_suspect and loaded.generation.parts == hashes(verified)

    async def _confirm(self, loaded: Loaded, store: TrustStore, trust: Trust) -> Active:
        remembered = Remembered(trust=trust, bundle=loaded.name)
        if remembered != self._remembered:
            await asyncio.to_thread(store.remember, trust, bundle=loaded.name)
        self._remembered = remembered
        self._active = _activate(loaded, trust, self._denied)
        return self._active

    async def _switch(self, name: str, store: TrustStore, trust: Trust) -> Activated:
        """The one moment: floors and generation in one transaction; before it the old one is in force, then the new."""
        loaded = await asyncio.to_thread(self._generations.load, name)
        try:
            await asyncio.to_thread(store.remember, trust, bundle=name)
        except TrustStoreError:
            loaded.tokens.close()
            raise
        before, previous = self._active, self._loaded.name if self._loaded is not None else None
        self._remembered = Remembered(trust=trust, bundle=name)
        self._loaded = loaded
        self._active = _activate(loaded, trust, self._denied)
        if self._denied != denials.NONE and not self._denied.beside(trust):
            self._denied = denials.NONE
            with contextlib.suppress(OSError):  # it counts for nothing beside this bundle
                self._denial_store.clear()
        self._is_suspect = False
        self.findings.clear()
        if before is not None:
            before.tokens.close()
        with contextlib.suppress(OSError):  # what stays is removed after the next update
            await asyncio.to_thread(self._generations.prune, {name, previous or name})
        return Activated(
            policy=self._active.policy,
            tokens=loaded.token_count,
            previous_revision=before.policy.revision if before is not None else None,
        )

    def _keep_proof(self, loaded: Loaded, roots: Iterable[bytes] = ()) -> None:
        """Best effort: that something cannot be proven later must not stop what is decided now."""
        generation = loaded.generation
        trust = generation.trust
        try:
            self.archive.add_roots((self._root, *roots, *(() if roots else (trust.root.body,))))
            if self.archive.has(generation.fingerprint):
                return
            bundle = SignedBundle(
                root=trust.root.version,
                timestamp=trust.timestamp.body,
                snapshot=trust.snapshot.body,
                targets=trust.targets.body,
                parts={
                    name: self._parts.read(generation.parts[name]) for name in PROVING_PARTS if name in generation.parts
                },
            )
            self.archive.add(bundle, revision=generation.contents.revision)
        except (OSError, PartLost, ValueError, KeyError, TypeError) as error:
            self.findings.append(f"the proof of revision {generation.contents.revision} is not kept: {error}")

    def _open_store(self, path: Path) -> TrustStore | None:
        try:
            return TrustStore(path)
        except TrustStoreDamaged as error:
            self.findings.append(f"{error}; set aside, its floors are taken from the stored generations")
            _set_aside(path)
        except TrustStoreBusy:
            raise
        except TrustStoreError as error:
            self.findings.append(f"{error}; the cached policy is used, and not updated")
            return None
        try:
            return TrustStore(path)
        except TrustStoreError as error:
            self.findings.append(f"{error}; the cached policy is used, and not updated")
            return None

    def _start(self, now: Instant) -> None:
        try:
            self._remembered = self._store.read() if self._store is not None else None
        except TrustStoreError as error:
            self.findings.append(str(error))
        wanted = self._remembered.bundle if self._remembered is not None else None
        names = self._generations.names()
        if wanted is not None:
            names = [wanted, *(name for name in names if name != wanted)]
        for name in names:
            loaded = self._load(name)
            if loaded is None:
                continue
            if self._remembered is None:
                self._recover(loaded)
            trust = loaded.generation.trust
            if self._remembered is not None and self._remembered.bundle == name:
                trust = self._count_in_this_boot(self._remembered, now)
            elif wanted is not None:
                self.findings.append(f"generation {name} is in force instead, until the next update")
            self._loaded = loaded
            self._active = _activate(loaded, _seen_at_least_since(trust, now), self._denied)
            if loaded.generation.contents.key_check != self._key_check:
                self.findings.append("the token reference key of this device is not the one of the bundle")
            self._keep_proof(loaded)
            return

    def _count_in_this_boot(self, remembered: Remembered, now: Instant) -> Trust:
        """Kept, so that a restart in this boot, or the same timestamp again, does not count from then."""
        trust = _seen_at_least_since(remembered.trust, now)
        if trust != remembered.trust:
            self._keep(Remembered(trust=trust, bundle=remembered.bundle))
        return trust

    def _load(self, name: str) -> Loaded | None:
        try:
            loaded = self._generations.load(name)
        except GenerationDamaged as error:
            self.findings.append(str(error))
            return None
        if loaded.generation.contents.fleet != self._fleet:
            self.findings.append(f"generation {name} is of fleet {loaded.generation.contents.fleet!r}: not used")
            loaded.tokens.close()
            return None
        return loaded

    def _recover(self, loaded: Loaded) -> None:
        """The trust store was lost: the newest generation's copy of its floors takes its place."""
        self._keep(Remembered(trust=loaded.generation.trust, bundle=loaded.name))

    def _keep(self, remembered: Remembered) -> None:
        """A store that cannot take it now does not stop the start."""
        self._remembered = remembered
        try:
            if self._store is not None:
                self._store.remember(remembered.trust, bundle=remembered.bundle)
        except TrustStoreError as error:
            self.findings.append(str(error))


def _activate(loaded: Loaded, trust: Trust, denied: Denials) -> Active:
    contents: Contents = loaded.generation.contents
    confirmed: datetime = trust.issued
    ceilings = _ceilings(trust)
    policy = Policy(
        fleet=contents.fleet,
        revision=contents.revision,
        fingerprint=loaded.generation.fingerprint,
        confirmed=confirmed,
        confirmed_boot=trust.received_boot,
        confirmed_ms=trust.received_ms,
        stale_after=contents.stale_after,
        expired_after=min(contents.expired_after, timedelta(hours=ceilings.expired_after_hours))
        if ceilings.expired_after_hours is not None
        else contents.expired_after,
        groups=contents.groups,
        drivers=contents.drivers,
        vehicles=contents.vehicles,
        sites=contents.sites,
        budgets=contents.budgets,
        revoked=contents.revoked | denied.beside(trust),
        override_energy_wh=ceilings.override_energy_wh,
        override_hours=ceilings.override_hours,
    )
    return Active(policy=policy, tokens=loaded.tokens, token_count=loaded.token_count, service_keys=contents.keys)


def _ceilings(trust: Trust) -> Ceilings:
    """A newer root, over the same bundle, may set ceilings that are not known here: then nothing passes them."""
    try:
        return ceilings_of(trust.root.body)
    except CeilingsUnfit:
        return Ceilings(override_energy_wh=0, override_hours=0)


def _seen_at_least_since(trust: Trust, now: Instant) -> Trust:
    """Received in an earlier boot: its age grows at least from this start on, even if the wall clock stands still."""
    if trust.received_boot == now.boot:
        return trust
    return replace(trust, received_boot=now.boot, received_ms=now.monotonic_ms)


def _set_aside(path: Path) -> None:
    for suffix in ("", "-wal", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{path}.damaged{suffix}")
