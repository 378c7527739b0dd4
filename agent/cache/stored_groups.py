"""A group as JSON of a generation, and back: driven by the fields of its dataclasses, without the documents' checker.

Only what this program wrote and sealed is read here; what the fleet signed is read in documents.py.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo

from agent.core.policy import Group
from agent.core.terms import Window


def group_document(group: Group) -> dict[str, Any]:
    document: dict[str, Any] = _plain(group)
    return document


def group_of(document: Mapping[str, Any]) -> Group:
    """Raises KeyError, TypeError or ValueError for what `group_document` did not write."""
    group: Group = _value(Group, document)
    return group


def _plain(value: Any) -> Any:
    match value:
        case Enum():
            return value.value
        case None | bool() | int() | str():
            return value
        case Decimal() | date():
            return str(value)
        case ZoneInfo():
            return value.key
        case Window():  # as the first editions wrote it
            return [sorted(value.weekdays), value.start_minute, value.end_minute]
        case frozenset():
            return sorted(_plain(each) for each in value)
        case tuple():
            return [_plain(each) for each in value]
        case Mapping():
            return {_plain(name): _plain(each) for name, each in value.items()}
        case _ if is_dataclass(value) and not isinstance(value, type):
            # Groups mostly say little; what equals its default is left out.
            said = ((name, getattr(value, name), default) for name, default in _fields(type(value)))
            return {name: _plain(each) for name, each, default in said if each != default}
        case _:
            raise TypeError(f"a group must not hold a {type(value).__name__}")


@cache
def _fields(kind: type) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (each.name, each.default_factory() if each.default_factory is not MISSING else each.default)
        for each in fields(kind)
    )


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _value(kind: Any, raw: Any) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, Union):
        return None if raw is None else _value(next(each for each in inner if each is not type(None)), raw)
    if origin is frozenset:
        return frozenset(_value(inner[0], each) for each in raw)
    if origin is tuple:
        return tuple(_value(inner[0], each) for each in raw)
    if origin is not None and issubclass(origin, Mapping):
        return {_value(inner[0], name): _value(inner[1], each) for name, each in raw.items()}
    if kind is Window:
        days, start, end = raw
        return Window(weekdays=frozenset(days), start_minute=start, end_minute=end)
    if kind is date:
        return date.fromisoformat(raw)
    if is_dataclass(kind):
        hints = _hints(kind)  # type: ignore[arg-type]
        return kind(**{name: _value(hints[name], each) for name, each in raw.items()})  # type: ignore[operator]
    if kind in (bool, int, str):
        if type(raw) is not kind:
            raise TypeError(f"{raw!r} is no {kind.__name__}")
        return raw
    return kind(raw)  # Enum, Decimal, ZoneInfo
