"""Make a fleet's policy repository: a folder of signed TUF metadata and content-addressed parts, ready for any carrier.

`{folder}/repository` is public: a static web site, a USB stick or the retained topics of a broker. `{folder}/keys` is
not; the root keys in it belong off line. What the parts mean is the caller's business; names and limits that devices
hold it to are in sync/bundle.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.exceptions import KeyMismatchError
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.exceptions import StorageError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from sync import bundle
from sync.ceilings import CEILINGS_FIELD, Ceilings
from sync.topics import level

ONLINE_ROLES = ("targets", "snapshot", "timestamp")
ROOT_LIFETIME = timedelta(days=730)
TARGETS_LIFETIME = timedelta(days=365)
SNAPSHOT_LIFETIME = timedelta(days=365)
TIMESTAMP_LIFETIME = timedelta(days=7)  # a policy that nobody confirms is dead after a week in any case
KEPT_VERSIONS = 2  # a device that reads while we publish still finds what its timestamp named


class PublisherError(Exception):
    """The repository cannot be made or changed; the text says what is wrong with it."""


class SignaturesMissing(PublisherError):
    """The next root waits for more of the root keys. What is signed is kept: the same call again adds signatures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleKeys:
    """Of a role: how many keys must sign, how many there are, and how many private ones are on this machine."""

    threshold: int
    keys: int
    here: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What is published now. Times are those signed in the metadata."""

    fleet: str
    root_version: int
    root_threshold: int
    version: int
    snapshot_version: int
    timestamp_version: int
    issued: datetime
    expires: Mapping[str, datetime]
    parts: int
    size_bytes: int
    roles: Mapping[str, RoleKeys]
    pending: tuple[str, ...]


class Publisher:
    """One fleet's repository folder. One writer at a time: a second one is refused, not waited for.

    `root_keys`: where the root keys are while they are not in the folder: a stick from the safe.
    """

    def __init__(self, folder: Path, *, root_keys: Path | None = None) -> None:
        self._repository = folder / "repository"
        self._keys = folder / "keys"
        self._root_keys = root_keys or self._keys
        if not (self._repository / bundle.TIMESTAMP).is_file():
            raise PublisherError(f"{folder} is no fleet folder: make one with `roamkey fleet init`")

    @classmethod
    def init(
        cls,
        folder: Path,
        *,
        fleet: str,
        now: datetime,
        root_keys: int = 1,
        root_threshold: int = 1,
        root_folder: Path | None = None,
        ceilings: Ceilings | None = None,
    ) -> Publisher:
        """New keys, root version 1 and an empty first bundle. Refuses a folder that has keys already.

        With a `root_folder` the root keys are written there, and were never on this disk.
        """
        level(fleet, "fleet")
        if not 1 <= root_threshold <= root_keys:
            raise ValueError(f"{root_threshold} of {root_keys} root keys cannot be asked for")
        if (folder / "keys").exists() or (folder / "repository").exists():
            raise PublisherError(f"{folder} holds a fleet's keys already; they are never overwritten")
        keys = folder / "keys"
        keys.mkdir(parents=True, mode=0o700)
        (folder / "repository" / "metadata").mkdir(parents=True)
        (folder / "repository" / "targets").mkdir()

        now = _whole_seconds(now)
        limits = {} if ceilings is None else {CEILINGS_FIELD: ceilings.to_field()}
        root = Root(expires=now + ROOT_LIFETIME, unrecognized_fields={bundle.FLEET_FIELD: fleet, **limits})
        away = root_folder or keys
        away.mkdir(parents=True, exist_ok=True, mode=0o700)
        root_signers = [_new_key(away, f"root-{number}") for number in range(1, root_keys + 1)]
        for signer in root_signers:
            root.add_key(signer.public_key, Root.type)
        root.roles[Root.type].threshold = root_threshold
        signers = {role: _new_key(keys, role) for role in ONLINE_ROLES}
        for role, signer in signers.items():
            root.add_key(signer.public_key, role)
        signed = Metadata(root)
        for signer in root_signers:
            signed.sign(signer, append=True)
        _write(folder / "repository" / bundle.metadata(Root.type, 1), signed.to_bytes())

        _publish(folder / "repository", signers, fleet=fleet, parts={}, now=now)
        return cls(folder)

    @property
    def fleet(self) -> str:
        return str(self._root().signed.unrecognized_fields[bundle.FLEET_FIELD])

    @property
    def root(self) -> bytes:
        """The newest root: what a new device gets as its bootstrap."""
        return (self._repository / bundle.metadata(Root.type, self._newest(Root.type))).read_bytes()

    @property
    def next_version(self) -> int:
        """The version that `publish` will give; documents that carry a revision say this number."""
        return self._newest(Targets.type) + 1

    def new_parts(self, targets: Mapping[str, bytes]) -> list[str]:
        """The names of those whose content is not in the repository yet: what devices would fetch."""
        folder = self._repository / "targets"
        return [name for name, body in targets.items() if not (folder / hashlib.sha256(body).hexdigest()).exists()]

    def publish(self, targets: Mapping[str, bytes], *, now: datetime) -> Status:
        """Make these parts the fleet's bundle. Devices see the old one until the timestamp is replaced, last of all."""
        _check_limits(targets)
        with self._alone():
            signers = {role: self._signer(role) for role in ONLINE_ROLES}
            _publish(self._repository, signers, fleet=self.fleet, parts=targets, now=self._not_before_issued(now))
            self._prune()
        return self.status()

    def refresh_timestamp(self, *, now: datetime) -> Status:
        """Say again that this bundle is the current one; devices count their policy's age from here."""
        with self._alone():
            version = self._newest(Snapshot.type)
            snapshot = (self._repository / bundle.metadata(Snapshot.type, version)).read_bytes()
            moment = self._not_before_issued(now)
            _write_timestamp(self._repository, self._signer("timestamp"), self.fleet, version, snapshot, moment)
        return self.status()

    def rotate(
        self,
        role: str,
        *,
        now: datetime,
        keys: int | None = None,
        threshold: int | None = None,
        ceilings: Ceilings | None = None,
    ) -> int:
        """Replace a role's keys (all of root's) and sign the next root with the old and the new root keys.

        `keys` and `threshold` are root's new numbers, `ceilings` take the place of those before. When fewer root keys
        are here than must sign, what is signed waits and SignaturesMissing is raised; nothing is published before
        enough have signed.
        """
        with self._alone():
            current = self._root()
            version = current.signed.version + 1
            waiting = self._pending_path(role)
            signed = self._pending(role, version) or self._next_root(current, role, now, keys, threshold, ceilings)
            for signer in (*self._signers(current.signed, Root.type), *self._signers(signed.signed, Root.type)):
                signed.sign(signer, append=True)
            verified = signed.signed.get_root_verification_result(
                current.signed, signed.signed_bytes, signed.signatures
            )
            if not verified.verified:
                _write(waiting, signed.to_bytes())
                wanted, here = current.signed.roles[Root.type].threshold, len(verified.first.signed)
                raise SignaturesMissing(
                    f"{wanted} root keys must sign, {here} are in {self._root_keys} or have signed; what is signed is "
                    f"kept: run the same again where the others are, or remove {waiting} to give it up"
                )
            _write(self._repository / bundle.metadata(Root.type, version), signed.to_bytes())
            waiting.unlink(missing_ok=True)
        if role in ONLINE_ROLES:
            self._sign_anew(now)
        return version

    def _next_root(
        self,
        current: Metadata[Root],
        role: str,
        now: datetime,
        keys: int | None,
        threshold: int | None,
        ceilings: Ceilings | None,
    ) -> Metadata[Root]:
        root = Metadata[Root].from_bytes(current.to_bytes()).signed
        if ceilings is not None:
            root.unrecognized_fields[CEILINGS_FIELD] = ceilings.to_field()
        root.version, root.expires = root.version + 1, _whole_seconds(now) + ROOT_LIFETIME
        before = list(root.roles[role].keyids)
        for keyid in before:
            root.revoke_key(keyid, role)
        number = (keys or len(before)) if role == Root.type else 1
        root.roles[role].threshold = (threshold or root.roles[role].threshold) if role == Root.type else 1
        if root.roles[role].threshold > number:
            raise PublisherError(f"{root.roles[role].threshold} of {number} root keys cannot be asked for")
        names = [f"root-{n + 1}" for n in range(number)] if role == Root.type else [role]
        for name in names:
            signer = CryptoSigner.generate_ed25519()
            root.add_key(signer.public_key, role)
            _write_key((self._root_keys if role == Root.type else self._keys) / f"{name}.v{root.version}.pem", signer)
        return Metadata(root)

    def _pending(self, role: str, version: int) -> Metadata[Root] | None:
        others = [each for each in self._waiting() if each != role]
        if others:
            path = self._pending_path(others[0])
            raise PublisherError(f"a new key of {others[0]} waits for signatures: end that first, or remove {path}")
        try:
            signed = Metadata[Root].from_file(str(self._pending_path(role)))
        except StorageError:
            return None
        return signed if signed.signed.version == version else None

    def _waiting(self) -> list[str]:
        return [role for role in (Root.type, *ONLINE_ROLES) if self._pending_path(role).exists()]

    def _pending_path(self, role: str) -> Path:
        return self._keys / f"pending-{role}.json"

    def status(self) -> Status:
        root = self._root().signed
        timestamp = self._timestamp()
        snapshot = self._read(Snapshot.type)
        targets = self._read(Targets.type)
        return Status(
            fleet=self.fleet,
            root_version=root.version,
            root_threshold=root.roles[Root.type].threshold,
            version=targets.signed.version,
            snapshot_version=snapshot.signed.version,
            timestamp_version=timestamp.signed.version,
            issued=_issued(timestamp),
            expires={each.signed.type: each.signed.expires for each in (self._root(), targets, snapshot, timestamp)},
            parts=len(targets.signed.targets),
            size_bytes=sum(file.length for file in targets.signed.targets.values()),
            roles={
                name: RoleKeys(
                    threshold=root.roles[name].threshold,
                    keys=len(root.roles[name].keyids),
                    here=len(self._signers(root, name)),
                )
                for name in (Root.type, *ONLINE_ROLES)
            },
            pending=tuple(self._waiting()),
        )

    def published(self) -> dict[str, bytes]:
        """The parts of the newest bundle, by name."""
        targets = self._read(Targets.type).signed.targets
        return {
            name: (self._repository / bundle.part(file.hashes["sha256"])).read_bytes() for name, file in targets.items()
        }

    async def announce(
        self,
        publish: Callable[[str, bytes], Awaitable[None]],
        *,
        known: Collection[str] = (),
    ) -> int:
        """Hand documents to a carrier: parts first, timestamp last, then withdraw (empty) what is outdated.

        A part's name is its content, so what the carrier is `known` to have need not be handed to it again.
        """
        count = 0
        for name in self._names():
            if name.startswith("targets/") and name in known:
                continue
            await publish(name, (self._repository / name).read_bytes())
            count += 1
        withdrawn = self._withdrawn()
        for name in withdrawn:
            await publish(name, b"")
        self._note_withdrawn(set(self._withdrawn()) - set(withdrawn))
        return count

    def documents(self) -> set[str]:
        """The names of all that there is."""
        return set(self._names())

    def _names(self) -> Iterable[str]:
        """Everything in the repository in an order in which each document's references are there before it."""
        for path in sorted((self._repository / "targets").iterdir()):
            yield f"targets/{path.name}"
        for role in (Root.type, Targets.type, Snapshot.type):
            for version in self._versions(role):
                yield bundle.metadata(role, version)
        yield bundle.TIMESTAMP

    def _sign_anew(self, now: datetime) -> None:
        """After a rotation: the same parts under the new keys, at once, as devices refuse the old ones from now on."""
        self.publish(self.published(), now=now)

    def _prune(self) -> None:
        """Remove what no kept version names, and remember it: a broker keeps retained messages until told otherwise."""
        gone: set[str] = set()
        for role in (Targets.type, Snapshot.type):
            for version in self._versions(role)[:-KEPT_VERSIONS]:
                gone.add(bundle.metadata(role, version))
        kept = self._versions(Targets.type)[-KEPT_VERSIONS:]
        named = {
            file.hashes["sha256"]
            for version in kept
            for file in self._read_version(Targets.type, version).signed.targets.values()
        }
        gone |= {f"targets/{path.name}" for path in (self._repository / "targets").iterdir() if path.name not in named}
        back = {f"targets/{sha256}" for sha256 in named}
        self._note_withdrawn((set(self._withdrawn()) | gone) - back)
        for name in gone:
            (self._repository / name).unlink()

    def _withdrawn(self) -> list[str]:
        try:
            return sorted(json.loads((self._keys.parent / "withdrawn.json").read_bytes()))
        except FileNotFoundError:
            return []

    def _note_withdrawn(self, names: Iterable[str]) -> None:
        _write(self._keys.parent / "withdrawn.json", json.dumps(sorted(names)).encode())

    def _not_before_issued(self, now: datetime) -> datetime:
        """Devices refuse a signed time that goes back, so a publisher's clock that was set back must not sign one."""
        return max(_whole_seconds(now), _issued(self._timestamp()))

    def _versions(self, role: str) -> list[int]:
        suffix = f".{role}.json"
        found = (path.name.removesuffix(suffix) for path in (self._repository / "metadata").glob(f"*{suffix}"))
        return sorted(int(version) for version in found if version.isdecimal())

    def _newest(self, role: str) -> int:
        return self._versions(role)[-1]

    def _read(self, role: str) -> Metadata[Any]:
        return self._read_version(role, self._newest(role))

    def _read_version(self, role: str, version: int) -> Metadata[Any]:
        return Metadata[Any].from_file(str(self._repository / bundle.metadata(role, version)))

    def _root(self) -> Metadata[Root]:
        return self._read(Root.type)

    def _timestamp(self) -> Metadata[Timestamp]:
        return Metadata[Timestamp].from_file(str(self._repository / bundle.TIMESTAMP))

    def _signer(self, role: str) -> CryptoSigner:
        found = self._signers(self._root().signed, role)
        if not found:
            raise PublisherError(f"the private key of role {role} is not in {self._keys}")
        return found[0]

    def _signers(self, root: Root, role: str) -> list[CryptoSigner]:
        """Of the private keys that are here, those that may sign this role."""
        folders = dict.fromkeys((self._keys, self._root_keys if role == Root.type else self._keys))
        files = [path for folder in folders for path in sorted(folder.glob(f"{role}*.pem"))]
        wanted = [root.get_key(keyid) for keyid in root.roles[role].keyids]
        found = (_read_key(path, public) for public in wanted for path in files)
        return [signer for signer in found if signer is not None]

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        descriptor = os.open(self._keys, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise PublisherError("another publisher is at work in this folder; try again when it has ended") from error
        finally:
            os.close(descriptor)


def _publish(
    repository: Path, signers: Mapping[str, CryptoSigner], *, fleet: str, parts: Mapping[str, bytes], now: datetime
) -> None:
    """Parts, then targets, snapshot and timestamp, each durable before the next names it."""
    audience = {bundle.FLEET_FIELD: fleet}
    for body in parts.values():
        path = repository / bundle.part(hashlib.sha256(body).hexdigest())
        if not path.exists() or path.read_bytes() != body:
            _write(path, body)

    version = _next(repository, Targets.type)
    files = {name: TargetFile.from_data(name, body) for name, body in sorted(parts.items())}
    targets = Metadata(
        Targets(version=version, expires=now + TARGETS_LIFETIME, targets=files, unrecognized_fields=dict(audience))
    )
    targets.sign(signers["targets"])
    targets_bytes = targets.to_bytes()
    _write(repository / bundle.metadata(Targets.type, version), targets_bytes)

    snapshot_version = _next(repository, Snapshot.type)
    snapshot = Metadata(
        Snapshot(
            version=snapshot_version,
            expires=now + SNAPSHOT_LIFETIME,
            meta={"targets.json": MetaFile.from_data(version, targets_bytes, ["sha256"])},
            unrecognized_fields=dict(audience),
        )
    )
    snapshot.sign(signers["snapshot"])
    snapshot_bytes = snapshot.to_bytes()
    _write(repository / bundle.metadata(Snapshot.type, snapshot_version), snapshot_bytes)
    _write_timestamp(repository, signers["timestamp"], fleet, snapshot_version, snapshot_bytes, now)


def _write_timestamp(
    repository: Path, signer: CryptoSigner, fleet: str, snapshot_version: int, snapshot: bytes, now: datetime
) -> None:
    path = repository / bundle.TIMESTAMP
    before = Metadata[Timestamp].from_file(str(path)).signed.version if path.exists() else 0
    timestamp = Metadata(
        Timestamp(
            version=before + 1,
            expires=now + TIMESTAMP_LIFETIME,
            snapshot_meta=MetaFile.from_data(snapshot_version, snapshot, ["sha256"]),
            unrecognized_fields={bundle.FLEET_FIELD: fleet, bundle.ISSUED_FIELD: f"{now:%Y-%m-%dT%H:%M:%SZ}"},
        )
    )
    timestamp.sign(signer)
    _write(path, timestamp.to_bytes())


def _check_limits(targets: Mapping[str, bytes]) -> None:
    if len(targets) > bundle.MAX_PARTS:
        raise PublisherError(f"{len(targets)} parts; devices take {bundle.MAX_PARTS}")
    for name, body in targets.items():
        # A retained message without content is how a document is withdrawn, so an empty part could not travel.
        if not 0 < len(body) <= bundle.MAX_PART_BYTES:
            raise PublisherError(f"{name} has {len(body)} bytes; devices take 1 to {bundle.MAX_PART_BYTES}")


def _next(repository: Path, role: str) -> int:
    suffix = f".{role}.json"
    versions = (path.name.removesuffix(suffix) for path in (repository / "metadata").glob(f"*{suffix}"))
    return max((int(version) for version in versions if version.isdecimal()), default=0) + 1


def _issued(timestamp: Metadata[Timestamp]) -> datetime:
    return datetime.fromisoformat(str(timestamp.signed.unrecognized_fields[bundle.ISSUED_FIELD]))


def _whole_seconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def _new_key(keys: Path, name: str) -> CryptoSigner:
    signer = CryptoSigner.generate_ed25519()
    _write_key(keys / f"{name}.pem", signer)
    return signer


def _write_key(path: Path, signer: CryptoSigner) -> None:
    _write(path, signer.private_bytes, mode=0o600)


def _read_key(path: Path, public: Key) -> CryptoSigner | None:
    """None when the file holds another key."""
    location = str(path.absolute())
    if "#" in location or "?" in location:  # they would end the path of the library's URI
        raise PublisherError(f"{path}: a fleet folder cannot have # or ? in its path: move it")
    try:
        return CryptoSigner.from_priv_key_uri(f"file2:{location}", public)
    except KeyMismatchError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise PublisherError(f"{path} is no private key that can be used: {error}") from error


def _write(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Whole or not at all, also after a power cut."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
