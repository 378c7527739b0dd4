"""What profiles decide beside decoding: which device they fit, what a firmware means, what a reader loses."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import firmware_profiles
from drivers.readers import text_forms
from drivers.readers.decoders import open_decoder
from drivers.readers.firmware import admit
from drivers.readers.reader import Assurance, Card, Technology, card_14443a
from drivers.readers.rejects import Rejected
from drivers.readers.supervision import ReaderGone
from firmware_profiles.judgement import judge
from firmware_profiles.matching import Described, matching, overlaps
from firmware_profiles.profile import Firmware, Framing, Match, Profile, ProfileError, Signal, TextForm
from firmware_profiles.versions import is_in, parse

PROFILES = [firmware_profiles.load(each) for each in firmware_profiles.available() if each.startswith("readers/")]
LOSES = {"first_3": lambda uid: uid[:3], "first_4": lambda uid: uid[:4], "first_6": lambda uid: uid[:6],
         "version_byte": lambda uid: uid[1:]}  # fmt: skip
VERSIONS = st.lists(st.integers(0, 30), min_size=1, max_size=5).map(lambda parts: ".".join(map(str, parts)))


def changed(profile: Profile, **changes: Any) -> Profile:
    return profile.model_copy(update=changes)


@pytest.mark.parametrize("profile", [each for each in PROFILES if each.feedback], ids=lambda profile: profile.id)
def test_a_reader_with_a_lamp_knows_every_state_and_shows_a_grant_like_no_other(profile: Profile):
    """Pending may be dark: one red lamp says no, and waiting is no refusal."""
    assert set(get_args(Signal)) - set(profile.feedback) <= {"pending"}
    assert [said for said in profile.feedback.values() if said == profile.feedback["granted"]] == [
        profile.feedback["granted"]
    ]


def with_firmware(action: str = "warn", *, minimum: str | None = None, affects: str | None = None) -> Profile:
    base = firmware_profiles.load("readers/pn532_hsu")
    firmware = base.firmware.model_copy(
        update={"known": (), "minimum": minimum, "below_minimum": action, "unknown": "warn" if minimum else "accept"}
    )
    charx = firmware_profiles.load("readers/phoenix_charx")
    weakness = charx.security[0].model_copy(update={"affects": affects, "action": action})
    return changed(base, firmware=firmware, security=(weakness,) if affects else ())


def test_at_least_twenty_families_have_a_profile_and_say_how_they_are_known():
    assert len(PROFILES) >= 20
    levels = {evidence.level for profile in PROFILES for evidence in profile.evidence}
    assert {"vendor", "source", "community", "unverified"} <= levels
    for profile in PROFILES:
        assert profile.evidence, profile.id


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.id)
def test_what_is_not_obvious_about_a_reader_has_its_evidence(profile: Profile):
    assert profile.uid is not None
    obvious = {"framing": Framing(), "match": Match(), "firmware": Firmware()}
    claimed = {key for key, nothing in obvious.items() if getattr(profile, key) != nothing}
    claimed |= {key for key in ("feedback", "security", "setup", "kernel_conflicts") if getattr(profile, key)}
    if profile.uid.loss != "none" or profile.uid.text or profile.uid.byte_order != "on_air":
        claimed.add("uid")
    assert claimed <= {evidence.field.split(".")[0] for evidence in profile.evidence}


def test_no_two_profiles_claim_the_same_device():
    assert overlaps(PROFILES) == ()


def test_two_profiles_that_claim_the_same_device_are_told():
    twin = changed(firmware_profiles.load("readers/acr122u"), id="readers/twin")
    assert "072f:2200" in overlaps([*PROFILES, twin])[0]


@pytest.mark.parametrize("profile", [p for p in PROFILES if p.uid and p.uid.loss != "none"], ids=lambda p: p.id)
def test_a_lossy_reader_shows_two_cards_that_it_cannot_tell_apart(profile: Profile):
    assert profile.uid is not None
    shown = [vector for vector in profile.vectors.accept if vector.collides]
    assert shown
    for vector in shown:
        assert len(set(vector.collides)) >= 2
        if (lose := LOSES.get(profile.uid.loss)) is not None:  # "unknown": the wire does not say what it leaves out
            assert {lose(uid) for uid in vector.collides} == {card.uid for card in vector.cards or ()}


@pytest.mark.parametrize("profile", [p for p in PROFILES if p.uid and p.uid.text], ids=lambda p: p.id)
def test_a_text_that_is_read_is_written_again_as_it_was(profile: Profile):
    assert profile.uid is not None
    assert profile.uid.text is not None
    for vector in profile.vectors.accept:
        for card in vector.cards or ():
            written = text_forms.write(card.uid, profile.uid.text)
            assert text_forms.read(written, profile.uid.text, profile.uid.lengths) == card.uid


@given(uid=st.binary(min_size=4, max_size=4).filter(any), form=st.sampled_from(["raw", "hex", "decimal", "colons"]))
def test_every_uid_survives_every_form(uid: bytes, form: str):
    forms = {
        "raw": TextForm(encoding="raw"),
        "hex": TextForm(encoding="utf_16_be", padding="nul", case="lower"),
        "decimal": TextForm(digits_are="decimal", digits=10),
        "colons": TextForm(separator=":", prefix="RFID:", padding="space"),
    }
    assert text_forms.read(text_forms.write(uid, forms[form]), forms[form], (4,)) == uid


@given(raw=st.binary(max_size=40), padding=st.sampled_from(["none", "nul", "space", "zero_bytes"]))
def test_no_bytes_of_a_charger_crash_the_reading_of_its_text(raw: bytes, padding: Any):
    for encoding in ("raw", "ascii", "utf_16_be"):
        for digits_are in ("hex", "decimal"):
            form = TextForm(encoding=encoding, digits_are=digits_are, padding=padding)
            read = text_forms.read(raw, form, (4, 7, 10))
            assert read is None or isinstance(read, Rejected) or len(read) in (4, 7, 10)


@pytest.mark.parametrize("name", ["keba_p30", "hid_decimal", "phoenix_charx", "acr122u"])
@given(raw=st.binary(max_size=300))
@settings(max_examples=30)  # tests/fuzz has the long run
def test_no_bytes_crash_the_new_codecs_and_none_names_a_strange_uid(name: str, raw: bytes):
    profile = firmware_profiles.load(f"readers/{name}")
    assert profile.uid is not None
    for result in open_decoder(profile).feed(raw):
        assert isinstance(result, Rejected) or all(len(card.uid) in profile.uid.lengths for card in result)


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (Described(usb="072f:2200", product="ACS ACR122U"), ["readers/acr122u"]),
        (Described(product="ACS ACR122U PICC Interface 00 00"), ["readers/acr122u"]),
        (Described(product="ACS ACR1252 1S CL Reader PICC 0"), ["readers/acr1252u"]),
        (Described(product="HID Global OMNIKEY 5022 Contactless Smart Card Reader 0"), ["readers/pcsc_contactless"]),
        (Described(usb="1a86:7523", product="USB Serial"), []),
        (Described(), []),
    ],
)
def test_a_device_finds_its_profile_by_what_it_says_of_itself(device: Described, expected: list[str]):
    assert [profile.id for profile in matching(device, PROFILES)] == expected


def test_a_by_id_name_and_a_priority_decide(tmp_path: Path):
    base = firmware_profiles.load("readers/rdm6300")
    mine = changed(base, id="readers/mine", match=base.match.model_copy(update={"serial_by_id": ("usb-ACME_Tag_*",)}))
    other = changed(mine, id="readers/other", match=mine.match.model_copy(update={"priority": 1}))
    device = Described(by_id="usb-ACME_Tag_reader_0001-if00-port0")
    assert matching(device, [mine]) == (mine,)
    assert matching(device, [mine, other]) == (other,)
    assert matching(Described(by_id="usb-Somebody-if00"), [mine, other]) == ()


@given(VERSIONS, VERSIONS, VERSIONS)
def test_versions_have_a_total_order_and_zeros_at_the_end_say_nothing(one: str, two: str, three: str):
    a, b, c = parse(one), parse(two), parse(three)
    assert a is not None
    assert b is not None
    assert c is not None
    assert (a < b) + (a == b) + (a > b) == 1
    assert not (a <= b <= c) or a <= c
    assert parse(f"{one}.0") == a
    assert is_in(a, f"<={one}")
    assert not is_in(a, f"<{one}")
    assert is_in(a, f"<{two}") == (a < b)
    assert is_in(a, f">={two} <{three}") == (b <= a < c)


@pytest.mark.parametrize("text", ["", "unknown", "1.x", "v1.6", "1..2", "-1", "1" * 20])
def test_what_is_no_version_is_none(text: str):
    assert parse(text) is None


@pytest.mark.parametrize(
    ("firmware", "action", "named"),
    [("1.5.1", "lossy", "VDE-2024-019"), ("1.6.2", "warn", "1.6.3"), ("1.6.3", "accept", ""), (None, "warn", "tell")],
)
def test_a_charx_is_judged_by_its_firmware(firmware: str | None, action: str, named: str):
    judgement = judge(firmware_profiles.load("readers/phoenix_charx"), firmware)
    assert judgement.action == action
    assert named in " ".join(judgement.findings)


def test_an_acr122u_is_judged_by_the_number_in_its_text():
    profile = firmware_profiles.load("readers/acr122u")
    assert judge(profile, "ACR122U203").action == "accept"
    assert "older than 203" in judge(profile, "ACR122U102").findings[0]


def test_a_refused_firmware_is_a_lost_reader_that_says_what_to_do():
    with pytest.raises(ReaderGone, match=r"is refused: firmware 1\.5 is older than 1\.6") as caught:
        admit(with_firmware("refuse", minimum="1.6"), "1.5")
    assert "update" in caught.value.hint
    assert admit(with_firmware("refuse", minimum="1.6"), "1.6").findings == ()


def test_a_weak_firmware_makes_its_cards_lossy_but_never_a_random_id_an_identity():
    admission = admit(with_firmware("lossy", affects="<2"), "1.6")
    known, phone = card_14443a(bytes.fromhex("04A23B4C5D6080")), card_14443a(bytes.fromhex("08F07D71"))
    assert [card.assurance for card in admission.cards((known, phone))] == [Assurance.LOSSY, Assurance.RANDOM]
    assert "count as lossy" in admission.findings[-1]


def test_a_reversed_random_id_is_still_random():
    profile = firmware_profiles.load("readers/hid_hex")
    assert profile.uid is not None
    reversing = changed(profile, uid=profile.uid.model_copy(update={"byte_order": "reversed"}))
    from drivers.readers.key_lines import typed

    (seen,) = open_decoder(reversing).feed(typed("717DF008"))
    assert seen == (Card(uid=bytes.fromhex("08F07D71"), technology=Technology.ISO14443A, assurance=Assurance.RANDOM),)


def an_own_profile(folder: Path, name: str, text: str) -> None:
    (folder / "readers").mkdir(exist_ok=True)
    (folder / "readers" / f"{name}.toml").write_text(text)


def test_an_operators_own_folder_adds_a_reader_and_replaces_none(tmp_path: Path):
    an_own_profile(tmp_path, "mine", 'extends = "readers/keba_p30"\nid = "readers/mine"\n[framing]\nunit = 7\n')
    assert firmware_profiles.load("readers/mine", folder=tmp_path).framing.unit == 7
    assert "readers/mine" in firmware_profiles.available(tmp_path)
    assert "readers/mine" not in firmware_profiles.available()
    an_own_profile(tmp_path, "keba_p30", 'extends = "readers/keba_p30"\n')
    assert firmware_profiles.load("readers/keba_p30", folder=tmp_path).framing.unit == 255
    with pytest.raises(ProfileError, match="is a shipped profile; choose another id"):
        firmware_profiles.load_file(tmp_path / "readers" / "keba_p30.toml")


def test_a_profile_extends_once_and_not_twice(tmp_path: Path):
    an_own_profile(tmp_path, "a", 'extends = "readers/mine"\nid = "readers/a"\n')
    with pytest.raises(ProfileError, match="there is no shipped profile 'readers/mine'"):
        firmware_profiles.load("readers/a", folder=tmp_path)


@pytest.mark.parametrize(
    "command", ["FFD60004100000000000000000000000000000000000", "FF00000004D44A0100", "E000001800", "FFCA000000"]
)
def test_feedback_never_writes_formats_or_flashes(tmp_path: Path, command: str):
    an_own_profile(
        tmp_path, "evil", f'extends = "readers/acr122u"\nid = "readers/evil"\n[feedback]\ngranted = "{command}"\n'
    )
    with pytest.raises(ProfileError, match="allows no such command"):
        firmware_profiles.load("readers/evil", folder=tmp_path)
