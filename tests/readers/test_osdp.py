"""OSDP: the line is secure or there is no line; faults end in a clean read or in ReaderLost; keys are seen nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import firmware_profiles
from drivers.readers import open_reader
from drivers.readers.disturbances import Disturbance
from drivers.readers.osdp_frames import OsdpFrame, OsdpReplies, card_in, encode, frames
from drivers.readers.osdp_simulator import OsdpSimulator
from drivers.readers.reader import Feedback, Reader, Technology, card_14443a
from drivers.readers.rejects import Reason, Rejected
from drivers.readers.secure_line import INSTALL_KEY, KeyUnusable, SecureLine, checked
from tests.readers.witness import Witness, watched

KEY, OTHER_KEY = bytes(range(1, 17)), bytes(range(2, 18))
UID, OTHER_UID = bytes.fromhex("04A23B4C5D6080"), bytes.fromhex("DEADBEEF")
CARD, OTHER_CARD = card_14443a(UID), card_14443a(OTHER_UID)
PROFILE = firmware_profiles.load("readers/osdp_v2")
RAW_REPLY = 0x50
NEVER_SENT = {0x75: "KEYSET", 0x6E: "COMSET", 0x7C: "FILETRANSFER", 0x80: "MFG"}


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[OsdpSimulator]:
    with OsdpSimulator(key=KEY, link=tmp_path / "reader") as gate:
        yield gate


def a_reader(gate: OsdpSimulator, *, key: bytes | None = KEY, plain: bool = False) -> Reader:
    line = SecureLine(plain=plain) if key is None else SecureLine(key=lambda: key, plain=plain)
    return open_reader("gate", profile=PROFILE, port=gate.port, line=line)


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


def a_report(uid: bytes) -> bytes:
    return bytes([RAW_REPLY, 0, 0]) + (8 * len(uid)).to_bytes(2, "little") + uid


async def until_read(gate: OsdpSimulator, witness: Witness, uid: bytes = UID, *, within_s: float = 5.0) -> None:
    """Presented again and again, as a person does who sees no light."""
    witness.forget()
    began_s = asyncio.get_running_loop().time()
    while not any(event.cards == (card_14443a(uid),) for event in witness.seen):
        assert asyncio.get_running_loop().time() - began_s < within_s, witness.events
        gate.present(uid)
        await asyncio.sleep(0.1)


def test_a_card_comes_through_the_secure_channel_and_is_never_on_the_wire_in_clear(gate: OsdpSimulator):
    async def scenario():
        async with watched(a_reader(gate)) as witness:
            await witness.until(lambda w: bool(w.found))
            gate.present(UID)
            await witness.until_seen(CARD, within_s=1.0)
            assert UID not in gate.said
            assert not witness.found[0].findings or "secure channel" not in str(witness.found[0].findings)

    run(scenario)


def test_in_clear_only_when_configured_so_and_then_it_is_said(gate: OsdpSimulator, tmp_path: Path):
    async def scenario():
        with OsdpSimulator(key=None, link=tmp_path / "other") as other:
            async with watched(a_reader(other, key=None, plain=True)) as witness:
                await witness.until(lambda w: bool(w.found))
                assert "no secure channel" in str(witness.found[0].findings)
                other.present(UID)
                await witness.until_seen(CARD, within_s=1.0)
                assert UID in other.said  # what the secure channel hides

    run(scenario)


@pytest.mark.parametrize(
    ("key", "cause"),
    [
        (None, "no key is configured"),
        (INSTALL_KEY, "default key"),
        (bytes(16), "default key"),
        (b"\xff" * 16, "default key"),
        (KEY[:8], "8 bytes, not 16"),
    ],
)
def test_without_a_key_of_its_own_nothing_is_said_on_the_line(key: bytes | None, cause: str, gate: OsdpSimulator):
    async def scenario():
        async with watched(a_reader(gate, key=key)) as witness:
            await witness.until(lambda w: bool(w.lost))
            assert cause in witness.lost[0].cause
            assert witness.lost[0].hint
            assert not gate.heard_bytes

    run(scenario)


@pytest.mark.slow
@pytest.mark.parametrize("theirs", [OTHER_KEY, None], ids=["another key", "no key yet, in install mode"])
def test_a_reader_with_another_key_is_lost_at_once_and_back_as_soon_as_the_key_is_right(
    theirs: bytes | None, tmp_path: Path
):
    ours = [KEY]

    async def scenario():
        with OsdpSimulator(key=theirs, link=tmp_path / "reader") as gate:
            line = SecureLine(key=lambda: ours[0])
            async with watched(open_reader("gate", profile=PROFILE, port=gate.port, line=line)) as witness:
                await witness.until(lambda w: bool(w.lost), within_s=1.0)
                assert "refuses the secure channel" in witness.lost[0].cause
                gate.present(UID)
                await asyncio.sleep(0.2)
                assert not witness.seen
                if theirs is not None:  # the library alone would wait five minutes
                    ours[0] = theirs
                    await witness.until(lambda w: bool(w.found), within_s=3.0)

    run(scenario)


def test_a_card_in_clear_or_replayed_on_a_secured_line_is_not_believed(
    gate: OsdpSimulator, caplog: pytest.LogCaptureFixture
):
    async def scenario():
        async with watched(a_reader(gate)) as witness:
            await witness.until(lambda w: bool(w.found))
            before = len(gate.said)
            gate.present(OTHER_UID)
            await witness.until_seen(OTHER_CARD)
            recorded = gate.said[before:]
            witness.forget()
            for sequence in range(4):
                gate.say(encode(a_report(UID), address=0, reply=True, sequence=sequence))
                gate.say(recorded)
                await asyncio.sleep(0.05)
            assert not any(event.cards for event in witness.seen)
            assert "a card in clear on a secured line" in caplog.text  # kept from the library, which also refuses it
            await until_read(gate, witness)

    run(scenario)


def test_no_key_is_ever_in_logs_output_or_texts(
    gate: OsdpSimulator, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(1)

    async def scenario() -> str:
        async with watched(a_reader(gate)) as witness:
            await witness.until(lambda w: bool(w.found))
            gate.present(UID)
            await witness.until_seen(CARD)
        async with watched(a_reader(gate, key=OTHER_KEY)) as wrong:
            await wrong.until(lambda w: bool(w.lost))
        return f"{witness.events!r}{wrong.events!r}{SecureLine(key=lambda: KEY)!r}"

    said = asyncio.run(scenario()) + caplog.text + "".join(capfd.readouterr())
    for key in (KEY, OTHER_KEY):
        assert key.hex() not in said.lower()
        assert repr(key) not in said
    assert UID.hex() not in said.lower()
    with pytest.raises(KeyUnusable) as caught:
        checked(INSTALL_KEY)
    assert INSTALL_KEY.hex() not in str(caught.value)


@pytest.mark.slow
def test_nothing_is_ever_sent_that_changes_a_reader(gate: OsdpSimulator):
    async def scenario():
        reader = a_reader(gate)
        async with watched(reader) as witness:
            await witness.until(lambda w: bool(w.found))
            for feedback in Feedback:
                await reader.signal(feedback, "")
            await witness.until(lambda _: len(gate.commands) == sum(map(len, PROFILE.feedback.values())))
        sent = [frame for frame in frames().feed(gate.heard_bytes) if isinstance(frame, OsdpFrame)]
        assert len(sent) > 8
        assert not {frame.code for frame in sent} & set(NEVER_SENT)

    run(scenario)


def test_signals_reach_lamp_and_buzzer(gate: OsdpSimulator):
    async def scenario():
        reader = a_reader(gate)
        async with watched(reader) as witness:
            await witness.until(lambda w: bool(w.found))
            await reader.signal(Feedback.GRANTED, "Good day")
            await witness.until(lambda _: len(gate.commands) >= 2, within_s=1.0)
            lamp, buzzer = gate.commands[:2]
            assert (lamp["temporary"], lamp["on_color"], lamp["timer_count"]) == (True, 2, 30)
            assert (buzzer["on_count"], buzzer["rep_count"]) == (2, 1)
            assert len(gate.commands) == 2  # no text: this reader has no display

    run(scenario)


@pytest.mark.slow
def test_a_reader_with_a_display_shows_the_text(gate: OsdpSimulator):
    shown = PROFILE.model_copy(update={"capabilities": (*PROFILE.capabilities, "display")})

    async def scenario():
        reader = open_reader("gate", profile=shown, port=gate.port, line=SecureLine(key=lambda: KEY))
        async with watched(reader) as witness:
            await witness.until(lambda w: bool(w.found))
            await reader.signal(Feedback.REFUSED, "Not today\n\x1b[2J")
            await witness.until(lambda _: any("data" in each for each in gate.commands), within_s=1.0)
            assert [each["data"] for each in gate.commands if "data" in each] == ["Not today[2J"]

    run(scenario)


@pytest.mark.slow
def test_the_reader_says_what_it_is(gate: OsdpSimulator):
    async def scenario():
        async with watched(a_reader(gate)) as witness:
            await witness.until(lambda w: bool(w.found))
            assert witness.found[0].firmware == "1.2.3"
            assert "vendor 123456" in witness.found[0].model

    run(scenario)


@pytest.mark.slow
def test_a_reader_that_dies_in_silence_is_told_within_a_second(gate: OsdpSimulator):
    async def scenario():
        async with watched(a_reader(gate)) as witness:
            await witness.until(lambda w: bool(w.found))
            gate.disturb(Disturbance.SILENCE, times=None)
            assert await witness.until(lambda w: bool(w.lost), within_s=1.0) < 1.0
            gate.calm()
            await until_read(gate, witness)

    run(scenario)


@pytest.mark.slow
def test_another_address_is_another_reader(tmp_path: Path):
    async def scenario():
        with OsdpSimulator(key=KEY, address=3, link=tmp_path / "reader") as gate:
            line = SecureLine(key=lambda: KEY, address=3)
            async with watched(open_reader("gate", profile=PROFILE, port=gate.port, line=line)) as witness:
                await witness.until(lambda w: bool(w.found))
                await until_read(gate, witness)

    run(scenario)


# Every way to damage bytes is tried on the polled readers; these are the ones that a session feels differently.
SESSION_FAULTS = [
    Disturbance.CUT_AFTER_2,
    Disturbance.BIT_FLIPPED,
    Disturbance.TWICE,
    Disturbance.SILENCE,
    Disturbance.WRONG_ANSWER,
    Disturbance.GARBAGE,
]


@pytest.mark.slow
@pytest.mark.parametrize("disturbance", SESSION_FAULTS)
def test_one_damaged_reply_costs_a_new_session_at_most_and_no_loss(disturbance: Disturbance, gate: OsdpSimulator):
    async def scenario():
        async with watched(a_reader(gate)) as witness:
            await witness.until(lambda w: bool(w.found))
            gate.disturb(disturbance)
            await asyncio.sleep(0.1)
            lost = list(witness.lost)
            await until_read(gate, witness)
            assert {event.cards for event in witness.seen} <= {(CARD,), ()}
            assert not lost + witness.lost

    run(scenario)


@pytest.mark.slow
@pytest.mark.parametrize(
    "disturbance",
    [Disturbance.BIT_FLIPPED, Disturbance.WRONG_ANSWER, Disturbance.GARBAGE],
)
def test_a_fault_that_stays_is_a_lost_reader_within_a_second_until_it_goes(
    disturbance: Disturbance, gate: OsdpSimulator
):
    async def scenario():
        async with watched(a_reader(gate)) as witness:
            await witness.until(lambda w: bool(w.found))
            gate.disturb(disturbance, times=None)
            await witness.until(lambda w: bool(w.lost), within_s=1.0)
            gate.calm()
            await until_read(gate, witness)

    run(scenario)


@pytest.mark.slow
def test_noise_on_the_wire_is_kept_from_the_library_and_changes_nothing(gate: OsdpSimulator):
    async def scenario():
        async with watched(a_reader(gate)) as witness:
            await witness.until(lambda w: bool(w.found))
            for noise in (b"\x53\x80\x14\x00", b"\xff" * 2_000, bytes(range(256)) * 4):
                gate.say(noise)
                await until_read(gate, witness)

    run(scenario)


# The codec


@pytest.mark.parametrize(
    ("raw", "address", "is_reply", "code"),
    [
        ("53050900046100C125", 5, False, 0x61),
        ("538514000445BEBAFE0101AFBEADDEADDEAD01B9", 5, True, 0x45),
        ("530513000E03110176D764C8CCE93255C4CDCF", 5, False, 0x76),
    ],
)
def test_frames_captured_elsewhere_are_understood(raw: str, address: int, is_reply: bool, code: int):
    (frame,) = frames().feed(bytes.fromhex(raw))
    assert isinstance(frame, OsdpFrame)
    assert (frame.address, frame.is_reply, frame.code, frame.raw.hex().upper()) == (address, is_reply, code, raw)


def cards_in(raw: bytes) -> list[str]:
    replies = OsdpReplies("iso14443a")
    seen = [replies.sighting(each) for each in replies.codec().feed(raw) if isinstance(each, OsdpFrame)]
    return [card.canonical for cards in seen if not isinstance(cards, Rejected) for card in cards]


@pytest.mark.parametrize("errors", [1, 2])
def test_no_single_and_no_double_bit_error_of_a_report_shows_another_card(errors: int):
    frame = encode(a_report(OTHER_UID), address=0, reply=True)
    for bits in combinations(range(8 * len(frame)), errors):
        damaged = bytearray(frame)
        for bit in bits:
            damaged[bit // 8] ^= 1 << bit % 8
        # The address is covered by the CRC like all else: only a report that was not damaged is a card.
        assert not cards_in(bytes(damaged) + bytes(8)), bits


@given(chunks=st.lists(st.binary(max_size=60), max_size=12))
def test_any_bytes_in_any_pieces_raise_nothing_and_mean_the_same_in_one_piece(chunks: list[bytes]):
    piecewise, whole = frames(), frames()
    results = [result for chunk in chunks for result in piecewise.feed(chunk)]
    assert results == whole.feed(b"".join(chunks))


@given(noise=st.binary(max_size=80))
def test_a_report_after_any_noise_is_read_at_once(noise: bytes):
    assert cards_in(noise + encode(a_report(UID), address=0, reply=True))[-1:] == [UID.hex().upper()]


@given(payload=st.binary(min_size=1, max_size=60), control=st.sampled_from([0x04, 0x0C]))
def test_whatever_a_sound_frame_says_is_a_card_or_a_reject(payload: bytes, control: int):
    replies = OsdpReplies("iso14443a")
    raw = encode(bytes([RAW_REPLY]) + payload, address=0, reply=True, sequence=control & ~0x04)
    for frame in replies.codec().feed(raw):
        assert isinstance(frame, Rejected) or replies.sighting(frame) is not None


@given(data=st.binary(max_size=12), bits=st.integers(0, 100))
def test_card_data_of_any_size_is_a_card_or_a_reject(data: bytes, bits: int):
    said = card_in(data, bits=bits, technology=Technology.EM4100)
    assert isinstance(said, Rejected) or len(said) == 1


def test_the_old_checksum_is_refused():
    frame = bytearray(encode(a_report(UID), address=0, reply=True))
    frame[4] &= ~0x04
    assert frames().feed(bytes(frame))[0] == Rejected(reason=Reason.FRAMING)


@contextmanager
def no_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setitem(__import__("sys").modules, "osdp_sys", None)
        yield


def test_without_the_extra_the_reader_is_lost_with_advice(gate: OsdpSimulator, monkeypatch: pytest.MonkeyPatch):
    async def scenario():
        with no_library(monkeypatch):
            async with watched(a_reader(gate)) as witness:
                await witness.until(lambda w: bool(w.lost))
                assert "roamkey[osdp]" in witness.lost[0].hint

    run(scenario)
