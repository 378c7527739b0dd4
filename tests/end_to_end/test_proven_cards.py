"""Cards that prove themselves, at the whole service: who is granted, who is not, and that nothing of it is in clear."""

from __future__ import annotations

import time

import pytest

from agent.card_keys import CardKeyBox, read_seal
from agent.demo.fleet import ANNA, STRANGER
from agent.vault import read_token_key
from drivers.cards.proof import CardKey, Scheme
from drivers.cards.virtual_desfire import VirtualDesfire
from drivers.readers.virtual_cards import IsoDepCard, Phone, Type2Card
from tests.end_to_end.premises import until
from tests.end_to_end.test_nothing_in_clear import ALLOWED, files_below, forms_of, hits

pytestmark = pytest.mark.slow

APPLICATION = bytes.fromhex("F51234")
OWN, INTRODUCTION, SEAL = b"anna's own key..", b"introduction key", bytes(range(7, 39))
SETTINGS = '[cards]\nkeys = "card.keys"\nseal = "card.seal"'


class Watched(IsoDepCard):
    """Remembers every number that it showed."""

    def __init__(self, application):
        self.shown = set()
        super().__init__(application)

    def select(self):
        seen = super().select()
        self.shown.add(seen.uid)
        return seen


def a_card(uid=ANNA, own=OWN):
    card = VirtualDesfire(uid, random_id=True)
    card.install(APPLICATION, {0: bytes(16), 1: INTRODUCTION, 2: own})
    return Watched(card)


@pytest.fixture
def proving(build):
    here = build(broker=True, settings=SETTINGS)
    (here.root / "card.seal").write_text(SEAL.hex())
    token_key = read_token_key(here.office.device_files / "token.key")
    box = CardKeyBox.create(here.root / "card.keys", seal=read_seal(here.root / "card.seal"), token_key=token_key)
    box.introduce(CardKey(scheme=Scheme.DESFIRE_EV2, key_no=1, key=INTRODUCTION, application=APPLICATION))
    box.add(ANNA, CardKey(scheme=Scheme.DESFIRE_EV2, key_no=2, key=OWN, application=APPLICATION))
    return here


def decided(here, number):
    until(f"decision {number}", here.has("decision.made", number))
    made = here.events("decision.made")[number - 1]["data"]
    return made["outcome"], made["credential"]["assurance"], [each["code"] for each in made["reasons"]]


def test_only_the_card_that_proves_its_key_is_its_owner_and_nothing_of_it_is_left_in_clear(proving):
    proving.start_ready()
    proving.bays["bay-1"].plug_in()
    genuine = a_card()
    proving.left.present(genuine)
    assert decided(proving, 1) == ("granted", "authenticated", [])
    proving.left.remove()
    until("energy flows", lambda: proving.open_sessions() and proving.open_sessions()[0]["energy_wh"])

    clone, phone = Type2Card(ANNA), Phone()
    forged, foreign = a_card(own=b"not anna's key.."), Watched(VirtualDesfire(STRANGER, random_id=True))
    expected = [
        (clone, "CARD_NOT_GENUINE"),
        (phone, "PHONE"),
        (forged, "CARD_NOT_GENUINE"),
        (foreign, "TOKEN_RANDOM_UID"),
    ]
    for number, (card, reason) in enumerate(expected, start=2):
        proving.left.present(card)
        outcome, assurance, reasons = decided(proving, number)
        assert (outcome, reasons[0]) == ("refused", reason)
        assert assurance != "authenticated"
        proving.left.remove()
        time.sleep(1.0)  # what shows random numbers is one stranger until it has left
    assert proving.open_sessions(), "no clone stops what the card began"

    proving.left.present(genuine)
    until("the card itself stops it", proving.has("session.ended"))
    proving.until_delivered()
    proving.stop()
    proving.broker.stop()
    proving.receiver.stop()

    contents = files_below(proving.root, without=(*ALLOWED, "card.seal"))
    assert hits(contents, {"anna's number": ANNA, "the own key": OWN, "the introduction": INTRODUCTION}) == []
    assert hits(contents, {"the seal": SEAL}) == []
    shown = genuine.shown | forged.shown | foreign.shown
    assert len(shown) > 5
    texts = {text.lower() for uid in shown for form, text in forms_of(uid).items() if form.startswith("hex")}
    assert [(place, text) for place, content in contents.items() for text in texts if text in content.lower()] == []


def test_without_its_card_keys_the_service_does_not_start(proving):
    (proving.root / "card.keys").unlink()
    proving.service.start()
    assert proving.service.ended() == 78
    assert "card keys" in proving.service.said()
