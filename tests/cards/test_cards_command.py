"""`roamkey cards` at a simulated desk: a dry run writes nothing, what is written works on a vehicle."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from agent.card_keys import CardKeyBox, read_seal
from agent.card_office import Office
from agent.cli import main
from agent.fleet.folder import FleetFolder
from drivers.cards.diversification import with_key
from drivers.cards.proof import Scheme, true_uid
from drivers.cards.provisioning import Kind
from drivers.cards.virtual_desfire import Generation, VirtualDesfire
from drivers.cards.virtual_ntag424 import VirtualNtag424
from drivers.readers.pn532 import Pn532Reader
from drivers.readers.pn532_simulator import Pn532Simulator
from drivers.readers.reader import Feedback
from drivers.readers.virtual_cards import IsoDepCard, Phone, Type2Card

UID = bytes.fromhex("04958CAA5C5E80")
TAG = bytes.fromhex("04A23B4C5D6080")
MASTER = "00112233445566778899AABBCCDDEEFF"


class Desk:
    """A reader, a fleet's folder and its files."""

    def __init__(self, folder: Path, chip: Pn532Simulator, capsys) -> None:
        self.folder, self.chip, self._capsys = folder, chip, capsys
        (folder / "master").write_text(MASTER)
        (folder / "seal").write_text("ab" * 32)
        (folder / "fleet" / "keys").mkdir(parents=True)
        (folder / "fleet" / "keys" / "token.key").write_text("cd" * 32 + "\n")
        self.tokens, self.keys = folder / "tokens.csv", folder / "card.keys"

    def run(self, action: str, *words: str, box: bool = True) -> tuple[int, dict[str, object]]:
        options = ["--port", self.chip.port, "--wait", "5", "--json"]
        if box and action != "check":
            options += ["--fleet", str(self.folder / "fleet"), "--seal", str(self.folder / "seal")]
            options += ["--keys", str(self.keys)]
        if action in ("provision", "check"):
            options += ["--master", str(self.folder / "master"), "--mark", "northwind"]
        code = main(["cards", action, *options, *words])
        said = self._capsys.readouterr()
        self.said = said.out + said.err
        return code, json.loads(said.out) if said.out else {}

    def enrol(self, *words: str, box: bool = False) -> tuple[int, dict[str, object]]:
        return self.run(
            "enrol", "--tokens", str(self.tokens), "--label", "van 7", "--group", "drivers", *words, box=box
        )

    @property
    def box(self) -> CardKeyBox:
        seal, token_key = read_seal(self.folder / "seal"), FleetFolder(self.folder / "fleet").token_key
        return CardKeyBox(self.keys, seal=seal, token_key=token_key)


@pytest.fixture
def desk(tmp_path, capsys):
    with Pn532Simulator(link=tmp_path / "reader") as chip:
        yield Desk(tmp_path, chip, capsys)


def test_a_card_is_enrolled_once_and_only_when_told_to(desk):
    desk.chip.present(Type2Card(TAG))
    assert desk.enrol() == (
        0,
        {"card": "04••••••••••••", "technology": "iso14443a", "assurance": "static", "new": True, "written": False},
    )
    assert not desk.tokens.exists()
    assert desk.enrol("--write", "--driver", "anna")[1]["written"] is True
    assert desk.enrol("--write")[0] == 1, "it is there already"
    (row,) = csv.DictReader(desk.tokens.read_text().splitlines())
    assert row == {"uid": TAG.hex().upper(), "label": "van 7", "group": "drivers", "driver": "anna"}
    assert TAG.hex() not in desk.said.lower()


@pytest.mark.slow
def test_what_was_in_the_file_stays_there(desk):
    desk.tokens.write_text("uid,label,group\nDE:AD:BE:EF,old,drivers\n")
    desk.chip.present(Type2Card(TAG))
    assert desk.enrol("--write", "--vehicle", "van-7")[0] == 0
    rows = list(csv.DictReader(desk.tokens.read_text().splitlines()))
    assert [row["uid"] for row in rows] == ["DE:AD:BE:EF", TAG.hex().upper()]
    assert [row["vehicle"] for row in rows] == ["", "van-7"]


@pytest.mark.slow
@pytest.mark.parametrize("card", [Phone(), IsoDepCard(VirtualDesfire(UID, random_id=True))], ids=["phone", "private"])
def test_a_random_number_is_never_enrolled(desk, card):
    desk.chip.present(card)
    code, told = desk.enrol("--write")
    assert (code, told["done"]) == (1, False)
    assert not desk.tokens.exists()


@pytest.mark.parametrize("virtual", [VirtualDesfire, VirtualNtag424])
def test_a_blank_card_gets_its_keys_and_a_vehicle_s_box_opens_it(desk, virtual):
    card = virtual(UID)
    desk.chip.present(IsoDepCard(card))
    code, told = desk.run("provision")
    assert (code, told["written"], desk.keys.exists()) == (0, False, False)
    assert desk.run("check")[0] == 1, "a dry run gave it nothing"

    code, told = desk.run("provision", "--write")
    assert (code, told["written"]) == (0, True)
    card.reset()
    key = desk.box.own(UID)
    assert key is not None
    assert true_uid(card.apdu, key) == UID
    assert desk.run("check") == (0, {"done": True, "card": "04••••••••••••", "assurance": "authenticated"})
    assert desk.run("provision", "--write")[1]["steps"] == []
    assert UID.hex() not in desk.said.lower()


def test_a_provisioned_card_with_a_random_number_is_enrolled_by_its_true_one(desk):
    card = VirtualDesfire(UID)
    desk.chip.present(IsoDepCard(card))
    desk.run("provision", "--write")
    card.random_id = True
    card.reset()
    code, told = desk.enrol("--write", box=True)
    assert (code, told["assurance"]) == (0, "authenticated")
    assert UID.hex().upper() in desk.tokens.read_text()
    assert desk.run("check")[0] == 0


@pytest.mark.slow
def test_the_master_key_is_in_no_file_that_a_vehicle_gets(desk):
    desk.chip.present(IsoDepCard(VirtualDesfire(UID)))
    desk.run("provision", "--write")
    for secret in (MASTER.encode(), bytes.fromhex(MASTER), MASTER.lower().encode()):
        assert secret not in desk.keys.read_bytes()
    key = desk.box.own(UID)
    assert key is not None
    assert key.scheme is Scheme.DESFIRE_EV2
    assert key.key != bytes.fromhex(MASTER)


@pytest.mark.slow
def test_an_ev1_card_with_keys_made_elsewhere_is_taken_into_the_box(desk):
    card = VirtualDesfire(UID, generation=Generation.EV1)
    desk.chip.present(IsoDepCard(card))
    assert desk.run("provision", "--write")[0] == 1, "it has no keys"
    office = Office(encrypt=with_key(bytes.fromhex(MASTER)), application=bytes.fromhex("F51234"), mark=b"northwind")
    keys = office.keys_of(UID, Kind(scheme=Scheme.DESFIRE_EV1, major=1, uid=UID))
    card.install(office.application, {key.key_no: key.key for key in (keys.master, keys.introduction, keys.own)})
    assert desk.run("provision", "--write")[0] == 0
    assert desk.box.own(UID) == keys.own
    assert desk.run("check")[0] == 0


@pytest.mark.slow
def test_a_tag_with_a_message_is_taken_into_the_box_with_its_keys(desk):
    (desk.folder / "meta").write_text("11" * 16)
    (desk.folder / "file").write_text("22" * 16)
    words = ("--meta", str(desk.folder / "meta"), "--file-key", str(desk.folder / "file"))
    desk.chip.present(IsoDepCard(VirtualNtag424(UID, keys={1: b"\x11" * 16, 2: b"\x22" * 16}, random_id=True)))
    assert desk.run("tag", *words) == (0, {"card": "04••••••••••••", "written": False})
    assert not desk.keys.exists()
    assert desk.run("tag", *words, "--write")[1]["written"] is True
    key = desk.box.own(UID)
    assert key is not None
    assert (key.scheme, desk.box.introductions()[0].meta) == (Scheme.SUN, b"\x11" * 16)
    code, told = desk.enrol("--write", box=True)
    assert (code, told["assurance"]) == (0, "static")
    (desk.folder / "file").write_text("33" * 16)
    assert desk.run("tag", *words, "--write")[0] == 1


@pytest.mark.slow
def test_a_forged_card_is_not_genuine(desk):
    desk.chip.present(IsoDepCard(VirtualDesfire(UID)))
    desk.run("provision", "--write")
    clone = VirtualDesfire(UID)
    clone.install(bytes.fromhex("F51234"), dict.fromkeys(range(3), bytes(16)))
    desk.chip.present(IsoDepCard(clone))
    code, told = desk.run("check")
    assert (code, told["done"]) == (1, False)


@pytest.mark.slow
def test_two_cards_or_none_are_waited_for_and_said_so(desk):
    desk.chip.present(Type2Card(TAG), Type2Card(bytes.fromhex("DEADBEEF")))
    assert desk.enrol("--wait", "0.3")[0] == 69
    assert "alone" in desk.said


@pytest.mark.slow
def test_a_missing_reader_a_bad_key_and_a_bad_application_are_said_so(desk):
    desk.chip.present(Type2Card(TAG))
    assert desk.enrol("--port", str(desk.folder / "nothing"), "--wait", "0.3")[0] == 69
    (desk.folder / "master").write_text("1234")
    assert desk.run("check")[0] == 69
    assert "32 hexadecimal digits" in desk.said
    (desk.folder / "master").write_text(MASTER)
    assert desk.run("check", "--application", "000000")[0] == 69


def test_the_reader_at_the_desk_shows_that_it_waits_for_a_card(desk, monkeypatch):
    shown = []

    async def signal(reader, feedback, text):
        shown.append(feedback)

    monkeypatch.setattr(Pn532Reader, "signal", signal)
    desk.chip.present(Type2Card(TAG))
    assert desk.enrol()[0] == 0
    assert shown == [Feedback.LEARN]
