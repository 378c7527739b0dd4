"""Where things stand in a fleet's files, and that YAML and TOML say the same."""

from __future__ import annotations

import tomllib
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.fleet.toml_places import lines_of
from agent.fleet.yaml_text import YamlUnfit, read_yaml

HARD = '''\
# a comment with [brackets] and "quotes"
top = 1
"quoted \\u00e9.key" = "a = [1]"   # and one behind
'literal' = 'C:\\[x]'
a.b . "c d" = {x = 1, y = {z = [1, {w = 2}]}, "q" = '}'}
text = """
[not.a.table]
fake = 1 \\" """ # quoted
raw = \'\'\'
it''s [x]\'\'\'
day = 2026-11-22 06:00:00
numbers = [
  1, # one
  [2,
   3], "]",
]
[table . "sub.key"]
k = 1
[[list]]
n = 1
[list.inner]
m = 1
[[list.inner2]]
[[list]]
[[list.inner2]]
o = [[1], []]
'''


def paths(value: Any, at: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    match value:
        case dict():
            return {(*at, key) for key in value}.union(*(paths(each, (*at, key)) for key, each in value.items()), ())
        case list():
            return {(*at, n) for n in range(len(value))}.union(*(paths(each, (*at, n)) for n, each in enumerate(value)))
        case _:
            return set()


def test_every_key_and_item_of_a_hard_text_has_its_line() -> None:
    found = lines_of(HARD)

    assert set(found) == paths(tomllib.loads(HARD))
    lines = HARD.splitlines()
    assert lines[found[("a", "b", "c d", "y", "z", 1, "w")] - 1].startswith("a.b")
    assert lines[found[("numbers", 1)] - 1] == "  [2,"
    assert lines[found[("numbers", 1, 1)] - 1] == '   3], "]",'
    assert lines[found[("table", "sub.key", "k")] - 1] == "k = 1"
    assert (found[("list", 0)], found[("list", 1)]) == (19, 24)
    assert found[("list", 0, "inner", "m")] == 22
    assert found[("list", 1, "inner2", 0, "o")] == 26


KEY = st.text(alphabet="ab-_1", min_size=1, max_size=3) | st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=4
)
SCALAR = st.integers(-9, 9) | st.booleans() | st.text(alphabet="a'\"\\[]{}#=,\n é", max_size=6) | st.dates()
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=3), max_leaves=8
)
DOCUMENT = st.dictionaries(KEY, VALUE, max_size=4)


def written(value: Any, fold: bool) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            made = value.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{made.replace(chr(10), chr(92) + "n")}"' if fold or value.startswith("\n") else f'"""{made}"""'
        case list():
            comma = "," if fold else ",\n # a ] comment\n"
            return f"[{comma.join(written(each, fold) for each in value)}]"
        case dict():
            return "{" + ", ".join(f"{written(key, True)} = {written(each, True)}" for key, each in value.items()) + "}"
        case _:
            return str(value)


@settings(max_examples=150, deadline=None)
@given(DOCUMENT, st.booleans())
def test_places_are_those_of_the_values_whatever_a_text_holds(document: dict[str, Any], fold: bool) -> None:
    lines = []
    for key, value in document.items():
        if isinstance(value, dict) and not fold:
            lines.append(f"[{written(key, True)}]")
            lines += [f"{written(inner, True)} = {written(each, True)}" for inner, each in value.items()]
        else:
            lines.insert(0, f"{written(key, True)} = {written(value, fold)}")
    text = "\n".join(lines)
    value = tomllib.loads(text)

    found = lines_of(text)

    assert set(found) == paths(value)
    assert all(1 <= line <= text.count("\n") + 1 for line in found.values())


def test_yaml_says_what_it_shows() -> None:
    value, places = read_yaml(
        "countries: [NO, DE, yes]\n"
        "windows:\n  - {start: 06:00, end: 22:30}\n"
        "uid: 04E10123\n"
        "per_kwh: 0.55\nhours: 12\noffline: false\nnothing: ~\n"
        "until: 2027-12-31\nmoment: 2027-01-01T00:00:00+01:00\nquoted: '12'\n"
    )

    assert value == {
        "countries": ["NO", "DE", "yes"],
        "windows": [{"start": "06:00", "end": "22:30"}],
        "uid": "04E10123",
        "per_kwh": Decimal("0.55"),
        "hours": 12,
        "offline": False,
        "nothing": {},
        "until": date(2027, 12, 31),
        "moment": datetime(2026, 12, 31, 23, tzinfo=UTC),
        "quoted": "12",
    }
    assert (places["countries", 1], places["windows", 0, "end"], places["until",]) == (1, 3, 9)


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("a: 1\na: 2\n", 2, "here twice"),
        ("a: &x 1\nb: *x\n", 2, "aliases"),
        ("a: !!python/object:os.system x\nb: [", 2, "expected"),
        ("? [1]\n: 2\n", 1, "a key must be a word"),
        ("a: " + "[" * 40 + "]" * 40, 1, "nested deeper"),
        ("\ta: 1\n", 1, "cannot start any token"),
    ],
)
def test_yaml_that_cannot_be_taken_is_told_with_its_line(text: str, line: int, told: str) -> None:
    with pytest.raises(YamlUnfit, match=told) as refused:
        read_yaml(text)
    assert refused.value.line == line


def test_yaml_makes_no_objects() -> None:
    value, _ = read_yaml("a: !!python/object/apply:os.getcwd []\n")
    assert value == {"a": []}
