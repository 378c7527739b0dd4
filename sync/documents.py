"""Is what a carrier offers the fleet's current bundle? The TUF client workflow, with our own time and our own floors.

tuf's Updater takes its time from the system, never fsyncs, and accepts a rollback once its files are emptied
(measured); so its TrustedMetadataSet is driven directly. The class is internal to tuf: tests/policy_bundle holds it
to what is used here. Nothing is stored here but content-addressed parts; `Verified` becomes durable with
sync/trust_store.py, once the application has found the documents good too.

Steps are numbered as in the TUF specification 1.0.33, section 5.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from tuf.api.exceptions import BadVersionNumberError, RepositoryError
from tuf.api.metadata import Root, Signed, TargetFile, Targets
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from sync import bundle
from sync.carriers import Carrier, CarrierError, DocumentTooLarge
from sync.trust_store import Remembered, Role, Trust
from sync.verdicts import FirstPart, Moment, Part, Rejected, Verified

_MAX_VERSION = 2**53  # still exact in every JSON reader, and far from SQLite's 2**63
_TARGET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}(/[a-z0-9][a-z0-9._-]{0,63}){0,3}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


class Parts(Protocol):
    """Where parts are kept by their content: so they may be kept before the rest of the bundle has arrived."""

    def has(self, sha256: str) -> bool:
        """True only when its bytes are here and still have this hash."""
        ...

    def add(self, sha256: str, body: bytes) -> None: ...


class _RejectedError(Exception):
    def __init__(self, error: str, detail: str, *, transient: bool = False, first: FirstPart | None = None) -> None:
        super().__init__(detail)
        self.rejected = Rejected(error=error, detail=detail, transient=transient, first=first)


class Documents:
    """One fleet's repository as one device sees it. `root` is the bootstrap that came with the device's set-up."""

    def __init__(self, *, fleet: str, root: bytes) -> None:
        self._fleet = fleet
        self._bootstrap = root

    async def verify(
        self, carrier: Carrier, *, remembered: Remembered | None, now: Moment, parts: Parts
    ) -> Verified | Rejected:
        """Fetch what is new, check everything, keep the parts; raises only for faults of this device."""
        try:
            return await self._verify(carrier, remembered.trust if remembered else None, now, parts)
        except (_RejectedError, CarrierError, RepositoryError) as error:
            return _rejected(error)

    async def _verify(self, carrier: Carrier, known: Trust | None, now: Moment, parts: Parts) -> Verified:
        anchor = hashlib.sha256(self._bootstrap).hexdigest()
        # When the operator gives a device another root, what the old one vouched for ends with it.
        lineage = known if known is not None and known.bootstrap == anchor else None
        trusted = self._start(lineage)
        root, roots = await self._follow_root(carrier, trusted, lineage)
        # 5.1: one time for the whole update, and never before a moment that has surely passed.
        proven = known is not None and known.timestamp.keys == _keys(trusted.root, "timestamp")
        reference = max(now.latest, known.issued) if known is not None and proven else now.latest
        trusted.reference_time = reference
        timestamp = await self._take_timestamp(carrier, trusted, known, now)
        issued = self._issued(trusted, known, timestamp, now)
        trusted.reference_time = max(reference, issued)
        snapshot = await self._take_snapshot(carrier, trusted, known)
        targets = await self._take_targets(carrier, trusted, known)

        listed = _listed(trusted.targets)
        await self._complete_in_order(carrier, listed, parts, root, targets)

        seen_before = known is not None and known.timestamp == timestamp and known.received_boot == now.boot
        trust = Trust(
            bootstrap=anchor,
            root=root,
            timestamp=timestamp,
            snapshot=snapshot,
            targets=targets,
            issued=issued,
            received_boot=now.boot,
            received_ms=known.received_ms if known is not None and seen_before else now.monotonic_ms,
        )
        return Verified(
            trust=trust,
            targets={name: Part(sha256=file.hashes["sha256"], size_bytes=file.length) for name, file in listed.items()},
            roots=roots,
        )

    def _start(self, known: Trust | None) -> TrustedMetadataSet:
        """5.2: the trusted root is the stored one, else the bootstrap."""
        if known is not None:
            try:
                return TrustedMetadataSet(known.root.body, EnvelopeType.METADATA)
            except RepositoryError:
                pass  # damaged here; the chain is walked again from the bootstrap, under the same floors
        trusted = _judged(lambda: TrustedMetadataSet(self._bootstrap, EnvelopeType.METADATA))
        self._for_us(trusted.root)
        return trusted

    async def _follow_root(
        self, carrier: Carrier, trusted: TrustedMetadataSet, known: Trust | None
    ) -> tuple[Role, tuple[bytes, ...]]:
        """5.3: every root from the trusted one on, each signed by its predecessor and by itself."""
        followed: list[bytes] = []
        for _ in range(bundle.MAX_ROOT_ROTATIONS):
            name = bundle.metadata(Root.type, trusted.root.version + 1)
            following = await self._fetch(carrier, name, bundle.MAX_ROOT_BYTES)
            if following is None:
                break
            _judged(lambda body=following: trusted.update_root(body))  # type: ignore[misc]
            self._for_us(trusted.root)
            followed.append(following)
        if followed:
            body = followed[-1]
        else:
            same = known is not None and known.root.version == trusted.root.version
            body = known.root.body if known is not None and same else self._bootstrap
        role = _role(trusted, Root.type, body)
        if known is not None and role.version < known.root.version:
            raise BadVersionNumberError(f"root version {role.version} must be >= {known.root.version}")
        return role, tuple(followed)

    async def _take_timestamp(
        self, carrier: Carrier, trusted: TrustedMetadataSet, known: Trust | None, now: Moment
    ) -> Role:
        """5.4, with the floor of the trust store in the place of a trusted local file."""
        body = await self._fetch(carrier, bundle.TIMESTAMP, bundle.MAX_TIMESTAMP_BYTES)
        if body is None:
            raise _RejectedError("Missing", f"{bundle.TIMESTAMP}: nothing is published here", transient=True)
        _judged(lambda: trusted.update_timestamp(body))
        self._for_us(trusted.timestamp)
        return _above_floor(_role(trusted, "timestamp", body), known.timestamp if known else None, "timestamp")

    def _issued(self, trusted: TrustedMetadataSet, known: Trust | None, timestamp: Role, now: Moment) -> datetime:
        text = trusted.timestamp.unrecognized_fields.get(bundle.ISSUED_FIELD)
        try:
            issued = datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError as error:
            raise _RejectedError("MalformedMetadata", f"timestamp has no valid {bundle.ISSUED_FIELD}") from error
        if known is not None and known.timestamp.keys == timestamp.keys and issued < known.issued:
            raise _RejectedError("TimeWentBack", f"issued {text}, but {known.issued:%Y-%m-%dT%H:%M:%SZ} was seen")
        # A signed time raises the time floor for good, so one that is absurd must not pass while we can tell.
        if now.is_absurd(issued):
            raise _RejectedError("IssuedInFuture", f"issued {text}, but it is {now.latest:%Y-%m-%dT%H:%M:%SZ}")
        return issued

    async def _take_snapshot(self, carrier: Carrier, trusted: TrustedMetadataSet, known: Trust | None) -> Role:
        """5.5"""
        version = trusted.timestamp.snapshot_meta.version
        stored = known.snapshot if known else None
        body = await self._take(
            carrier, "snapshot", version, stored, bundle.MAX_SNAPSHOT_BYTES, trusted.update_snapshot
        )
        self._for_us(trusted.snapshot)
        return _above_floor(_role(trusted, "snapshot", body), stored, "snapshot")

    async def _take_targets(self, carrier: Carrier, trusted: TrustedMetadataSet, known: Trust | None) -> Role:
        """5.6; there are no delegations."""
        meta = trusted.snapshot.meta.get("targets.json")
        if meta is None:
            raise _RejectedError("MalformedMetadata", "snapshot names no targets.json")
        stored = known.targets if known else None
        body = await self._take(
            carrier, "targets", meta.version, stored, bundle.MAX_TARGETS_BYTES, trusted.update_targets
        )
        self._for_us(trusted.targets)
        return _above_floor(_role(trusted, "targets", body), stored, "targets")

    async def _take(
        self,
        carrier: Carrier,
        role: str,
        version: int,
        stored: Role | None,
        max_bytes: int,
        update: Callable[[bytes], Signed],
    ) -> bytes:
        """The stored copy when it is the version asked for (judged anew all the same), else the carrier's."""
        if stored is not None and stored.version == version:
            kept = stored.body
            try:
                _judged(lambda: update(kept))
            except (RepositoryError, _RejectedError):
                pass  # the carrier's copy decides
            else:
                return kept
        name = bundle.metadata(role, version)
        body = await self._fetch(carrier, name, max_bytes)
        if body is None:
            raise _RejectedError("Missing", f"{name} is named but cannot be found", transient=True)
        _judged(lambda: update(body))
        return body

    async def _complete_in_order(
        self, carrier: Carrier, listed: Mapping[str, TargetFile], parts: Parts, root: Role, targets: Role
    ) -> None:
        """The first part before the others; a refusal because of those says that the first one is here."""
        first = {name: file for name, file in listed.items() if name == bundle.FIRST_PART}
        await self._complete(carrier, first, parts)
        try:
            await self._complete(carrier, listed, parts)
        except (_RejectedError, CarrierError, RepositoryError) as error:
            rejected = _rejected(error)
            kept = [
                FirstPart(sha256=file.hashes["sha256"], version=targets.version, keys=targets.keys, root=root.version)
                for file in first.values()
            ]
            raise _RejectedError(
                rejected.error, rejected.detail, transient=rejected.transient, first=kept[0] if kept else None
            ) from error

    async def _complete(self, carrier: Carrier, listed: Mapping[str, TargetFile], parts: Parts) -> None:
        """5.7: only what is not here yet travels. Hashes are computed away from the loop: taps must not wait."""
        absent = await asyncio.to_thread(
            lambda: {name: file for name, file in listed.items() if not parts.has(file.hashes["sha256"])}
        )
        for name, file in absent.items():
            sha256 = file.hashes["sha256"]
            body = await self._fetch(carrier, bundle.part(sha256), file.length)
            if body is None:
                raise _RejectedError("Missing", f"part {name} ({sha256[:12]}) cannot be found", transient=True)
            file.verify_length_and_hashes(body)
            await asyncio.to_thread(parts.add, sha256, body)

    async def _fetch(self, carrier: Carrier, name: str, max_bytes: int) -> bytes | None:
        body = await carrier.fetch(name, max_bytes)
        if body is not None and len(body) > max_bytes:  # carriers promise this; it is judged here
            raise _RejectedError("TooLarge", f"{name} has {len(body)} bytes, at most {max_bytes} are taken")
        return body

    def _for_us(self, signed: Signed) -> None:
        """A valid repository of another fleet is not ours, even when the same people sign both."""
        audience = signed.unrecognized_fields.get(bundle.FLEET_FIELD)
        if audience != self._fleet:
            raise _RejectedError(
                "WrongFleet", f"{signed.type} is for fleet {audience!r}, this device is of {self._fleet!r}"
            )
        if type(signed.version) is not int or signed.version > _MAX_VERSION:
            raise BadVersionNumberError(f"{signed.type} version {signed.version!r} is no version")


def _rejected(error: _RejectedError | CarrierError | RepositoryError) -> Rejected:
    if isinstance(error, _RejectedError):
        return error.rejected
    if isinstance(error, DocumentTooLarge):
        return Rejected(error="TooLarge", detail=str(error))
    if isinstance(error, CarrierError):
        return Rejected(error=type(error).__name__, detail=str(error), transient=True)
    cause = f" ({error.__cause__})" if error.__cause__ else ""
    return Rejected(error=type(error).__name__, detail=f"{error}{cause}"[:500])


def root_fleet(root: bytes) -> str | None:
    """The fleet that a root file is for; None when the file is no root that is signed by itself."""
    try:
        trusted = _judged(lambda: TrustedMetadataSet(root, EnvelopeType.METADATA))
    except (RepositoryError, _RejectedError):
        return None
    fleet = trusted.root.unrecognized_fields.get(bundle.FLEET_FIELD)
    return fleet if isinstance(fleet, str) else None


def _role(trusted: TrustedMetadataSet, name: str, body: bytes) -> Role:
    return Role(version=trusted[name].version, keys=_keys(trusted.root, name), body=body)


def _keys(root: Root, name: str) -> str:
    signers = root.roles[name]
    return hashlib.sha256("\n".join([str(signers.threshold), *sorted(signers.keyids)]).encode()).hexdigest()


def _above_floor(role: Role, floor: Role | None, name: str) -> Role:
    """Rollback: no older version, and no other content under the same one, while the same keys sign."""
    if floor is not None and floor.keys == role.keys:
        if role.version < floor.version:
            raise BadVersionNumberError(f"{name} version {role.version} must be >= {floor.version}")
        if role.version == floor.version and role.sha256 != floor.sha256:
            raise BadVersionNumberError(f"{name} version {role.version} is here already with another content")
    return role


def _listed(targets: Targets) -> dict[str, TargetFile]:
    if len(targets.targets) > bundle.MAX_PARTS:
        raise _RejectedError("TooLarge", f"{len(targets.targets)} parts, at most {bundle.MAX_PARTS} are taken")
    for name, file in targets.targets.items():
        if not _TARGET_NAME.fullmatch(name) or not _SHA256.fullmatch(file.hashes.get("sha256", "")):
            raise _RejectedError("MalformedMetadata", f"target {name[:80]!r} has an odd name or no SHA-256")
        if file.length > bundle.MAX_PART_BYTES:
            raise _RejectedError(
                "TooLarge", f"{name} has {file.length} bytes, at most {bundle.MAX_PART_BYTES} are taken"
            )
    total = sum(file.length for file in targets.targets.values())
    if total > bundle.MAX_BUNDLE_BYTES:
        raise _RejectedError("TooLarge", f"bundle of {total} bytes, at most {bundle.MAX_BUNDLE_BYTES} are taken")
    return targets.targets


def _judged(judge: Callable[[], T]) -> T:
    """Whatever else than its own errors tuf raises comes from metadata that it did not foresee."""
    try:
        return judge()
    except RepositoryError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise _RejectedError("MalformedMetadata", f"{type(error).__name__}: {error}"[:500]) from error
