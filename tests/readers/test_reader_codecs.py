"""The codecs against damage: nothing raises, nothing false is believed, one bad frame costs no good one."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.readers import pn532_frames
from drivers.readers.ascii_frames import AsciiFrames
from drivers.readers.ascii_frames import encode as ascii_frame
from drivers.readers.pn532_frames import Frame, Kind, Pn532Frames, targets
from drivers.readers.reader import Assurance, Card, card_14443a, card_em4100, card_from_text
from drivers.readers.rejects import Reason, Rejected
from drivers.readers.uid_lines import UidLines

TAG = bytes.fromhex("6200E31716")
NTAG = bytes.fromhex("0000FF0FF1D54B01010044000704A23B4C5D60802900")
TRAILERS = [b"", b"\r\n"]
CODECS = {
    "RDM6300": lambda: AsciiFrames(),
    "ID-12LA": lambda: AsciiFrames(trailer=b"\r\n"),
    "PN532": lambda: Pn532Frames(),
    "lines": lambda: UidLines(),
}


def flipped(frame: bytes, *bits: int) -> bytes:
    damaged = bytearray(frame)
    for bit in bits:
        damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


@pytest.mark.parametrize("trailer", TRAILERS, ids=["RDM6300", "ID-12LA"])
def test_no_single_bit_error_in_an_ascii_frame_is_believed(trailer: bytes):
    frame = ascii_frame(TAG, trailer=trailer)
    for bit in range(8 * len(frame)):
        results = AsciiFrames(trailer=trailer).feed(flipped(frame, bit))
        assert not any(isinstance(result, Card) for result in results), bit


def test_one_in_a_hundred_double_bit_errors_passes_the_xor_which_is_why_rdm6300_frames_are_confirmed():
    frame = ascii_frame(TAG)
    pairs = list(combinations(range(8 * len(frame)), 2))
    passed = [p for p in pairs if any(isinstance(r, Card) for r in AsciiFrames().feed(flipped(frame, *p)))]
    assert (len(passed), len(pairs)) == (78, 6216)  # of this tag; 23 to 78 of others


def test_no_single_bit_error_in_a_pn532_frame_changes_what_is_believed():
    for bit in range(8 * len(NTAG)):
        for result in Pn532Frames().feed(flipped(NTAG, bit) + bytes(300)):
            if isinstance(result, Frame) and result.kind is Kind.DATA:
                assert result.payload == Pn532Frames().feed(NTAG)[0].payload  # only pre- and postamble may differ


@pytest.mark.parametrize("make", CODECS.values(), ids=CODECS)
@given(chunks=st.lists(st.binary(max_size=60), max_size=20))
@settings(max_examples=30)  # tests/fuzz has the long run
def test_any_bytes_in_any_pieces_raise_nothing_and_mean_the_same_in_one_piece(make, chunks: list[bytes]):
    piecewise, whole = make(), make()
    results = [result for chunk in chunks for result in piecewise.feed(chunk)]
    assert results == whole.feed(b"".join(chunks))


FRAMELIKE = st.lists(
    st.sampled_from([b"\x00\x00\xff", b"\xff\xff", b"\x01\xff", b"\xd5\x4b", b"\x00", b"\x02", b"\x03", b"\r\n", b"62"])
    | st.binary(max_size=3),
    max_size=40,
).map(b"".join)


@pytest.mark.parametrize("make", CODECS.values(), ids=CODECS)
@given(raw=FRAMELIKE)
@settings(max_examples=30)  # tests/fuzz has the long run
def test_bytes_that_look_like_frames_raise_nothing_either(make, raw: bytes):
    for result in make().feed(raw):
        assert isinstance(result, Card | Frame | Rejected)


@given(tag=st.binary(min_size=5, max_size=5), trailer=st.sampled_from(TRAILERS), noise=st.binary(max_size=30))
def test_an_ascii_frame_after_any_noise_is_read(tag: bytes, trailer: bytes, noise: bytes):
    cards = [r for r in AsciiFrames(trailer=trailer).feed(noise + ascii_frame(tag, trailer=trailer)) if type(r) is Card]
    assert cards[-1] == card_em4100(tag)


@given(payload=st.binary(min_size=1, max_size=264))
def test_a_pn532_frame_of_any_length_comes_back_as_it_was_sent(payload: bytes):
    payload = b"\xd5" + payload
    assert Pn532Frames().feed(pn532_frames.encode(payload)) == [Frame(kind=Kind.DATA, payload=payload)]


@given(payload=st.binary(min_size=2, max_size=40))
def test_whatever_a_card_makes_the_chip_say_is_cards_or_a_reject(payload: bytes):
    listed = targets(b"\xd5\x4b" + payload)
    if not isinstance(listed, Rejected):
        assert len(listed) == payload[0]
        assert all(len(card.uid) in (4, 7, 10) for card in listed)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ("0000FF00FF00", Kind.ACK),
        ("0000FFFF0000", Kind.NACK),
        ("0000FF01FF7F8100", Kind.ERROR),
        ("00FF00FF", Kind.ACK),
        ("0000FF02FED4022A00", Kind.DATA),
        ("0000FFFFFF0002FED4022A00", Kind.DATA),
    ],
)
def test_every_kind_of_pn532_frame_is_told_apart(raw: str, kind: Kind):
    (frame,) = Pn532Frames().feed(bytes.fromhex(raw))
    assert isinstance(frame, Frame)
    assert frame.kind is kind


def test_an_extended_frame_longer_than_the_chip_can_send_is_noise_at_once():
    codec = Pn532Frames()
    assert codec.feed(bytes.fromhex("0000FFFFFF7FFF82")) == [Rejected(reason=Reason.LENGTH)]


@pytest.mark.parametrize("make", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("endless", [b"\x00", b"\x02", b"\xff", b"6", b"\x00\xff", b"\x00\x00\xff\xff\xff\x01\x00\xff"])
def test_endless_bytes_are_never_hoarded(make, endless: bytes):
    codec = make()
    for _ in range(100):
        codec.feed(endless * 100)
    held = [value for value in vars(codec).values() if isinstance(value, bytearray)]
    assert sum(map(len, held)) <= 300


def test_every_good_frame_of_a_damaged_stream_is_read_and_next_to_nothing_else():
    dice = random.Random(20261122)
    sent, stream = 0, bytearray()
    for _ in range(2_000):
        frame = ascii_frame(dice.randbytes(5))
        if dice.random() < 0.4:
            cut = bytearray(frame)
            cut[dice.randrange(len(cut))] ^= 1 << dice.randrange(8)
            stream += cut[: dice.randrange(1, len(cut) + 1)]
        else:
            sent += 1
            stream += frame
    cards = [result for result in AsciiFrames().feed(bytes(stream)) if isinstance(result, Card)]
    assert len(cards) == sent


@pytest.mark.parametrize(
    ("uid", "assurance"),
    [
        ("04A23B4C5D6080", Assurance.STATIC),
        ("04112233445566778899", Assurance.STATIC),
        ("DEADBEEF", Assurance.STATIC),
        ("08F07D71", Assurance.RANDOM),
        ("08F07D71112233", Assurance.STATIC),
        ("8804A23B", Assurance.LOSSY),
        ("04A23B4C5D", Assurance.LOSSY),
    ],
)
def test_a_uid_proves_what_its_length_and_first_byte_say(uid: str, assurance: Assurance):
    assert card_14443a(bytes.fromhex(uid)).assurance is assurance


@given(uid=st.binary(min_size=4, max_size=10))
def test_a_card_never_shows_its_uid(uid: bytes):
    card = card_14443a(uid)
    assert card.canonical == uid.hex().upper()
    for shown in (str(card), repr(card), f"{card}", repr((card,))):
        assert card.canonical[2:] not in shown.upper() or set(card.canonical[2:]) == {"A"}


@pytest.mark.parametrize("text", ["04A23B4C5D6080", "04:a2:3b:4c:5d:60:80", " 04 A2 3B 4C 5D 60 80\n"])
def test_a_uid_told_by_a_person_is_read_in_the_usual_spellings(text: str):
    assert card_from_text(text).canonical == "04A23B4C5D6080"


@pytest.mark.parametrize("text", ["", "04A2", "hello", "04A23B4C5D60801", "04A23B4C5D6080" * 3])
def test_what_is_no_uid_is_refused_without_repeating_it(text: str):
    with pytest.raises(ValueError, match="UID") as caught:
        card_from_text(text)
    assert not text or text not in str(caught.value)
