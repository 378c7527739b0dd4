"""The token table of a new generation is a revised copy of the last one where little has changed: never another one."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from agent.cache import generations
from agent.cache.cache import Activated
from agent.cache.tokens import Ambiguous
from agent.core.credentials import alias_reference

UIDS = [f"04A1B2C3D4{number:04X}" for number in range(300)]


@pytest.fixture
def revised(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many shards each revision touched."""
    calls: list[int] = []
    before = generations.revise_table

    def watched(path: Path, shards: Any, tokens: Any) -> int:
        calls.append(len(shards))
        return before(path, shards, tokens)

    monkeypatch.setattr(generations, "revise_table", watched)
    return calls


def rows(device: Any) -> list[tuple[bytes, ...]]:
    path = max(
        (device.folder / "generations").glob("*/tokens.sqlite"), key=lambda each: int(each.parent.name.split("-")[0])
    )
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        found: list[tuple[bytes, ...]] = connection.execute("SELECT * FROM token ORDER BY reference").fetchall()
        return found
    finally:
        connection.close()


@pytest.mark.slow
def test_whatever_changes_the_table_is_as_if_it_were_new(
    fleet: Any, device: Any, make: Any, tmp_path: Path, revised: list[int]
) -> None:
    chance = random.Random(7)
    tokens = {uid: make.a_token(uid) for uid in UIDS[:250]}
    device.updates(fleet.publishes(tokens=list(tokens.values())))
    for hours in range(1, 7):
        for _ in range(chance.choice((1, 3, 10))):
            uid = chance.choice(UIDS)
            if uid in tokens and chance.random() < 0.4:
                del tokens[uid]
            else:
                tokens[uid] = make.a_token(uid, label=f"at {hours}", status=chance.choice(("active", "blocked")))
        stick = fleet.publishes(hours=hours, tokens=list(tokens.values()))

        result = device.updates(stick, make.at(hours))

        assert isinstance(result, Activated)
        assert result.tokens == len(tokens)
        fresh = make.ADevice(tmp_path / f"fresh-{hours}", "meadow", fleet.root)
        fresh.updates(stick, make.at(hours))
        assert rows(device) == rows(fresh)
        fresh.stops()
    assert len(revised) == 6
    assert max(revised) <= 30


def test_a_table_is_built_anew_when_a_group_is_gone_or_most_has_changed(
    fleet: Any, device: Any, make: Any, revised: list[int]
) -> None:
    two = {"fleet": {}, "vans": {}}
    device.updates(fleet.publishes(groups=two, tokens=[make.a_token(uid) for uid in UIDS]))
    device.updates(
        fleet.publishes(hours=1, groups={"fleet": {}}, tokens=[make.a_token(uid) for uid in UIDS]), make.at(1)
    )
    assert revised == []
    changed = [make.a_token(uid, label="new") for uid in UIDS]
    device.updates(fleet.publishes(hours=2, tokens=changed), make.at(2))
    assert revised == []
    assert len(rows(device)) == len(UIDS)


def test_a_table_that_was_damaged_is_not_copied(fleet: Any, device: Any, make: Any, revised: list[int]) -> None:
    device.updates(fleet.publishes(tokens=[make.a_token(uid) for uid in UIDS]))
    (path,) = (device.folder / "generations").glob("*/tokens.sqlite")
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)

    device.updates(fleet.publishes(hours=1, tokens=[make.a_token(uid) for uid in UIDS[1:]]), make.at(1))

    assert revised == []
    assert all(device.cache.lookup(make.ref(uid)) is not None for uid in UIDS[1:])


def test_tokens_that_are_told_by_parts_of_them_want_a_new_table(fleet: Any, device: Any, make: Any) -> None:
    """Whether an alias fits two tokens is a matter of all shards."""
    alias = alias_reference(make.KEY, "tail", "c3d40000")
    tokens = [make.a_token(uid) for uid in UIDS]
    device.updates(fleet.publishes(tokens=tokens))
    for number, holders in enumerate(([0], [0, 1], [1]), start=1):
        told = [token | ({"aliases": [alias]} if at in holders else {}) for at, token in enumerate(tokens)]
        result = device.updates(fleet.publishes(hours=number, tokens=told), make.at(number))
        assert isinstance(result, Activated)
        assert len(rows(device)) == len(UIDS)
        table = device.cache.active.tokens
        if len(holders) == 1:
            assert table.alias(alias) == tokens[holders[0]]["reference"]
        else:
            with pytest.raises(Ambiguous):
                table.alias(alias)
