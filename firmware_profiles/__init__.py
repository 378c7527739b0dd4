"""Profiles of readers, chargers and gateways: one TOML file a model. The front door: load, load_file, available.

What a profile may say is in profile.py, which one fits a device in matching.py. Files are read one at a time, when
asked for. An operator's own profiles lie in a folder of the same shape; they cannot replace a shipped one.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firmware_profiles.profile import Profile

_HERE = Path(__file__).parent
_FOLDERS = ("readers", "chargers", "gateways")
_ID = re.compile(r"(?:readers|chargers|gateways)/[a-z0-9][a-z0-9_]{0,79}")  # a name of a file, too
FILE_MAX_BYTES = 256 * 1024  # a profile is a page or two; more is a mistake or an attack


def load(profile_id: str, *, folder: Path | None = None) -> Profile:
    """The profile with this id, for example "readers/rdm6300": shipped, or else from `folder`.

    ProfileUnknown names the nearest known id.
    """
    from firmware_profiles.profile import ProfileUnknown, nearest

    path = _HERE / f"{profile_id}.toml"
    if _ID.fullmatch(profile_id) and folder is not None and not path.is_file():
        path = folder / f"{profile_id}.toml"
    if not _ID.fullmatch(profile_id) or not path.is_file():
        raise ProfileUnknown(f"no profile {profile_id!r}{nearest(profile_id, list(available(folder)))}")
    return load_file(path)


def load_file(path: Path) -> Profile:
    """The profile in this file, which may extend one shipped profile, once."""
    from firmware_profiles.profile import ProfileError

    source = f"{path.parent.name}/{path.name}"
    profile = _profile(_table(path, source), source)
    shipped = _HERE / f"{profile.id}.toml"
    if path.is_relative_to(_HERE) and path != shipped:
        raise ProfileError(f"{source}: id: {profile.id!r} does not say where the file lies")
    if path != shipped and shipped.is_file():
        raise ProfileError(f"{source}: id: {profile.id!r} is a shipped profile; choose another id, and extend that one")
    return profile


def load_text(body: bytes, *, source: str) -> Profile:
    """The profile in these bytes. It may have a shipped profile's id: the caller decides which one counts."""
    return _profile(_parsed(body, source), source)


def _profile(table: dict[str, Any], source: str) -> Profile:
    from firmware_profiles.profile import ProfileError, parse

    base_id = table.pop("extends", None)
    if base_id is not None:
        if not isinstance(base_id, str) or base_id not in available():
            raise ProfileError(f"{source}: extends: there is no shipped profile {base_id!r}")
        base = _table(_HERE / f"{base_id}.toml", base_id)
        if "extends" in base:
            raise ProfileError(f"{source}: extends: {base_id!r} extends another one; one level is all there is")
        for key, name in (("evidence", "field"), ("security", "id")):  # of the base, but for what is said anew
            said = {each.get(name) for each in table.get(key, ()) if isinstance(each, dict)}
            table[key] = [*table.get(key, ()), *(each for each in base.get(key, ()) if each.get(name) not in said)]
        table = _merged(base, table)
    return parse(table, source=source)


def available(folder: Path | None = None) -> tuple[str, ...]:
    """All ids, those of `folder` too."""
    roots = (_HERE,) if folder is None else (_HERE, folder)
    return tuple(
        sorted({f"{kind}/{path.stem}" for root in roots for kind in _FOLDERS for path in (root / kind).glob("*.toml")})
    )


def _table(path: Path, source: str) -> dict[str, Any]:
    from firmware_profiles.profile import ProfileError

    try:
        with path.open("rb") as file:
            return _parsed(file.read(FILE_MAX_BYTES + 1), source)
    except OSError as error:
        raise ProfileError(f"{source}: cannot be read: {error.strerror}") from error


def _parsed(body: bytes, source: str) -> dict[str, Any]:
    from firmware_profiles.profile import ProfileError

    if len(body) > FILE_MAX_BYTES:
        raise ProfileError(f"{source}: longer than {FILE_MAX_BYTES} bytes")
    try:
        return tomllib.loads(body.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{source}: not TOML: {error}") from error


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key; anything else of `own` replaces what the base says."""
    both = dict(base)
    for key, value in own.items():
        inherited = both.get(key)
        both[key] = _merged(inherited, value) if isinstance(inherited, dict) and isinstance(value, dict) else value
    return both
