"""The same desk at a PC/SC reader: a blank card gets its keys through a real pcscd and the virtual reader vpcd."""

from __future__ import annotations

import json

import pytest

from agent.card_keys import CardKeyBox, read_seal
from agent.cli import main
from agent.fleet.folder import FleetFolder
from drivers.cards.proof import true_uid
from drivers.cards.virtual_desfire import VirtualDesfire
from drivers.readers.pcsc_simulator import VpcdCard, atr
from tests.readers import pcsc_room

UID = bytes.fromhex("04958CAA5C5E80")


@pytest.mark.slow
def test_a_blank_card_gets_its_keys_over_pcsc(tmp_path, capsys):
    if (obstacle := pcsc_room.obstacle()) is not None:
        pytest.skip(obstacle)
    (tmp_path / "master").write_text("00" * 15 + "01")
    (tmp_path / "seal").write_text("ab" * 32)
    (tmp_path / "fleet" / "keys").mkdir(parents=True)
    (tmp_path / "fleet" / "keys" / "token.key").write_text("cd" * 32)
    card = VirtualDesfire(UID)
    words = ["--profile", "readers/pcsc_contactless", "--port", pcsc_room.READER, "--json"]
    words += ["--master", str(tmp_path / "master")]
    box = ["--fleet", str(tmp_path / "fleet"), "--keys", str(tmp_path / "card.keys"), "--seal", str(tmp_path / "seal")]
    (tmp_path / "room").mkdir()
    with pcsc_room.Room(tmp_path / "room") as room, VpcdCard(room.connect, UID, atr=atr(b"\x80"), answer=card.apdu):
        assert main(["cards", "provision", *words, *box, "--write"]) == 0
        assert json.loads(capsys.readouterr().out)["written"] is True
        assert main(["cards", "check", *words]) == 0
    token_key = FleetFolder(tmp_path / "fleet").token_key
    key = CardKeyBox(tmp_path / "card.keys", seal=read_seal(tmp_path / "seal"), token_key=token_key).own(UID)
    assert key is not None
    card.reset()
    assert true_uid(card.apdu, key) == UID
