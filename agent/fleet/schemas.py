"""JSON Schemas of a fleet's files, for editors that complete and underline while one writes. Made from the models.

They say what `roamkey policy check` says of one file alone; that names exist, and hours come, only the check knows.
"""

from __future__ import annotations

from typing import Any, get_args

from agent.cache.documents import Entry, entry_schema, matching_schema, policy_schema
from agent.core.aliases import LOSING
from agent.core.pins import PIN
from agent.fleet.source import ALIAS_FORMS, MADE_HERE
from agent.fleet.trial import Asking

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DEGREES = {"description": "degrees, WGS 84, at most 6 decimals", "type": ["number", "string"]}
AMOUNT = {"description": "an amount, exact as written", "type": ["number", "string"], "minimum": 0}
_POLE, _DATE_LINE = 90_000_000, 180_000_000


def schemas() -> dict[str, dict[str, Any]]:
    """By the name of the file that each is of; `question` is what `roamkey policy explain` reads."""
    return {
        "policy": _policy(),
        "drivers": _file("drivers", _tables("drivers", _driver())),
        "vehicles": _file("vehicles", _tables("vehicles", _keyed("vehicle"))),
        "tokens": _file("tokens", {"tokens": {"type": "array", "items": _token()}}),
        "sites": _file("sites", {**_tables("sites", _keyed("site")), "matching": _plain(matching_schema())}),
        "question": _file_of(_plain(Asking.model_json_schema()), "question"),
    }


def _policy() -> dict[str, Any]:
    known = policy_schema()
    hours = {name: known["properties"][name] for name in ("stale_after_hours", "expired_after_hours")}
    tables: dict[str, Any] = {}
    for kind in get_args(Entry):
        if f"{kind}s" in known["properties"]:
            tables |= _tables(f"{kind}s", _plain(entry_schema(kind)))
    forms = {"type": "array", "items": {"enum": sorted(each.value for each in LOSING)}}
    return _file("policy", {**hours, **tables, ALIAS_FORMS: forms})


def _keyed(kind: Entry) -> dict[str, Any]:
    """The entry's id is the name of its table."""
    schema: dict[str, Any] = _plain(entry_schema(kind))
    schema["properties"].pop("id")
    schema["required"] = [name for name in schema.get("required", []) if name != "id"]
    return schema


def _driver() -> dict[str, Any]:
    schema = _keyed("driver")
    schema["properties"]["pin"] = {"type": "string", "pattern": PIN, "description": "in clear here, and nowhere after"}
    schema.get("$defs", {}).pop("_Pin", None)
    return schema


def _token() -> dict[str, Any]:
    schema: dict[str, Any] = _plain(entry_schema("token"))
    for name in MADE_HERE:
        schema["properties"].pop(name, None)
    numbers = {
        "uid": {"type": "string", "description": "hexadecimal, in the order on air; : - . and spaces may stand in it"},
        "emaid": {"type": "string", "description": "a contract's id"},
        "wallet": {"type": "string", "description": "the id of a pass in a phone's wallet"},
    }
    schema["properties"] = numbers | schema["properties"]
    schema["required"] = [name for name in schema["required"] if name not in MADE_HERE]
    schema["oneOf"] = [{"required": [name]} for name in numbers]
    return schema


def _tables(plural: str, entry: dict[str, Any]) -> dict[str, Any]:
    return {plural: {"type": "object", "additionalProperties": entry}}


def _file(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    definitions: dict[str, Any] = {}
    lifted = {key: _lifted(value, definitions) for key, value in properties.items()}
    made: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": lifted}
    return _file_of(made | ({"$defs": definitions} if definitions else {}), name)


def _file_of(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return {"$schema": DIALECT, "$id": f"urn:roamkey:schema:fleet:{name}:1", **schema, "title": name}


def _lifted(schema: Any, definitions: dict[str, Any]) -> Any:
    """An entry's own definitions become the file's, where its references look for them."""
    match schema:
        case dict():
            definitions |= {name: _lifted(each, definitions) for name, each in schema.get("$defs", {}).items()}
            return {name: _lifted(each, definitions) for name, each in schema.items() if name != "$defs"}
        case list():
            return [_lifted(each, definitions) for each in schema]
        case _:
            return schema


def _plain(schema: Any) -> Any:
    """As people write it: nothing is null, degrees are degrees, and a title that repeats the key says nothing."""
    match schema:
        case {"anyOf": [*choices], **rest} if {"type": "null"} in choices:
            left = [_plain(each) for each in choices if each != {"type": "null"}]
            others = {name: _plain(each) for name, each in rest.items() if name not in ("default", "title")}
            return {**others, **left[0]} if len(left) == 1 else {**others, "anyOf": left}
        case {"type": "integer", "le": largest} if largest in (_POLE, _DATE_LINE):
            return DEGREES
        case {"max_digits": _, "decimal_places": _}:
            return AMOUNT
        case dict():
            # A property that is called `title` is a schema, the keyword a text.
            said = (item for item in schema.items() if not (item[0] == "title" and isinstance(item[1], str)))
            return {name: _plain(each) for name, each in said}
        case list():
            return [_plain(each) for each in schema]
        case _:
            return schema
