"""The virtual cards against our own reader side, and blocks against blocks: every pair must find together."""

from __future__ import annotations

import itertools
import random

import pytest

from drivers.cards import ev1, ev2, proof, sdm
from drivers.cards.apdu import CardError, CardRefused, CardTorn, NotGenuine, iso, whole
from drivers.cards.iso_dep import EXTENSIONS_AT_MOST, IsoDep
from drivers.cards.proof import CardKey, Scheme, true_uid
from drivers.cards.virtual_desfire import Generation, VirtualDesfire
from drivers.cards.virtual_ntag424 import VirtualNtag424
from drivers.readers.virtual_cards import ClassicCard, IsoDepCard, Phone, Type2Card

UID = bytes.fromhex("04958CAA5C5E80")
APPLICATION = bytes.fromhex("F51234")
KEY = bytes(range(16))


def a_desfire(generation=Generation.EV2, **options):
    card = VirtualDesfire(UID, generation=generation, **options)
    card.install(APPLICATION, {0: bytes(16), 2: KEY})
    return card


def a_key(scheme=Scheme.DESFIRE_EV2, key=KEY, key_no=2, application=APPLICATION):
    return CardKey(scheme=scheme, key=key, key_no=key_no, application=application)


def blocks_to(card: IsoDepCard) -> IsoDep:
    def exchange(frame: bytes, wait_s: float) -> bytes:
        answer = card.transceive(frame)
        if answer is None:
            raise CardTorn("mute")
        return answer

    return IsoDep(exchange)


@pytest.mark.parametrize("random_id", [False, True])
@pytest.mark.parametrize(
    ("generation", "scheme"),
    [
        (Generation.EV1, Scheme.DESFIRE_EV1),
        (Generation.EV2, Scheme.DESFIRE_EV1),
        (Generation.EV2, Scheme.DESFIRE_EV2),
        (Generation.EV3, Scheme.DESFIRE_EV2),
    ],
)
def test_a_desfire_tells_its_true_uid_to_who_has_its_key(generation, scheme, random_id):
    card = a_desfire(generation, random_id=random_id)
    assert true_uid(card.apdu, a_key(scheme)) == UID


def test_an_ntag424_tells_its_true_uid_to_who_has_its_key():
    card = VirtualNtag424(UID, keys={4: KEY}, random_id=True)
    assert true_uid(card.apdu, a_key(Scheme.NTAG_424, key_no=4)) == UID


@pytest.mark.parametrize("scheme", [Scheme.DESFIRE_EV1, Scheme.DESFIRE_EV2])
def test_a_wrong_key_a_wrong_number_and_a_wrong_application_are_refused(scheme):
    for key in (a_key(scheme, key=bytes(16)), a_key(scheme, key_no=3), a_key(scheme, application=b"\x01\x02\x03")):
        with pytest.raises(CardError):
            true_uid(a_desfire().apdu, key)


def test_an_ev1_card_does_not_know_ev2():
    with pytest.raises(CardRefused, match="does not know"):
        true_uid(a_desfire(Generation.EV1).apdu, a_key())


def test_a_session_changes_keys_and_the_new_ones_are_in_force():
    card = a_desfire()
    proof.select(card.apdu, APPLICATION)
    session = ev2.authenticate(card.apdu, bytes(16), 0)
    session.change_key(2, b"n" * 16, version=7, old=KEY)
    session.change_key(0, b"m" * 16, version=1, old=None)
    assert true_uid(card.apdu, a_key(key=b"n" * 16)) == UID
    assert true_uid(card.apdu, a_key(key=b"m" * 16, key_no=0)) == UID
    proof.select(card.apdu, APPLICATION)
    assert whole(card.apdu, 0x64, b"\x02") == b"\x07"


def test_a_changed_key_with_a_wrong_idea_of_the_old_one_changes_nothing():
    card = a_desfire()
    proof.select(card.apdu, APPLICATION)
    session = ev2.authenticate(card.apdu, bytes(16), 0)
    with pytest.raises(CardRefused, match="integrity"):
        session.change_key(2, b"n" * 16, version=7, old=b"o" * 16)
    assert true_uid(card.apdu, a_key()) == UID


def test_a_sun_url_is_new_at_each_read_and_verifies():
    card = VirtualNtag424(UID, keys={1: KEY, 2: bytes(16)})
    keys = sdm.Keys(meta=KEY, file=bytes(16))
    told = [sdm.verified(card.sun_url(), keys, sdm.Layout()) for _ in range(3)]
    assert [(sun.uid, sun.counter) for sun in told] == [(UID, 1), (UID, 2), (UID, 3)]
    with pytest.raises(NotGenuine):
        sdm.verified(card.sun_url(), sdm.Keys(meta=KEY, file=KEY), sdm.Layout())


def test_the_ndef_file_of_an_ntag424_holds_that_url():
    card = VirtualNtag424(UID)
    iso(card.apdu, proof.NTAG_APPLICATION)
    iso(card.apdu, bytes.fromhex("00A4000C02E104"))
    content = iso(card.apdu, bytes.fromhex("00B0000000"))
    assert content[2:7].hex() == "d101" + f"{len(content) - 6:02x}" + "5504"
    url = "https://" + content[7:].decode()
    assert sdm.verified(url, sdm.Keys(meta=bytes(16), file=bytes(16)), sdm.Layout()).counter == 1


@pytest.mark.parametrize(("extensions", "piece_bytes"), [(0, 250), (3, 250), (0, 7), (2, 1), (1, 16)])
def test_blocks_carry_commands_with_extensions_and_in_pieces(extensions, piece_bytes):
    card = IsoDepCard(a_desfire(), extensions=extensions, piece_bytes=piece_bytes)
    dep = blocks_to(card)
    assert dep.activate() == b"\x80"
    assert true_uid(dep.transceive, a_key()) == UID


def test_a_long_command_goes_in_pieces_of_the_card_s_frame_size():
    class Echo:
        uid, random_id, HISTORICAL = UID, False, b"\x80"

        def apdu(self, command: bytes) -> bytes:
            return command + b"\x90\x00"

        def reset(self) -> None: ...

    card = IsoDepCard(Echo(), piece_bytes=61)
    dep = blocks_to(card)
    dep.activate()
    for size in (1, 60, 61, 62, 122, 123, 255):
        assert dep.transceive(bytes(size)) == bytes(size) + b"\x90\x00"


@pytest.mark.parametrize("lost_before", range(8))
def test_lost_frames_are_asked_for_again(lost_before):
    card = IsoDepCard(a_desfire())
    frames = itertools.count()
    inner = card.transceive

    def transceive(frame: bytes) -> bytes | None:
        if next(frames) == lost_before:
            inner(frame)  # the card heard it, and its answer was lost
            return None
        return inner(frame)

    card.transceive = transceive
    dep = blocks_to(card)
    if lost_before == 0:
        with pytest.raises(CardTorn):
            dep.activate()
        return
    dep.activate()
    assert true_uid(dep.transceive, a_key()) == UID


@pytest.mark.parametrize("gone_after", range(5))
def test_a_card_taken_away_in_mid_sentence_is_torn_and_nothing_else(gone_after):
    card = IsoDepCard(a_desfire())
    card.frames_until_gone = gone_after
    dep = blocks_to(card)

    def talk():
        dep.activate()
        true_uid(dep.transceive, a_key())

    with pytest.raises(CardTorn):
        talk()


def test_a_card_that_asks_for_time_for_ever_is_torn():
    card = IsoDepCard(a_desfire(), extensions=EXTENSIONS_AT_MOST + 1)
    dep = blocks_to(card)
    dep.activate()
    with pytest.raises(CardTorn, match="again and again"):
        dep.transceive(b"\x90\x60\x00\x00\x00")


def test_waits_are_capped_whatever_the_card_asks_for():
    waits = []

    def exchange(frame: bytes, wait_s: float) -> bytes:
        waits.append(wait_s)
        return bytes.fromhex("0578 80F0 02") if frame[:1] == b"\xe0" else b"\xf2\x3b"

    dep = IsoDep(exchange)
    dep.activate()
    with pytest.raises(CardTorn):
        dep.transceive(b"\x00")
    assert max(waits) <= 0.35


def test_noise_from_a_card_is_an_error_of_the_card_and_ends():
    dice = random.Random(5)
    for _ in range(300):

        def exchange(frame: bytes, wait_s: float) -> bytes:
            if dice.random() < 0.2:
                raise CardTorn("mute")
            starts = (b"", b"\x02", b"\x03", b"\x12", b"\x13", b"\xa2", b"\xa3", b"\xf2\x01")
            return dice.choice(starts) + dice.randbytes(dice.randrange(12))

        dep = IsoDep(exchange)
        for act in (dep.activate, lambda dep=dep: true_uid(dep.transceive, a_key())):
            try:
                act()
            except CardError:
                continue


def test_noise_in_place_of_answers_is_an_error_of_the_card():
    dice = random.Random(6)
    schemes = [a_key(scheme) for scheme in Scheme]
    for _ in range(600):

        def transceive(command: bytes) -> bytes:
            body = dice.randbytes(dice.choice((0, 1, 8, 15, 16, 17, 24, 32, 40)))
            return body + dice.choice((b"\x91\x00", b"\x91\xaf", b"\x90\x00", b"\x91\xae", b"", b"\x6a"))

        with pytest.raises(CardError):
            true_uid(transceive, dice.choice(schemes))


def test_simple_cards_speak_no_blocks():
    for card in (Type2Card(UID), ClassicCard(b"\xde\xad\xbe\xef")):
        assert card.transceive(b"\xe0\x80") is None


def test_a_phone_is_new_each_time_the_field_drops_and_has_a_wallet():
    phone = Phone()
    first = phone.select().uid
    phone.lose_field()
    assert first[:1] == phone.select().uid[:1] == b"\x08"
    assert phone.select().uid != first
    dep = blocks_to(phone)
    assert dep.activate() == b""
    assert iso(dep.transceive, bytes.fromhex("00A404000A4F53452E5641532E303100")) == b""


def test_nothing_of_a_session_or_a_key_is_shown():
    card = a_desfire()
    proof.select(card.apdu, APPLICATION)
    sessions = (ev2.authenticate(card.apdu, KEY, 2), ev1.authenticate(card.apdu, KEY, 2))
    for shown in (*map(repr, sessions), repr(a_key()), repr(sdm.Keys(file=KEY, meta=KEY)), repr(card.keys)):
        assert KEY.hex() not in shown.lower()
        assert repr(KEY)[2:-1] not in shown
