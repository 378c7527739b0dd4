"""A tag's message at the tap: believed once, also over a restart, and never for more than a name."""

from __future__ import annotations

import pytest

from agent.card_keys import CardKeyBox
from agent.sun_counters import SunCounters
from drivers.cards.apdu import CardError, NotGenuine
from drivers.cards.ndef import read_url, url_of
from drivers.cards.proof import CardKey, Link, Proving, Scheme
from drivers.cards.virtual_ntag424 import VirtualNtag424
from drivers.readers.reader import Assurance, Doubt, card_14443a

UID = bytes.fromhex("04958CAA5C5E80")
META, FILE, TOKEN_KEY = b"m" * 16, b"f" * 16, b"t" * 32
SHOWN = card_14443a(bytes.fromhex("08F07D71"))


@pytest.fixture
def box(tmp_path):
    box = CardKeyBox.create(tmp_path / "card.keys", seal=bytes(32), token_key=TOKEN_KEY)
    box.introduce(CardKey(scheme=Scheme.SUN, key_no=1, key=b"", meta=META))
    box.add(UID, CardKey(scheme=Scheme.SUN, key_no=2, key=FILE, meta=META))
    return box


def a_tag(file=FILE):
    return VirtualNtag424(UID, keys={1: META, 2: file}, random_id=True)


class Recorded:
    """A phone that shows what it once read from the tag."""

    def __init__(self, url: str) -> None:
        uri = b"\x04" + url.removeprefix("https://").encode()
        record = bytes([0xD1, 0x01, len(uri)]) + b"U" + uri
        self._file = len(record).to_bytes(2, "big") + record

    def apdu(self, command: bytes) -> bytes:
        if command[1] == 0xB0:
            at = int.from_bytes(command[2:4], "big")
            return self._file[at : at + command[4]] + b"\x90\x00"
        return b"\x90\x00"


def told(box, application, shown=SHOWN):
    (card,) = Proving(box).looked((shown,), lambda: Link(transceive=application.apdu, historical=b"\x80"))
    return card


def test_a_tag_with_a_random_uid_is_named_by_its_message_and_is_not_authenticated(box):
    card = told(box, a_tag())
    assert (card.uid, card.assurance, card.doubt) == (UID, Assurance.STATIC, None)


def test_a_message_read_in_advance_is_worth_one_tap_and_none_after_the_tag_was_here(box):
    tag = a_tag()
    early, late = tag.sun_url(), tag.sun_url()
    assert told(box, Recorded(early)).doubt is None
    assert told(box, Recorded(early)).doubt is Doubt.NOT_GENUINE
    assert told(box, tag).doubt is None
    assert told(box, Recorded(late)).doubt is Doubt.NOT_GENUINE


def test_a_replay_is_noticed_also_after_a_restart(box, tmp_path):
    recorded = Recorded(a_tag().sun_url())
    assert told(box, recorded).doubt is None
    again = CardKeyBox(tmp_path / "card.keys", seal=bytes(32), token_key=TOKEN_KEY)
    assert told(again, recorded).doubt is Doubt.NOT_GENUINE


def test_a_tag_with_another_key_is_not_genuine(box):
    assert told(box, a_tag(file=b"x" * 16)).doubt is Doubt.NOT_GENUINE


def test_a_fixed_uid_with_a_tag_s_key_must_show_a_message(box):
    assert told(box, a_tag(), shown=card_14443a(UID)).doubt is None
    assert told(box, Recorded("https://card.example/"), shown=card_14443a(UID)).doubt is Doubt.NOT_GENUINE


def test_a_stranger_s_tags_are_nameless_at_each_of_many_looks(box):
    """A message opened with another key has, by chance, the shape of a number once in some sixty reads."""
    stranger = VirtualNtag424(UID, keys={1: b"o" * 16, 2: FILE}, random_id=True)
    assert {told(box, stranger) for _ in range(400)} == {SHOWN}


def test_a_stranger_s_tag_and_a_business_card_stay_nameless(box):
    assert told(box, VirtualNtag424(UID, keys={1: b"o" * 16}, random_id=True)) == SHOWN
    assert told(box, Recorded("https://card.example/")) == SHOWN


def test_where_the_counter_cannot_be_kept_nothing_is_believed(box, tmp_path):
    (tmp_path / "card.counters").write_bytes(b"no database at all, but long enough to be taken for one" * 100)
    assert told(box, a_tag()).doubt is Doubt.NOT_GENUINE


def test_counters_only_go_up_and_name_nobody(tmp_path):
    counters = SunCounters(tmp_path / "folder" / "tags", token_key=TOKEN_KEY)
    assert [counters.advance(UID, each) for each in (5, 5, 4, 6, 6, 7)] == [True, False, False, True, False, True]
    assert counters.advance(b"\x04" + bytes(6), 1)
    assert UID.hex() not in (tmp_path / "folder" / "tags").read_bytes().hex()


def test_keys_without_a_memory_for_counters_believe_no_message():
    class Forgetful:
        def own(self, uid):
            return CardKey(scheme=Scheme.SUN, key_no=2, key=FILE, meta=META)

        def introductions(self):
            return ()

    assert told(Forgetful(), a_tag(), shown=card_14443a(UID)).doubt is Doubt.NOT_GENUINE


@pytest.mark.parametrize("size", range(60))
def test_a_cut_or_lying_message_is_no_url(size):
    good = bytes([0xD1, 0x01, 0x20]) + b"U\x04" + b"a" * 31
    assert url_of(good) == "https://" + "a" * 31
    with pytest.raises(NotGenuine):
        url_of(good[:size] if size < len(good) else good + bytes(size))


def test_a_tag_that_lies_about_its_length_is_an_error_of_the_card():
    for answer in (b"\x90\x00", b"\xff\xff\x90\x00", b"\x00\x06\x90\x00", b"", b"\x6a\x82"):
        with pytest.raises(CardError):
            read_url(lambda command, answer=answer: answer if command[1] == 0xB0 else b"\x90\x00")
