"""A PN532 module on a pseudo-terminal, for tests and the demo: the real frames of the real chip, no antenna."""

from __future__ import annotations

from pathlib import Path

from drivers.readers.pn532_chip import Fault, Pn532Chip
from drivers.readers.pseudo_terminal import OnATerminal, PseudoTerminal
from drivers.readers.virtual_cards import VirtualCard


class Pn532Simulator(OnATerminal):
    """It outlives whoever reads it: close, kill and open the other end as often as you like."""

    def __init__(self, *, link: Path | None = None) -> None:
        self._chip = Pn532Chip()
        self._terminal = PseudoTerminal(_Line(self._chip), link=link)

    @property
    def baud(self) -> int:
        return self._terminal.ask(lambda: self._chip.baud)

    @property
    def asleep(self) -> bool:
        return self._terminal.ask(lambda: self._chip.asleep)

    @property
    def commands(self) -> tuple[int, ...]:
        """Codes of the commands understood so far."""
        return self._terminal.ask(lambda: tuple(self._chip.commands))

    def present(self, *cards: VirtualCard) -> None:
        """Only these cards are in the field now."""
        self._terminal.ask(lambda: self._chip.lay_on(*cards))

    def remove(self) -> None:
        self.present()

    def disturb(self, fault: Fault, *, times: int | None = 1, command: int | None = None) -> None:
        """The next answers (to this command) arrive so; times None: all, until calm()."""
        self._terminal.ask(lambda: self._chip.disturb(fault, times=times, command=command))

    def calm(self) -> None:
        self._terminal.ask(self._chip.calm)

    def wedge_at_baud(self, baud: int) -> None:
        """As a program leaves it that raised the speed and was killed."""
        self._terminal.ask(lambda: self._chip.wedge_at(baud))

    def replug(self) -> None:
        """At the same path, and freshly powered."""
        self._terminal.ask(self._chip.power_cycle)
        super().replug()


class _Line:
    """The chip as the far end of a terminal. It never speaks first."""

    def __init__(self, chip: Pn532Chip) -> None:
        self._chip = chip

    def heard(self, chunk: bytes, *, baud: int) -> bytes:
        return self._chip.heard(chunk, baud=baud)

    def due_s(self) -> float | None:
        return None

    def speak(self) -> bytes:
        return b""
