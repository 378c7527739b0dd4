"""Cards that readers tell in part, from the bundle to the device's table: unique over all shards, or nobody's."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from agent.cache.cache import Activated, Ambiguous
from agent.cache.tokens import TokenTable
from agent.core.credentials import alias_reference

ANNA, TWIN, OTHER = "04A23B4C5D6080", "04A23B4CFFFFFF", "04B1C2D3E4F580"


def told_in_part(make: Any, uid: str, **fields: Any) -> dict[str, Any]:
    return make.a_token(uid, aliases=[alias_reference(make.KEY, "first_4", uid[:8])], **fields)


def first_4(make: Any, uid: str) -> str:
    return alias_reference(make.KEY, "first_4", uid[:8])


def test_a_part_leads_to_its_token_and_stops_doing_so_when_a_twin_is_published(
    fleet: Any, device: Any, make: Any
) -> None:
    tokens = [told_in_part(make, ANNA), told_in_part(make, OTHER), make.a_token("DEADBEEF")]
    assert isinstance(device.updates(fleet.publishes(tokens=tokens), make.at()), Activated)
    assert device.cache.lookup_alias(first_4(make, ANNA)) == make.ref(ANNA)
    assert device.cache.lookup_alias(first_4(make, "DEADBEEF")) is None
    assert make.ref(ANNA)[:2] != make.ref(TWIN)[:2], "they are in different shards"

    twins = [*tokens, told_in_part(make, TWIN, status="blocked")]
    assert isinstance(device.updates(fleet.publishes(tokens=twins, hours=1), make.at(1)), Activated)
    with pytest.raises(Ambiguous):
        device.cache.lookup_alias(first_4(make, ANNA))
    assert device.cache.lookup_alias(first_4(make, OTHER)) == make.ref(OTHER)
    assert device.cache.lookup(make.ref(ANNA)) is not None, "told whole it is who it was"

    assert isinstance(device.updates(fleet.publishes(tokens=tokens, hours=2), make.at(2)), Activated)
    assert device.cache.lookup_alias(first_4(make, ANNA)) == make.ref(ANNA)


def test_a_table_from_before_there_were_parts_knows_none(tmp_path: Any) -> None:
    sqlite3.connect(tmp_path / "tokens").close()
    assert TokenTable(tmp_path / "tokens", shard=lambda reference: b"").alias("00" * 32) is None
