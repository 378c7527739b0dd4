"""The sealed keys of cards on a vehicle: what they open for, what they refuse, what they never show."""

from __future__ import annotations

import json
import os

import pytest

from agent.card_keys import CardKeyBox, read_seal
from agent.vault import VaultError
from drivers.cards.apdu import NotGenuine
from drivers.cards.proof import CardKey, Scheme

UID, OTHER = bytes.fromhex("04958CAA5C5E80"), bytes.fromhex("04A23B4C5D6080")
SEAL, TOKEN_KEY = bytes(range(32)), b"t" * 32
KEY = CardKey(scheme=Scheme.DESFIRE_EV2, key_no=2, key=b"k" * 16, application=b"\xf5\x12\x34")
SHARED = CardKey(scheme=Scheme.NTAG_424, key_no=1, key=b"i" * 16)


@pytest.fixture
def path(tmp_path):
    box = CardKeyBox.create(tmp_path / "card.keys", seal=SEAL, token_key=TOKEN_KEY)
    box.introduce(SHARED)
    box.add(UID, KEY)
    return tmp_path / "card.keys"


def opened(path, seal=SEAL, token_key=TOKEN_KEY):
    return CardKeyBox(path, seal=seal, token_key=token_key)


def test_a_card_s_own_key_and_the_introduction_come_back(path):
    box = opened(path)
    assert box.own(UID) == KEY
    assert box.own(OTHER) is None
    assert box.introductions() == (SHARED,)


def test_neither_keys_nor_uids_stand_in_the_file_and_only_its_owner_reads_it(path):
    content = path.read_bytes()
    for secret in (KEY.key, SHARED.key, UID, KEY.key.hex().encode(), UID.hex().encode(), UID.hex().upper().encode()):
        assert secret not in content
    assert path.stat().st_mode & 0o077 == 0
    assert "k" * 16 not in repr(opened(path)) + repr(opened(path).own(UID))


def test_another_seal_opens_nothing(path):
    with pytest.raises(VaultError, match="seal"):
        opened(path, seal=b"x" * 32)


def test_another_fleet_s_token_key_is_noticed_at_the_start(path):
    with pytest.raises(VaultError, match="another token key"):
        opened(path, token_key=b"u" * 32)


def test_keys_cannot_be_moved_from_one_card_to_another(path):
    box = opened(path)
    box.add(OTHER, CardKey(scheme=Scheme.DESFIRE_EV2, key_no=2, key=b"o" * 16, application=b"\xf5\x12\x34"))
    document = json.loads(path.read_text())
    mine, other = document["cards"]
    document["cards"] = {mine: document["cards"][other], other: document["cards"][mine]}
    path.write_text(json.dumps(document))
    with pytest.raises(NotGenuine):
        opened(path).own(UID)


def test_a_new_file_is_taken_at_the_next_tap_and_a_spoiled_one_is_not(path):
    box = opened(path)
    opened(path).add(OTHER, KEY)
    assert box.own(OTHER) == KEY
    path.write_text("spoiled")
    os.utime(path, ns=(1, 1))
    assert box.own(OTHER) == KEY


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"layout": 2}', b'{"layout":1,"key_check":"","cards":{"a":1}}']
)
def test_a_damaged_or_missing_file_stops_the_start_and_says_what_to_do(path, content):
    path.write_bytes(content)
    with pytest.raises(VaultError, match="bring"):
        opened(path)
    path.unlink()
    with pytest.raises(VaultError, match="bring"):
        opened(path)


def test_a_seal_is_64_hexadecimal_digits(tmp_path):
    (tmp_path / "good").write_text(SEAL.hex() + "\n")
    (tmp_path / "bad").write_text("1234")
    assert read_seal(tmp_path / "good") == SEAL
    for name in ("bad", "missing"):
        with pytest.raises(VaultError, match="seal of the card keys"):
            read_seal(tmp_path / name)
