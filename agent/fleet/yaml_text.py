"""YAML as a fleet writes it: plain scalars mean what they show, and every value has its line.

YAML's own types are a trap in a policy: by YAML 1.1 `NO` is false and not Norway, `06:00` is 360, `04E10123` a number.
So only the tree comes from the library (never its loaders, which could make objects), and scalars are read here as in
TOML: true, false, whole numbers, fractions, days and moments; everything else is text. Needs the extra `yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

Path = tuple[str | int, ...]

_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FRACTION = re.compile(r"[-+]?[0-9]{1,18}\.[0-9]{1,18}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)
_NOTHING = ("", "~", "null")
MAX_DEPTH = 32


class YamlUnfit(Exception):
    """This is no YAML that can be taken; `line` counts from 1."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(f"line {line}: {text}")
        self.line = line
        self.text = text


class YamlMissing(Exception):
    """The library is not installed."""


def read_yaml(text: str) -> tuple[Any, Mapping[Path, int]]:
    """The value, as tomllib would give it, and the line of each key and item."""
    try:
        import yaml
    except ImportError as error:
        raise YamlMissing("YAML needs PyYAML: install roamkey[yaml], or write TOML") from error
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise YamlUnfit(event.start_mark.line + 1, "aliases (*name) are not taken: write it out")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlUnfit(mark.line + 1 if mark else 1, str(error.problem or error.context)) from error
    except yaml.YAMLError as error:
        raise YamlUnfit(1, str(error).splitlines()[0]) from error
    except RecursionError as error:
        raise YamlUnfit(1, f"it is nested deeper than {MAX_DEPTH} levels") from error
    places: dict[Path, int] = {}
    return ({} if node is None else _value(node, (), places)), places


def _value(node: Any, path: Path, places: dict[Path, int]) -> Any:
    if len(path) > MAX_DEPTH:
        raise YamlUnfit(node.start_mark.line + 1, f"it is nested deeper than {MAX_DEPTH} levels")
    if path:
        places.setdefault(path, node.start_mark.line + 1)
    if node.id == "mapping":
        return _mapping(node, path, places)
    if node.id == "sequence":
        return [_value(each, (*path, index), places) for index, each in enumerate(node.value)]
    return _scalar(node)


def _mapping(node: Any, path: Path, places: dict[Path, int]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.id != "scalar":
            raise YamlUnfit(line, "a key must be a word")
        if key.value in made:
            raise YamlUnfit(line, f"{key.value!r} is here twice")
        places[(*path, key.value)] = line
        made[key.value] = _value(value, (*path, key.value), places)
    # `van-7:` with nothing after it is an empty table, as [vehicles.van-7] is.
    return {name: {} if value is None else value for name, value in made.items()}


def _scalar(node: Any) -> Any:
    text: str = node.value
    if node.style is not None:  # quoted, or a block
        return text
    if text in _NOTHING:
        return None
    if text in ("true", "false"):
        return text == "true"
    if _WHOLE.fullmatch(text):
        return int(text)
    if _FRACTION.fullmatch(text):
        return Decimal(text)
    try:
        if _DAY.fullmatch(text):
            return date.fromisoformat(text)
        if _MOMENT.fullmatch(text):
            return datetime.fromisoformat(text.upper())
    except ValueError:
        return text  # 2026-02-31: whoever wants a day there says what is wrong with it
    return text
