"""Did this fleet publish these documents, at some time? For old bundles: no clock, no floors, signatures and hashes.

What a device may use *now* is judged in sync/documents.py. Nothing here raises for what it is given: every flaw is
told, so that one look shows all that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp

from sync.bundle import FLEET_FIELD, SignedBundle
from sync.ceilings import CEILINGS_FIELD, Ceilings, CeilingsUnfit, ceilings_from

S = TypeVar("S", bound=Signed)
# Those that are vouched for, by version.
Roots = Mapping[int, Root]


class _Flaw(Exception):
    """What is wrong; the text is for people."""


def follow_roots(trusted: bytes, roots: Sequence[bytes], *, fleet: str) -> tuple[Roots, list[str]]:
    """(root by version, flaws). Every root must be signed by the one before it and by itself, from `trusted` on.

    `trusted` may be among `roots`, and then must be the same; what lies before it is not vouched for and not returned.
    """
    try:
        anchor = _root(trusted, "the root that is trusted", fleet)
        _signed_by(anchor.signed, anchor, "the root that is trusted")
    except _Flaw as flaw:
        return {}, [str(flaw)]
    known = {anchor.signed.version: anchor.signed}
    flaws: list[str] = []
    last = anchor.signed
    for at, body in enumerate(roots):
        what = f"root {at + 1} of {len(roots)}"
        try:
            following = _root(body, what, fleet)
            version = following.signed.version
            if version == anchor.signed.version and body != trusted:
                raise _Flaw(f"root version {version} is not the one that is trusted")
            if version <= anchor.signed.version:
                continue
            if version != last.version + 1:
                raise _Flaw(f"root version {version} follows {last.version}: those between are missing")
            _signed_by(last, following, f"root version {version}")
            _signed_by(following.signed, following, f"root version {version}")
        except _Flaw as flaw:
            flaws.append(str(flaw))
            break
        known[version] = last = following.signed
    return known, flaws


def ceilings_under(roots: Roots, version: int) -> Ceilings:
    """What this root lets online keys do; one that is not vouched for, or says what is not known here, lets nothing."""
    root = roots.get(version)
    try:
        told = {"": 0} if root is None else root.unrecognized_fields.get(CEILINGS_FIELD, {})
        return ceilings_from(told)
    except CeilingsUnfit:
        return Ceilings(override_energy_wh=0, override_hours=0)


def flaws_of(bundle: SignedBundle, roots: Roots, *, fleet: str) -> list[str]:
    """Everything that keeps this bundle from being one of this fleet; empty when it is proven."""
    root = roots.get(bundle.root)
    if root is None:
        held = ", ".join(str(version) for version in sorted(roots)) or "none"
        return [f"it was published under root version {bundle.root}; trusted are: {held}"]
    return list(_flaws(bundle, root, fleet))


def _flaws(bundle: SignedBundle, root: Root, fleet: str) -> Iterator[str]:
    targets = _judged(lambda: _role(bundle.targets, Targets, root, fleet))
    snapshot = _judged(lambda: _role(bundle.snapshot, Snapshot, root, fleet))
    timestamp = _judged(lambda: _role(bundle.timestamp, Timestamp, root, fleet))
    yield from (each for each in (targets, snapshot, timestamp) if isinstance(each, str))
    if isinstance(snapshot, Snapshot) and isinstance(timestamp, Timestamp):
        named = timestamp.snapshot_meta
        yield from _differs("snapshot", snapshot.version, named.version, lambda: _measure(named, bundle.snapshot))
    if isinstance(targets, Targets) and isinstance(snapshot, Snapshot):
        listed = snapshot.meta.get("targets.json")
        if listed is None:
            yield "snapshot names no targets"
        else:
            yield from _differs("targets", targets.version, listed.version, lambda: _measure(listed, bundle.targets))
    if isinstance(targets, Targets):
        for name, body in bundle.parts.items():
            file = targets.targets.get(name)
            if file is None:
                yield f"{name} is not among the parts that the fleet signed"
                continue
            wrong = _judged(lambda body=body, file=file: _measure(file, body))  # type: ignore[misc]
            if isinstance(wrong, str):
                yield f"{name} is not the part that the fleet signed: {wrong}"


def _role(body: bytes, kind: type[S], root: Root, fleet: str) -> S:
    metadata = _metadata(body, kind.type)
    if not isinstance(metadata.signed, kind):
        raise _Flaw(f"{kind.type}: this is metadata of another role")
    _for(fleet, metadata.signed)
    _signed_by(root, metadata, kind.type)
    return metadata.signed


def _root(body: bytes, what: str, fleet: str) -> Metadata[Any]:
    metadata = _metadata(body, what)
    if not isinstance(metadata.signed, Root):
        raise _Flaw(f"{what} is metadata of another role")
    _for(fleet, metadata.signed)
    return metadata


def _metadata(body: bytes, what: str) -> Metadata[Any]:
    read = _judged(lambda: Metadata[Any].from_bytes(body))
    if isinstance(read, str):
        raise _Flaw(f"{what} is not TUF metadata: {read}")
    return read


def _for(fleet: str, signed: Signed) -> None:
    audience = signed.unrecognized_fields.get(FLEET_FIELD)
    if audience != fleet:
        raise _Flaw(f"{signed.type} version {signed.version} is for fleet {audience!r}, not {fleet!r}")


def _signed_by(root: Root, metadata: Metadata[Any], what: str) -> None:
    wrong = _judged(lambda: root.verify_delegate(metadata.signed.type, metadata.signed_bytes, metadata.signatures))
    if isinstance(wrong, str):
        raise _Flaw(f"{what} is not signed by the fleet: root version {root.version} does not vouch for it")


def _differs(what: str, version: int, named: int, measure: Callable[[], None]) -> Iterator[str]:
    if version != named:
        yield f"{what} version {version} is here, but version {named} was signed for"
    elif isinstance(wrong := _judged(measure), str):
        yield f"{what} is not the one that was signed for: {wrong}"


def _measure(file: object, body: bytes) -> None:
    file.verify_length_and_hashes(body)  # type: ignore[attr-defined]


T = TypeVar("T")


def _judged(judge: Callable[[], T]) -> T | str:
    """Its value, or what is wrong. tuf raises more than its own errors for metadata that it did not foresee."""
    try:
        return judge()
    except (_Flaw, RepositoryError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return str(error)[:300] or type(error).__name__
