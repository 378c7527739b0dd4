"""JSON out with exact numbers: a Decimal is written digit by digit and never through a float."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal

Value = object


def dumps(value: Value, *, level: int = 0) -> str:
    """Indented JSON of mappings, lists, tuples, text, Decimals, integers, booleans and None."""
    here, deeper = "  " * level, "  " * (level + 1)
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, Mapping) and value:
        items = (f"{deeper}{json.dumps(str(key))}: {dumps(item, level=level + 1)}" for key, item in value.items())
        return "{\n" + ",\n".join(items) + f"\n{here}}}"
    if isinstance(value, list | tuple) and value:
        return "[\n" + ",\n".join(f"{deeper}{dumps(item, level=level + 1)}" for item in value) + f"\n{here}]"
    return json.dumps([] if isinstance(value, tuple) else value, ensure_ascii=False)


def plain(value: Decimal) -> str:
    """Without an exponent and without zeros at the end: 0.5, 100, 0."""
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def decimal_document(text: str) -> Value:
    """JSON read with every number as a Decimal."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)
