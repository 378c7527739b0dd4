"""Profiles of readers, chargers and gateways: one TOML file a model. The front door: load, load_file, available.

What a profile may say is in profile.py. Files are read one at a time, when asked for.
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
_ID = re.compile(r"(?:readers|chargers|gateways)/[a-z0-9][a-z0-9_]*")
FILE_MAX_BYTES = 256 * 1024  # a profile is a page or two; more is a mistake or an attack


def load(profile_id: str) -> Profile:
    """The shipped profile with this id, for example "readers/rdm6300". ProfileError names the nearest known id."""
    from firmware_profiles.profile import ProfileError, nearest

    path = _HERE / f"{profile_id}.toml"
    if not _ID.fullmatch(profile_id) or not path.is_file():
        raise ProfileError(f"no profile {profile_id!r}{nearest(profile_id, list(available()))}")
    return load_file(path)


def load_file(path: Path) -> Profile:
    """The profile in this file, which may extend one shipped profile, once."""
    from firmware_profiles.profile import ProfileError, parse

    source = f"{path.parent.name}/{path.name}"
    table = _table(path, source)
    base_id = table.pop("extends", None)
    if base_id is not None:
        if not isinstance(base_id, str) or base_id not in available():
            raise ProfileError(f"{source}: extends: there is no shipped profile {base_id!r}")
        base = _table(_HERE / f"{base_id}.toml", base_id)
        if "extends" in base:
            raise ProfileError(f"{source}: extends: {base_id!r} extends another one; one level is all there is")
        table = _merged(base, table)
    profile = parse(table, source=source)
    if path.is_relative_to(_HERE) and path != _HERE / f"{profile.id}.toml":
        raise ProfileError(f"{source}: id: {profile.id!r} does not say where the file lies")
    return profile


def available() -> tuple[str, ...]:
    return tuple(sorted(f"{folder}/{path.stem}" for folder in _FOLDERS for path in (_HERE / folder).glob("*.toml")))


def _table(path: Path, source: str) -> dict[str, Any]:
    from firmware_profiles.profile import ProfileError

    try:
        with path.open("rb") as file:
            text = file.read(FILE_MAX_BYTES + 1)
        if len(text) > FILE_MAX_BYTES:
            raise ProfileError(f"{source}: longer than {FILE_MAX_BYTES} bytes")
        return tomllib.loads(text.decode("utf-8"))
    except OSError as error:
        raise ProfileError(f"{source}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{source}: not TOML: {error}") from error


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key; anything else of `own` replaces what the base says."""
    both = dict(base)
    for key, value in own.items():
        inherited = both.get(key)
        both[key] = _merged(inherited, value) if isinstance(inherited, dict) and isinstance(value, dict) else value
    return both
