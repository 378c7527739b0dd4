"""The simulated PN532 behaves like the chip where it matters, so that what passes against it means something."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from drivers.readers.pn532_chip import Pn532Chip, crc_a
from drivers.readers.pn532_frames import ACK, ERROR, NACK, WAKE_UP, Frame, Pn532Frames, encode
from drivers.readers.pn532_simulator import Pn532Simulator
from drivers.readers.pn532_transport import Pn532Transport
from drivers.readers.stop import Stop
from drivers.readers.virtual_cards import ClassicCard, Phone, Type2Card

HOME = 115_200
GET_FIRMWARE = bytes.fromhex("0000FF02FED4022A00")
FIRMWARE = bytes.fromhex("0000FF06FAD50332010607E800")
LIST_ONE, LIST_TWO = (encode(bytes([0xD4, 0x4A, count, 0x00])) for count in (1, 2))
NONE_FOUND = bytes.fromhex("0000FF03FDD54B00E000")
NTAG = Type2Card(bytes.fromhex("04A23B4C5D6080"))


def awake(*cards) -> Pn532Chip:
    chip = Pn532Chip()
    chip.heard(WAKE_UP, baud=HOME)
    chip.lay_on(*cards)
    return chip


def payload(answer: bytes) -> bytes:
    frames = Pn532Frames().feed(answer)
    assert isinstance(frames[-1], Frame)
    return frames[-1].payload


def test_a_sleeping_chip_loses_the_first_bytes_and_hears_what_follows_a_preamble():
    chip = Pn532Chip()
    assert chip.heard(GET_FIRMWARE, baud=HOME) == b""
    assert Pn532Chip().heard(WAKE_UP + GET_FIRMWARE, baud=HOME) == ACK + FIRMWARE


def test_bytes_at_the_wrong_speed_are_lost():
    chip = awake()
    assert chip.heard(GET_FIRMWARE, baud=9_600) == b""
    assert chip.heard(GET_FIRMWARE, baud=HOME) == ACK + FIRMWARE


def test_the_speed_changes_with_the_hosts_acknowledgement_and_not_before():
    chip = awake()
    chip.heard(bytes.fromhex("0000FF03FDD410071500"), baud=HOME)
    assert chip.baud == HOME
    chip.heard(ACK, baud=HOME)
    assert chip.baud == 921_600


def test_a_nack_gets_the_last_answer_again():
    chip = awake()
    chip.heard(GET_FIRMWARE, baud=HOME)
    assert chip.heard(NACK, baud=HOME) == FIRMWARE


@pytest.mark.parametrize("command", ["D4F0", "D44A", "D41099"])
def test_what_the_chip_does_not_know_gets_an_error_frame(command: str):
    assert awake().heard(encode(bytes.fromhex(command)), baud=HOME) == ACK + ERROR


@pytest.mark.parametrize(
    ("cards", "answer"),
    [
        ((), NONE_FOUND),
        ((NTAG,), bytes.fromhex("0000FF0FF1D54B01010044000704A23B4C5D60802900")),
        ((ClassicCard(bytes.fromhex("DEADBEEF")),), bytes.fromhex("0000FF0CF4D54B010100040804DEADBEEF9600")),
    ],
)
def test_targets_are_listed_byte_for_byte_as_the_manual_says(cards, answer: bytes):
    assert awake(*cards).heard(LIST_ONE, baud=HOME) == ACK + answer


def test_a_second_card_is_listed_only_when_two_are_asked_for():
    chip = awake(NTAG, ClassicCard(bytes.fromhex("DEADBEEF")))
    assert payload(chip.heard(LIST_ONE, baud=HOME))[2] == 1
    assert payload(chip.heard(LIST_TWO, baud=HOME))[2] == 2


def test_a_phone_keeps_its_uid_until_the_field_drops():
    chip = awake(Phone())
    first, second = (payload(chip.heard(LIST_ONE, baud=HOME)) for _ in range(2))
    assert first == second
    chip.heard(encode(bytes.fromhex("D4320102")), baud=HOME)
    assert payload(chip.heard(LIST_ONE, baud=HOME)) != first


@pytest.mark.parametrize(("octets", "crc"), [("3000", "02A8"), ("5000", "57CD"), ("E080", "3173")])
def test_crc_a_agrees_with_published_values(octets: str, crc: str):
    assert crc_a(bytes.fromhex(octets)) == bytes.fromhex(crc)


def test_nfcpy_reads_the_pages_of_a_virtual_ntag_through_our_transport(tmp_path: Path):
    import nfc.clf.pn532
    import nfc.tag

    logging.getLogger("nfc").setLevel(logging.CRITICAL)
    with Pn532Simulator(link=tmp_path / "reader") as simulator:
        simulator.present(NTAG)
        transport = Pn532Transport(simulator.port, Stop())
        assert transport.wake().firmware == "1.6"
        frontend = nfc.clf.ContactlessFrontend()
        chipset = nfc.clf.pn532.Chipset(transport, nfc.clf.pn532.log)
        frontend.device = nfc.clf.pn532.Device(chipset, nfc.clf.pn532.log)
        try:
            tag = nfc.tag.activate(frontend, frontend.sense(nfc.clf.RemoteTarget("106A"), iterations=1))
            assert tag.product == "NXP NTAG215"
            assert bytes(tag.read(0))[:9] == bytes.fromhex("04A23B154C5D6080F1")
        finally:
            frontend.close()
            transport.close()
