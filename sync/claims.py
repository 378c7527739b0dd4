"""Reading the fields of a small JSON message, each with its bounds: whatever else is there is refused by its name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sync.messages import BadMessage

Claims = Mapping[str, Any]

MOST = 2**53 - 1  # what every reader of JSON holds exactly


def json_object(payload: bytes, most_bytes: int) -> dict[str, Any]:
    if len(payload) > most_bytes:
        raise BadMessage(f"message of {len(payload)} bytes is larger than {most_bytes}")
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"not JSON: {type(error).__name__}") from error
    if not isinstance(message, dict):
        raise BadMessage("not a JSON object")
    return message


def text(claims: Claims, name: str, most: int = 64, *, least: int = 1) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not least <= len(value) <= most:
        raise BadMessage(f"{name} must be a text of {least} to {most} characters")
    return value


def maybe_text(claims: Claims, name: str, most: int = 64) -> str | None:
    return None if claims.get(name) is None else text(claims, name, most)


def number(claims: Claims, name: str, most: int = MOST) -> int:
    value = claims.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise BadMessage(f"{name} must be an integer from 0 to {most}")
    return value


def maybe_number(claims: Claims, name: str, most: int = MOST) -> int | None:
    return None if claims.get(name) is None else number(claims, name, most)


def moment(claims: Claims, name: str) -> datetime:
    """NumericDate of RFC 7519: seconds since 1970."""
    try:
        return datetime.fromtimestamp(number(claims, name), UTC)
    except (OverflowError, ValueError, OSError):
        raise BadMessage(f"{name} is no time that a calendar has") from None


def seconds(when: datetime) -> int:
    return int(when.timestamp())


def texts(claims: Claims, name: str, most: int, most_characters: int = 64) -> tuple[str, ...]:
    value = claims.get(name)
    found = tuple(value) if isinstance(value, list) else ()
    if 1 <= len(found) <= most and all(isinstance(each, str) and 1 <= len(each) <= most_characters for each in found):
        return found
    raise BadMessage(f"{name} must be a list of 1 to {most} texts of at most {most_characters} characters")
