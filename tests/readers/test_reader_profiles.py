"""Every shipped reader profile says what the real codec does with its vectors; and what a profile may not say."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import firmware_profiles
from drivers.readers import open_reader
from drivers.readers.ascii_frames import encode
from drivers.readers.decoders import open_decoder
from drivers.readers.key_lines import EVENT, KEY, typed
from drivers.readers.reader import Assurance, Card, Technology
from drivers.readers.rejects import Reason, Rejected
from firmware_profiles.profile import Accept, Profile, ProfileError, Reject, commands_for, parse

PROFILES = [firmware_profiles.load(each) for each in firmware_profiles.available() if each.startswith("readers/")]
ACCEPT = [pytest.param(p, v, id=f"{p.id}: {v.name}") for p in PROFILES for v in p.vectors.accept]
REJECT = [pytest.param(p, v, id=f"{p.id}: {v.name}") for p in PROFILES for v in p.vectors.reject]
MESSAGES = {"pcsc"}  # each chunk is one whole answer: what comes in pieces, or with more around it, is none
GARBAGE = {
    "em4100_ascii": (b"\xff\x00U6200\r\n\x03", b"\x026200E3", b"\x0262"),
    "pn532_hsu": (b"\x55\x55\x00\xa5\xff", bytes.fromhex("0000FF05FBD5"), b"\x00\x00\xff"),
    "stronglink": (b"\xba\x02\x01\xb9\x00\xbd", b"\xbd\x03\x01", b"\xbd\x08\x01"),
    "twn4_simple": (b"\xff\x00\r0001803\r", b"00018038\r", b"0001"),
    "readers/twn4_simple_binary": (b"\xff\x00\x01\x00\x00\x06", b"\x0e\x00\x00\x01\x80", b"\x04\x00\x00"),
    "osdp": (b"\xff\x00\x53\x00\x00", bytes.fromhex("5380140004500000"), b"\xff\x53\x80"),
    "wiegand_lines": (b"\xff\x00\r\n1A38B\r", b"1A38B0A\r", b"1A38"),
    "pn53x_usb": (b"\x55\x55\x00\xa5\xff", bytes.fromhex("0000FF05FBD5"), b"\x00\x00\xff"),
    # No check in a frame: one that breaks off behind its head cannot be told from the next. TCP loses nothing.
    "charger_register": (b"\xff\x00U\x00\x00\x06\xff\x03", bytes.fromhex("0001000000"), bytes.fromhex("00010000")),
    # A line that breaks off is ended by a pause, which hid_keys.py sees and the codec does not.
    "hid_keys": (EVENT.pack(2, 0, -3) + EVENT.pack(KEY, 30, 0) + EVENT.pack(KEY, 28, 1), b"", typed("00")[:16]),
    "simulated": (b"\n\n", b"no card at all\n", b"04A2"),
}


def decode(profile: Profile, *chunks: bytes) -> list[tuple[Card, ...] | Rejected]:
    decoder = open_decoder(profile)
    return [result for chunk in chunks for result in decoder.feed(chunk)]


def sightings(profile: Profile, *chunks: bytes) -> list[tuple[Card, ...]]:
    return [result for result in decode(profile, *chunks) if not isinstance(result, Rejected)]


def cards_of(vector: Accept) -> tuple[Card, ...]:
    return tuple(
        Card(uid=card.uid, technology=Technology(card.technology), assurance=Assurance(card.assurance))
        for card in vector.cards or ()
    )


@pytest.mark.parametrize(("profile", "vector"), ACCEPT)
def test_an_accepted_vector_is_read_whole_byte_by_byte_and_in_bad_company(profile: Profile, vector: Accept):
    expected = [cards_of(vector)]
    assert decode(profile, vector.raw) == expected
    if profile.driver in MESSAGES:
        assert sightings(profile, *(bytes([byte]) for byte in vector.raw)) == []
        assert not any(sightings(profile, vector.raw[:size]) for size in range(len(vector.raw)))
        assert sightings(profile, b"\x00" + vector.raw, vector.raw + b"\x00", vector.raw) == expected
        return
    before, broken_off, after = GARBAGE.get(profile.id) or GARBAGE[profile.driver]
    assert decode(profile, *(bytes([byte]) for byte in vector.raw)) == expected
    assert sightings(profile, before + vector.raw + after) == expected
    assert sightings(profile, before, broken_off + vector.raw) == expected
    assert sightings(profile, vector.raw + vector.raw) == expected * 2


@pytest.mark.parametrize(("profile", "vector"), REJECT)
def test_a_rejected_vector_is_dropped_with_its_reason_and_harms_no_neighbour(profile: Profile, vector: Reject):
    rejected = [Rejected(reason=Reason(vector.reason))]
    assert decode(profile, vector.raw)[:1] == rejected
    assert sightings(profile, *(bytes([byte]) for byte in vector.raw)) == []
    neighbour = profile.vectors.accept[-1]
    assert sightings(profile, neighbour.raw, vector.raw, neighbour.raw) == [cards_of(neighbour)] * 2
    if profile.driver in MESSAGES:
        return
    assert sightings(profile, neighbour.raw + vector.raw + neighbour.raw) == [cards_of(neighbour)] * 2


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.id)
def test_a_shipped_reader_profile_opens_and_says_why(profile: Profile):
    assert open_reader("gate", profile=profile, port="/dev/null").name == "gate"
    assert profile.evidence


def test_a_profile_of_a_charger_opens_no_reader():
    with pytest.raises(ValueError, match="not a reader"):
        open_reader("gate", profile=firmware_profiles.load("chargers/line"), port="/dev/null")


def a_profile(**changes: Any) -> dict[str, Any]:
    table: dict[str, Any] = {
        "id": "readers/mine",
        "kind": "reader",
        "make": "somebody",
        "model": "something",
        "driver": "em4100_ascii",
        "transport": {"kind": "serial", "baud": 9600},
        "polling": {"silence_ms": 300},
        "uid": {"technologies": ["em4100"], "lengths": [5]},
        "evidence": [{"field": "confirm_frames", "level": "vendor", "reference": "manual", "date": "2026-11-22"}],
        "vectors": {
            "accept": [
                {"name": "one", "raw": encode(bytes(5)).hex(), "cards": [{"uid": "00" * 5, "technology": "em4100"}]},
                {"name": "two", "raw": encode(bytes(5)).hex(), "cards": []},
            ],
            "reject": [{"name": "three", "raw": "0203", "reason": "truncated"}],
        },
    }
    for key, value in changes.items():
        if value is None:
            del table[key]
        else:
            table[key] = value
    return table


def vectors(**changes: Any) -> dict[str, Any]:
    return a_profile()["vectors"] | changes


ACCEPTED = a_profile()["vectors"]["accept"]

WRONG = {
    "unknown key": (a_profile(confirm_frame=2), "unknown key 'confirm_frame', the nearest known one is 'confirm_fr"),
    "unknown key in a table": (
        a_profile(transport={"kind": "serial", "bauds": 9600}),
        "transport: unknown key 'bauds', the nearest known one is 'baud'",
    ),
    "unknown key in a vector": (
        a_profile(vectors=vectors(reject=[{"name": "n", "raw": "02", "reasons": "length"}])),
        "vectors.reject.0: unknown key 'reasons', the nearest known one is 'reason'",
    ),
    "missing": (a_profile(make=None), "make: Field required"),
    "a number as text": (a_profile(confirm_frames="2"), "confirm_frames: Input should be a valid integer"),
    "no such speed": (a_profile(transport={"kind": "serial", "baud": 9601}), "transport.baud: Input should be 9600"),
    "serial without speed": (a_profile(transport={"kind": "serial"}), "transport: a serial transport needs baud"),
    "not hexadecimal": (
        a_profile(vectors=vectors(reject=[{"name": "n", "raw": "0x02", "reason": "length"}])),
        "vectors.reject.0.raw: write bytes as a text of hexadecimal digits",
    ),
    "one vector to accept": (a_profile(vectors=vectors(accept=ACCEPTED[:1])), "at least 2 to accept and 1 to reject"),
    "none to reject": (a_profile(vectors=vectors(reject=[])), "at least 2 to accept and 1 to reject"),
    "a name twice": (a_profile(vectors=vectors(accept=ACCEPTED[:1] * 2)), "the name 'one' is used twice"),
    "an event of a reader": (
        a_profile(vectors=vectors(accept=[*ACCEPTED[:1], {"name": "n", "raw": "00", "event": "e"}])),
        "'n' of a reader must state cards, not event",
    ),
    "a length that the device has not": (
        a_profile(uid={"technologies": ["em4100"], "lengths": [4]}),
        "'one' has a card that the uid table does not allow",
    ),
    "loss that the vectors deny": (
        a_profile(uid={"technologies": ["em4100"], "lengths": [5], "loss": "version_byte"}),
        "does not agree with uid.loss",
    ),
    "a reader without UIDs": (a_profile(uid=None), "a reader must say what its UIDs are"),
    "no silence": (a_profile(polling={}), "needs polling.silence_ms"),
    "feedback without a lamp": (a_profile(feedback={"granted": "FF0040"}), "allows no such command"),
    "a driver of chargers": (a_profile(driver="line"), "driver 'line' does not drive a reader"),
    "an id in another folder": (a_profile(id="chargers/mine"), "does not lie in the folder of a reader"),
    "an id that climbs": (a_profile(id="readers/../mine"), "id: String should match pattern"),
    "no reason for confirm_frames": (a_profile(evidence=[]), "confirm_frames decides"),
    "evidence for nothing": (
        a_profile(evidence=[a_profile()["evidence"][0] | {"field": "transprot.baud"}]),
        "no field 'transprot', the nearest known one is 'transport'",
    ),
}


@pytest.mark.parametrize(("table", "complaint"), WRONG.values(), ids=WRONG)
def test_a_profile_that_says_it_wrong_is_refused_with_the_key_and_the_reason(table: dict[str, Any], complaint: str):
    with pytest.raises(ProfileError) as caught:
        parse(table, source="readers/mine.toml")
    assert str(caught.value).startswith("readers/mine.toml: ")
    assert complaint in str(caught.value)


def test_the_profile_that_those_are_made_of_is_right():
    assert parse(a_profile(), source="readers/mine.toml").id == "readers/mine"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_profile_extends_a_shipped_one_and_says_only_what_differs(tmp_path: Path):
    path = write(
        tmp_path / "mine.toml",
        'extends = "readers/rdm6300"\nid = "readers/mine"\nmodel = "RDM6300 clone"\n[polling]\nsilence_ms = 500\n',
    )
    mine, base = firmware_profiles.load_file(path), firmware_profiles.load("readers/rdm6300")
    assert (mine.model, mine.polling.silence_ms, mine.polling.poll_ms) == ("RDM6300 clone", 500, base.polling.poll_ms)
    assert mine.vectors == base.vectors


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('extends = "readers/nobody"', "there is no shipped profile 'readers/nobody'"),
        ('extends = ["readers/rdm6300"]', "there is no shipped profile"),
        ('extends = "readers/stronglink_sl032"', "extends another one; one level is all there is"),
        ("id = ", "not TOML"),
        ("#" * 300_000, "longer than 262144 bytes"),
    ],
)
def test_a_file_that_is_no_profile_is_refused_by_name(tmp_path: Path, text: str, complaint: str):
    with pytest.raises(ProfileError, match=complaint) as caught:
        firmware_profiles.load_file(write(tmp_path / "mine.toml", text))
    assert "mine.toml" in str(caught.value)


def test_a_missing_file_is_refused_by_name(tmp_path: Path):
    with pytest.raises(ProfileError, match=r"mine\.toml: cannot be read: No such file"):
        firmware_profiles.load_file(tmp_path / "mine.toml")


@pytest.mark.parametrize("profile_id", ["readers/rdm630", "readers/../readers/rdm6300", "", "/etc/passwd"])
def test_an_unknown_id_is_refused_with_the_nearest_known_one(profile_id: str):
    with pytest.raises(ProfileError, match=r"readers/rdm6300"):
        firmware_profiles.load(profile_id)


def test_a_hundred_profiles_are_loaded_at_once():
    firmware_profiles.load("readers/rdm6300")
    began_s = time.perf_counter()
    for _ in range(50):
        firmware_profiles.load("readers/rdm6300")
        firmware_profiles.load("readers/pn532_hsu")
    assert time.perf_counter() - began_s < 1.0


def test_a_lossy_reader_marks_every_card_and_a_reversing_one_is_turned_round():
    vector = {"name": "one", "raw": encode(bytes.fromhex("0102030405")).hex()}
    card = {"uid": "0504030201", "technology": "em4100", "assurance": "lossy"}
    table = a_profile(
        uid={"technologies": ["em4100"], "lengths": [5], "byte_order": "reversed", "loss": "version_byte"},
        vectors=vectors(accept=[vector | {"cards": [card]}, vector | {"name": "two", "cards": [card]}]),
    )
    profile = parse(table, source="mine")
    assert sightings(profile, profile.vectors.accept[0].raw) == [cards_of(profile.vectors.accept[0])]


def test_a_reader_without_a_sign_for_offline_shows_a_refusal() -> None:
    told = {"granted": (b"g",), "refused": (b"r",)}
    plain = next(each for each in PROFILES if each.uid is not None).model_copy(update={"feedback": told})
    assert commands_for(plain, "offline") == (b"r",)
    assert commands_for(plain, "learn") == ()
    assert commands_for(plain.model_copy(update={"feedback": {**told, "offline": (b"o",)}}), "offline") == (b"o",)
