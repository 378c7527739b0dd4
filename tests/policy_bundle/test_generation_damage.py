"""Flash that loses bits: what is found is right or refused with a clear error, and the next update mends it."""

from __future__ import annotations

import contextlib
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from agent.cache.cache import Activated, Refused, TokensUnreadable
from agent.cache.tokens import TokenTable

UIDS = [f"04{number:06X}" for number in range(200)]


@pytest.fixture
def equipped(fleet: Any, device: Any, make: Any) -> Any:
    """Revision 2 (empty of tokens), then revision 3 with 200 tokens in force."""
    device.updates(fleet.publishes(tokens=[]))
    device.updates(fleet.publishes(hours=1, tokens=[make.a_token(uid) for uid in UIDS]), make.at(1))
    device.stops()
    return device


def _generation(device: Any, revision: int = 3) -> Path:
    (path,) = (device.folder / "generations").glob(f"{revision}-*")
    return Path(path)


def _flip(path: Path, position: int) -> None:
    body = bytearray(path.read_bytes())
    body[position] ^= 1 << (position % 8)
    path.write_bytes(body)


def _answers(device: Any, make: Any) -> None:
    """Every known token is found as it was published, or the table says that it cannot be read; same for strangers."""
    for uid in (UIDS[0], UIDS[77], UIDS[199]):
        try:
            token = device.cache.lookup(make.ref(uid))
        except TokensUnreadable:
            continue
        assert token is not None
        assert (token.label, token.group) == (f"card {uid[-2:]}", "fleet")
    with contextlib.suppress(TokensUnreadable):
        assert device.cache.lookup(make.ref("04FFFFFF")) is None


def test_flipped_bits_in_the_token_table_never_answer_wrongly(equipped: Any, make: Any) -> None:
    table = _generation(equipped) / "tokens.sqlite"
    whole = table.read_bytes()
    for seed in range(60):
        random.seed(seed)
        table.write_bytes(whole)
        for _ in range(1 + seed % 20):
            _flip(table, random.randrange(len(whole)))
        assert equipped.starts(make.at(1)).findings == []  # sealed row by row: a start need not read it all
        _answers(equipped, make)


def test_every_page_of_the_token_table_may_be_zeroed(equipped: Any, make: Any) -> None:
    table = _generation(equipped) / "tokens.sqlite"
    whole = table.read_bytes()
    for start in range(0, len(whole), 4096):
        table.write_bytes(whole[:start] + bytes(4096) + whole[start + 4096 :])
        equipped.starts(make.at(1))
        _answers(equipped, make)


def test_a_lost_row_is_not_taken_for_an_unknown_card(equipped: Any, make: Any) -> None:
    import sqlite3

    connection = sqlite3.connect(_generation(equipped) / "tokens.sqlite")
    size = connection.execute("PRAGMA page_count").fetchone()
    connection.execute("DELETE FROM token WHERE reference = ?", (bytes.fromhex(make.ref(UIDS[5])),))
    connection.commit()
    assert connection.execute("PRAGMA page_count").fetchone() == size
    connection.close()

    with pytest.raises(TokensUnreadable, match="lost a token"):
        equipped.cache.lookup(make.ref(UIDS[5]))
    assert equipped.cache.lookup(make.ref("04FFFFFF")) is None


def test_unreadable_table_is_built_anew_by_the_next_update_of_the_same_bundle(
    fleet: Any, equipped: Any, make: Any
) -> None:
    table = _generation(equipped) / "tokens.sqlite"
    table.write_bytes(bytes(table.stat().st_size))
    with pytest.raises(TokensUnreadable):
        equipped.cache.lookup(make.ref(UIDS[0]))

    result = equipped.updates(fleet.copy(), make.at(1))

    assert isinstance(result, Activated)
    assert equipped.cache.lookup(make.ref(UIDS[0])) is not None
    assert equipped.starts(make.at(1)).lookup(make.ref(UIDS[0])) is not None


@pytest.mark.parametrize("file", ["tokens.sqlite", "documents.json", "manifest.json", "targets.json"])
def test_truncated_generation_falls_back_to_the_previous_one_and_says_so(
    fleet: Any, equipped: Any, make: Any, file: str
) -> None:
    path = _generation(equipped) / file
    path.write_bytes(path.read_bytes()[:-1])

    cache = equipped.starts(make.at(1))

    assert cache.active.policy.revision == 2
    assert len(cache.findings) == 2
    assert "generation 3-" in cache.findings[0]
    assert "generation 2-" in cache.findings[1]
    # The floors stay, and the next update brings the newest bundle back from the same repository.
    assert isinstance(equipped.updates(fleet.copy(), make.at(1)), Activated)
    assert equipped.starts(make.at(1)).active.policy.revision == 3
    assert equipped.cache.findings == []


def test_previous_generation_does_not_borrow_the_age_of_the_newer_one(fleet: Any, equipped: Any, make: Any) -> None:
    shutil.rmtree(_generation(equipped))

    assert equipped.starts(make.at(1)).active.policy.confirmed == make.NOON


def test_without_any_readable_generation_nobody_charges(fleet: Any, equipped: Any, make: Any) -> None:
    for revision in (2, 3):
        _flip(_generation(equipped, revision) / "manifest.json", 10)

    cache = equipped.starts(make.at(1))

    assert cache.active is None
    assert len(cache.findings) == 2
    assert cache.lookup(make.ref(UIDS[0])) is None


def test_damaged_part_is_fetched_again(fleet: Any, equipped: Any, make: Any) -> None:
    for path in (equipped.folder / "parts").iterdir():
        path.write_bytes(b"x")
    stick = fleet.publishes(hours=2, tokens=[make.a_token(UIDS[0])])

    assert isinstance(equipped.updates(stick, make.at(2)), Activated)
    assert equipped.cache.lookup(make.ref(UIDS[0])) is not None


@pytest.mark.parametrize("content", [b"", b"junk" * 5000, None], ids=["emptied", "junk", "deleted"])
def test_lost_trust_store_takes_its_floors_from_the_generation(
    fleet: Any, equipped: Any, make: Any, content: bytes | None
) -> None:
    stale = fleet.copy()
    newer = fleet.publishes(hours=2)
    equipped.updates(newer, make.at(2))
    equipped.stops()
    for path in equipped.folder.glob("trust.sqlite*"):
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)

    cache = equipped.starts(make.at(2))

    assert cache.active.policy.revision == 4
    refused = equipped.updates(stale, make.at(2))
    assert isinstance(refused, Refused)
    assert refused.error == "BadVersionNumberError"


def test_truncated_or_flipped_trust_store_never_stops_the_start_and_never_lowers_a_floor(
    fleet: Any, equipped: Any, make: Any
) -> None:
    stale = fleet.copy()
    equipped.updates(fleet.publishes(hours=2), make.at(2))
    equipped.stops()
    store = equipped.folder / "trust.sqlite"
    whole = store.read_bytes()
    random.seed(5)
    for position in [0, 20, 30, 100, *(random.randrange(len(whole)) for _ in range(10))]:
        for path in equipped.folder.glob("trust.sqlite*"):
            path.unlink()
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        store.write_bytes(damaged if position % 2 else damaged[:-4096])

        assert equipped.starts(make.at(2)).active.policy.revision in (3, 4)
        refused = equipped.updates(stale, make.at(2))
        assert isinstance(refused, Refused), position
        equipped.stops()


def test_state_of_another_fleet_is_not_used(fleet: Any, equipped: Any, make: Any) -> None:
    equipped.fleet = "valley"

    cache = equipped.starts(make.at(1))

    assert cache.active is None
    assert all("is of fleet 'meadow'" in finding for finding in cache.findings)


@pytest.mark.slow
def test_a_hundred_thousand_tokens_load_in_milliseconds(fleet: Any, device: Any, make: Any) -> None:
    import time

    uids = [f"04{number:08X}" for number in range(100_000)]
    device.updates(fleet.publishes(tokens=[make.a_token(uid) for uid in uids]))
    device.stops()

    began = time.perf_counter()
    cache = device.starts()
    opened_s = time.perf_counter() - began
    looked_up = []
    for uid in uids[::1000]:
        began = time.perf_counter()
        assert cache.lookup(make.ref(uid)) is not None
        looked_up.append(time.perf_counter() - began)

    assert cache.active.token_count == 100_000
    assert opened_s < 0.1  # about 5 ms; the rest is for a busy machine
    assert sorted(looked_up)[50] < 0.005


def test_table_that_is_not_there_cannot_be_opened_silently(tmp_path: Path) -> None:
    with pytest.raises(TokensUnreadable):
        TokenTable(tmp_path / "none.sqlite", shard=lambda reference: b"").get("00" * 32)
