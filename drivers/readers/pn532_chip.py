"""A PN532 in memory: host frames in, its answers out. Pure but for the cards' dice; the line is pn532_simulator.py.

As much of the chip as a reader needs (PN532 user manual, chapter 7): sleep and wake-up, ACK, NACK and error frames,
SetSerialBaudRate with enforcement, the field, one or two Type A targets, registers, talk through to the card.
"""

from __future__ import annotations

from enum import StrEnum

from drivers.readers import pn532_frames
from drivers.readers.pn532_frames import ACK, ERROR, FROM_CHIP, FROM_HOST, Frame, Kind, Pn532Frames
from drivers.readers.virtual_cards import VirtualCard

POWER_UP_BAUD = 115_200
BAUD_OF_CODE = {0x04: 115_200, 0x05: 230_400, 0x06: 460_800, 0x07: 921_600}
WAKE_UP_BYTES = 5  # what a sleeping chip loses before it listens
FIRMWARE = bytes([0x32, 0x01, 0x06, 0x07])  # PN532 version 1.6, all of ISO 14443 A, B and 18092
FIFO_DATA, RX_MODE = 0x6339, 0x6303
SENS_REQ = 0x26  # still in the FIFO when no card answered it
RX_CRC_ENABLED = 0x80
OK, TIME_OUT = 0x00, 0x01
RF_FIELD = 0x01
TYPE_A = 0x00


class Fault(StrEnum):
    """What can be wrong with an answer on its way to the host."""

    CUT_AFTER_2 = "cut after 2 bytes"
    CUT_AFTER_4 = "cut after 4 bytes"
    CUT_MID_FRAME = "cut in mid-frame"
    BAD_CHECK = "data check wrong"
    BAD_LENGTH_CHECK = "length check wrong"
    BIT_FLIPPED = "one bit flipped"
    STRAY_BYTES = "four stray bytes before the frame"
    LONG_PREAMBLE = "two more 00 of preamble, which is legal"
    SILENCE = "no acknowledgement and no answer"
    WRONG_ANSWER = "an answer to another command"


class Pn532Chip:
    def __init__(self) -> None:
        self.cards: tuple[VirtualCard, ...] = ()
        self.commands: list[int] = []  # command codes in the order in which they were understood
        self.baud = POWER_UP_BAUD
        self.asleep = True
        self._next_baud: int | None = None
        self._faults: list[tuple[Fault, int | None]] = []
        self._for_ever: Fault | None = None
        self._answering = 0
        self._frames = Pn532Frames()
        self._lost_to_waking = 0
        self._field_on = False
        self._active: VirtualCard | None = None
        self._registers = {FIFO_DATA: SENS_REQ, RX_MODE: RX_CRC_ENABLED}
        self._last_answer = b""

    def disturb(self, fault: Fault, *, times: int | None = 1, command: int | None = None) -> None:
        """The next answers (to this command) arrive so; times None: all, until calm()."""
        if times is None:
            self._for_ever = fault
        else:
            self._faults += [(fault, command)] * times

    def calm(self) -> None:
        self._faults.clear()
        self._for_ever = None

    def lay_on(self, *cards: VirtualCard) -> None:
        self.cards = cards
        self._active = None

    def wedge_at(self, baud: int) -> None:
        """As a program leaves it that raised the speed and was killed: awake, at this speed until power goes."""
        self.baud, self.asleep = baud, False

    def power_cycle(self) -> None:
        self.baud, self.asleep, self._next_baud = POWER_UP_BAUD, True, None
        self._lost_to_waking = 0
        self._frames.forget()
        self._set_field(on=False)

    def heard(self, chunk: bytes, *, baud: int) -> bytes:
        if baud != self.baud:
            self._frames.forget()
            return b""  # the wrong speed: only framing errors arrive
        if self.asleep:
            chunk = self._woken_by(chunk)
        said = b""
        for frame in self._frames.feed(chunk):
            if isinstance(frame, Frame):
                said += self._heard_frame(frame)
        return said

    def _woken_by(self, chunk: bytes) -> bytes:
        lost = min(len(chunk), WAKE_UP_BYTES - self._lost_to_waking)
        self._lost_to_waking += lost
        if self._lost_to_waking == WAKE_UP_BYTES:
            self.asleep, self._lost_to_waking = False, 0
        return chunk[lost:]

    def _heard_frame(self, frame: Frame) -> bytes:
        match frame.kind:
            case Kind.ACK:  # ends a running command, and confirms a change of speed
                if self._next_baud is not None:
                    self.baud, self._next_baud = self._next_baud, None
                return b""
            case Kind.NACK:
                return self._disturbed(b"", self._last_answer)
            case Kind.DATA if frame.payload[0] == FROM_HOST:
                return self._obey(frame.payload[1], frame.payload[2:])
            case _:
                return b""

    def _obey(self, command: int, parameters: bytes) -> bytes:
        self.commands.append(command)
        self._answering = command
        self._next_baud = None
        result = self._result(command, parameters)
        if result is None:
            self._last_answer = ERROR
        else:
            self._last_answer = pn532_frames.encode(bytes([FROM_CHIP, command + 1]) + result)
        return self._disturbed(ACK, self._last_answer)

    def _result(self, command: int, parameters: bytes) -> bytes | None:
        match command:
            case 0x00:  # Diagnose: the line test says the same again, ROM and RAM tests are good
                return parameters if parameters[:1] == b"\x00" else b"\x00"
            case 0x02:
                return FIRMWARE
            case 0x04:  # GetGeneralStatus
                return bytes([0x00, int(self._field_on), 0x00, 0x00])
            case 0x06:
                return bytes(self._registers.get(address, 0) for address in _words(parameters))
            case 0x08:
                return self._write_registers(parameters)
            case 0x10 if parameters[:1] and parameters[0] in BAUD_OF_CODE:
                self._next_baud = BAUD_OF_CODE[parameters[0]]  # in force after the host's ACK
                return b""
            case 0x12 | 0x14:  # SetParameters, SAMConfiguration
                return b""
            case 0x16:
                self.asleep = True
                self._set_field(on=False)
                return bytes([OK])
            case 0x32:
                if parameters[:1] == bytes([RF_FIELD]):
                    self._set_field(on=bool(parameters[1] & 1))
                return b""
            case 0x42:
                return self._through(parameters)
            case 0x44 | 0x52:  # InDeselect, InRelease
                self._active = None
                return bytes([OK])
            case 0x4A if len(parameters) >= 2:
                return self._list_targets(parameters[0], parameters[1])
            case _:
                return None

    def _write_registers(self, parameters: bytes) -> bytes:
        for at in range(0, len(parameters) - 2, 3):
            self._registers[parameters[at] << 8 | parameters[at + 1]] = parameters[at + 2]
        return b""

    def _set_field(self, *, on: bool) -> None:
        if self._field_on and not on:
            self._active = None
            for card in self.cards:
                card.lose_field()
        self._field_on = on

    def _list_targets(self, at_most: int, modulation: int) -> bytes:
        self._field_on = True
        self._active = None
        self._registers[RX_MODE] = RX_CRC_ENABLED
        found = self.cards[:at_most] if modulation == TYPE_A else ()
        listed = b""
        for number, card in enumerate(found, start=1):
            self._active = self._active or card
            seen = card.select()
            listed += bytes([number]) + seen.sens_res + bytes([seen.sel_res, len(seen.uid)]) + seen.uid
        self._registers[FIFO_DATA] = 0x00 if found else SENS_REQ
        return bytes([len(found)]) + listed

    def _through(self, command: bytes) -> bytes:
        answer = self._active.transceive(command) if self._active is not None else None
        if answer is None:
            return bytes([TIME_OUT])
        checked_by_chip = self._registers[RX_MODE] & RX_CRC_ENABLED
        return bytes([OK]) + answer + (b"" if checked_by_chip else crc_a(answer))

    def _due_fault(self) -> Fault | None:
        for entry in self._faults:
            fault, command = entry
            if command in (None, self._answering):
                self._faults.remove(entry)
                return fault
        return self._for_ever

    def _disturbed(self, acknowledgement: bytes, answer: bytes) -> bytes:
        match self._due_fault():
            case None:
                return acknowledgement + answer
            case Fault.CUT_AFTER_2:
                return acknowledgement + answer[:2]
            case Fault.CUT_AFTER_4:
                return acknowledgement + answer[:4]
            case Fault.CUT_MID_FRAME:
                return acknowledgement + answer[: len(answer) // 2]
            case Fault.BAD_CHECK:
                return acknowledgement + answer[:-2] + bytes([answer[-2] ^ 0x01]) + answer[-1:]
            case Fault.BAD_LENGTH_CHECK:
                return acknowledgement + answer[:4] + bytes([answer[4] ^ 0x01]) + answer[5:]
            case Fault.BIT_FLIPPED:
                return acknowledgement + answer[:6] + bytes([answer[6] ^ 0x10]) + answer[7:]
            case Fault.STRAY_BYTES:
                return acknowledgement + bytes.fromhex("A5FF0017") + answer
            case Fault.LONG_PREAMBLE:
                return acknowledgement + b"\x00\x00" + answer
            case Fault.WRONG_ANSWER:
                return acknowledgement + pn532_frames.encode(bytes([FROM_CHIP, 0x05, 0x00]))
            case Fault.SILENCE:
                return b""


def crc_a(octets: bytes) -> bytes:
    """ISO 14443-3 CRC_A, least significant byte first: 30 00 gives 02 A8."""
    crc = 0x6363
    for octet in octets:
        mixed = (octet ^ crc) & 0xFF
        mixed = (mixed ^ mixed << 4) & 0xFF
        crc = crc >> 8 ^ mixed << 8 ^ mixed << 3 ^ mixed >> 4
    return (crc & 0xFFFF).to_bytes(2, "little")


def _words(octets: bytes) -> list[int]:
    return [octets[at] << 8 | octets[at + 1] for at in range(0, len(octets) - 1, 2)]
