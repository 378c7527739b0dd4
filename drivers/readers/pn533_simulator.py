"""A PN533 behind two bulk endpoints in memory, for tests: the real frames, no USB and no antenna."""

from __future__ import annotations

import queue

from drivers.readers.pn532_chip import Fault, Pn532Chip
from drivers.readers.usb_pipe import UsbPipe
from drivers.readers.virtual_cards import VirtualCard
from drivers.serial_port import PortFailed

FIRMWARE = bytes([0x33, 0x02, 0x07, 0x07])
EEPROM = 0xA000
OK, NO_SUCH_PLACE = b"\x00", b"\x01"
READ_REGISTER, WRITE_REGISTER, GET_FIRMWARE_VERSION = 0x06, 0x08, 0x02
GONE = "check the cable"


class Pn533Chip(Pn532Chip):
    """Never asleep, no speed; a register's answer begins with a status, and there is no EEPROM."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep = False

    def _result(self, command: int, parameters: bytes) -> bytes | None:
        if command == GET_FIRMWARE_VERSION:
            return FIRMWARE
        result = super()._result(command, parameters)
        if command == READ_REGISTER and int.from_bytes(parameters[:2], "big") >= EEPROM:
            return NO_SUCH_PLACE
        return OK + result if command in (READ_REGISTER, WRITE_REGISTER) and result is not None else result


class Pn533Simulator:
    """Give `open_pipe` to the driver. One opener at a time, as with a claimed interface."""

    def __init__(self) -> None:
        self.chip = Pn533Chip()
        self._here = True
        self._held: _Pipe | None = None

    def open_pipe(self, port: str, ids: tuple[str, ...]) -> UsbPipe:
        if not self._here:
            raise PortFailed("usb is not there", hint=GONE)
        if self._held is not None:
            raise PortFailed("usb is in use by another program or a kernel module", hint="stop the other program")
        self._held = _Pipe(self)
        return self._held

    def present(self, *cards: VirtualCard) -> None:
        self.chip.lay_on(*cards)

    def remove(self) -> None:
        self.present()

    def disturb(self, fault: Fault, *, times: int | None = 1, command: int | None = None) -> None:
        self.chip.disturb(fault, times=times, command=command)

    def unplug(self) -> None:
        self._here = False

    def replug(self) -> None:
        self._here = True

    @property
    def is_here(self) -> bool:
        return self._here

    def let_go(self) -> None:
        self._held = None


class _Pipe:
    def __init__(self, simulator: Pn533Simulator) -> None:
        self.path = "usb"
        self._simulator = simulator
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def write(self, raw: bytes) -> None:
        chip = self._there().chip
        said = chip.heard(raw, baud=chip.baud)
        for transfer in _transfers(said):
            self._answers.put(transfer)

    def read(self, at_most_s: float) -> bytes:
        self._there()
        try:
            return self._answers.get(timeout=at_most_s)
        except queue.Empty:
            self._there()
            return b""

    def close(self) -> None:
        self._simulator.let_go()

    def _there(self) -> Pn533Simulator:
        if not self._simulator.is_here:
            raise PortFailed(f"{self.path} has gone", hint=GONE)
        return self._simulator


def _transfers(said: bytes) -> list[bytes]:
    """The acknowledgement and the answer come one by one."""
    return [part for part in (said[:6], said[6:]) if part]
