"""A card that says what a published trace says, and insists on hearing what the trace has."""

from __future__ import annotations


class ScriptedCard:
    def __init__(self, *exchanges: tuple[str, str]) -> None:
        self._exchanges = [(bytes.fromhex(heard), bytes.fromhex(said)) for heard, said in exchanges]

    def __call__(self, command: bytes) -> bytes:
        heard, said = self._exchanges.pop(0)
        assert command == heard, f"{command.hex().upper()} instead of {heard.hex().upper()}"
        return said

    @property
    def is_done(self) -> bool:
        return not self._exchanges
