"""libosdp, both ends of it: the panel that asks and the reader that answers. The only place that knows it.

The library speaks the protocol and the secure channel. Neither its threads nor its log are used: the log writes
packets, so it is switched off for the whole process before the first object is made. Bytes are handed in and taken
out here; whoever owns an object calls it from one thread. Frames are osdp_frames.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from drivers.readers.supervision import ReaderGone

SILENT = 0  # LOG_EMERG
CARD_READ, NOTIFICATION = 1, 5
NOTIFIED_SECURE, NOTIFIED_ONLINE = 1, 2
LED, BUZZER = 0x69, 0x6A  # OSDP command codes
TEXT_TEMPORARY_WRAPPED = 4
TEXT_MAX_CHARACTERS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class CardRead:
    """`data` may be a UID and is therefore not shown."""

    bits: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a reader says of itself."""

    vendor: str
    model: int
    serial: int
    firmware: str


class Panel:
    """The asking end for one reader."""

    def __init__(self, *, address: int, key: bytes | None, write: Callable[[bytes], None]) -> None:
        osdp, osdp_sys = _library()
        self.cards: list[CardRead] = []
        self.refused = False  # the reader answered and the secure channel, or the identification, came to nothing
        self._wire = _Wire(osdp.Channel, write)
        flags = [osdp.LibFlag.EnableNotification] + ([osdp.LibFlag.EnforceSecure] if key is not None else [])
        reader = osdp.PDInfo(address, self._wire.channel, scbk=key, flags=flags, name=f"reader-{address}")
        self._osdp = osdp
        self._panel = osdp_sys.ControlPanel([reader.get()])
        self._panel.set_event_callback(self._told)

    def received(self, frame: bytes) -> None:
        self._wire.received += frame

    def step(self) -> None:
        """Let the protocol go on. What is written fails here and not in the library."""
        self._panel.refresh()
        self._wire.raise_failure()

    @property
    def online(self) -> bool:
        return bool(self._panel.status() & 1)

    @property
    def secure(self) -> bool:
        return bool(self._panel.sc_status() & 1)

    def about(self) -> About:
        said = self._panel.get_pd_id(0) or {}
        version = int(said.get("firmware_version", 0))
        return About(
            vendor=f"{int(said.get('vendor_code', 0)):06X}",
            model=int(said.get("model", 0)),
            serial=int(said.get("serial_number", 0)),
            firmware=".".join(str(version >> shift & 0xFF) for shift in (16, 8, 0)),
        )

    def do(self, command: bytes) -> None:
        """A command of the profile, in the bytes of the standard: osdp_LED (69) or osdp_BUZ (6A)."""
        for said in _commands(self._osdp, command):
            self._panel.submit_command(0, said)

    def show(self, text: str, *, seconds: int) -> None:
        shown = "".join(each for each in text if " " <= each <= "~")[:TEXT_MAX_CHARACTERS]
        said = {"reader": 0, "control_code": TEXT_TEMPORARY_WRAPPED, "temp_time": seconds, "offset_row": 1}
        self._panel.submit_command(0, {"command": self._osdp.Command.Text, "offset_col": 1, "data": shown, **said})

    def _told(self, _: int, event: dict[str, Any]) -> int:
        match event:
            case {"event": 1, "format": 0 | 1, "length": int() as bits, "data": bytes() as data}:
                self.cards.append(CardRead(bits=bits, data=data))
            case {"event": 5, "type": 1 | 2, "arg0": 0}:
                self.refused = True
            case _:
                pass
        return 0


class Peripheral:
    """The answering end, for the simulator."""

    def __init__(self, *, address: int, key: bytes | None) -> None:
        osdp, osdp_sys = _library()
        self.commands: list[dict[str, Any]] = []
        self.said: list[bytes] = []
        self._wire = _Wire(osdp.Channel, self.said.append)
        capability = osdp.Capability
        kinds = (
            capability.LEDControl,
            capability.AudibleControl,
            capability.TextOutput,
            capability.CommunicationSecurity,
            capability.CardDataFormat,
        )
        identity = osdp.PdId(1, 2, 0x123456, 77, 0x010203)
        reader = osdp.PDInfo(address, self._wire.channel, scbk=key, flags=[], name="simulated", id=identity)
        capabilities = osdp.PDCapabilities([(each, 1, 1) for each in kinds])
        self._osdp = osdp
        self._reader = osdp_sys.PeripheralDevice(reader.get(), capabilities=capabilities.get())
        self._reader.set_command_callback(self._commanded)

    def received(self, chunk: bytes) -> None:
        self._wire.received += chunk

    def step(self) -> None:
        self._reader.refresh()

    def read(self, data: bytes, *, bits: int) -> None:
        """A card was presented."""
        formats = self._osdp.CardFormat
        kind = formats.Unspecified if bits % 8 == 0 else formats.Wiegand
        said = {"reader_no": 0, "direction": 0, "format": kind, "length": bits, "data": data}
        self._reader.submit_event({"event": self._osdp.Event.CardRead, **said})

    def _commanded(self, command: dict[str, Any]) -> tuple[int, None]:
        self.commands.append(command)
        return 0, None


class _Wire:
    """Bytes in and out of the library, which calls `channel` from its own code and must not see an exception."""

    def __init__(self, base: type, write: Callable[[bytes], None]) -> None:
        self.received = bytearray()
        self._failure: Exception | None = None
        wire = self

        class Channel(base):  # type: ignore[misc]
            def read(self, max_bytes: int) -> bytes:
                taken = bytes(wire.received[:max_bytes])
                del wire.received[:max_bytes]
                return taken

            def write(self, buf: bytes) -> int:
                try:
                    write(bytes(buf))
                except Exception as failure:  # noqa: BLE001 - raised again outside the library
                    wire._failure = failure
                return len(buf)

            def flush(self) -> None:
                wire.received.clear()

        self.channel = Channel()

    def raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure


def _commands(osdp: Any, command: bytes) -> list[dict[str, Any]]:
    """OSDP 2.2, 6.10 and 6.11: the fields of the standard as the library wants them."""
    match list(command):
        case [0x6A, reader, tone, on, off, count]:
            times = {"on_count": on, "off_count": off, "rep_count": count}
            return [{"command": osdp.Command.Buzzer, "reader": reader, "control_code": tone, **times}]
        case [0x69, reader, led, temporary, on, off, on_colour, off_colour, low, high, *permanent]:
            lamp = {"command": osdp.Command.LED, "reader": reader, "led_number": led}
            blink = {"on_count": on, "off_count": off, "on_color": on_colour, "off_color": off_colour}
            said = []
            if temporary:
                timer = {"timer_count": low | high << 8, "temporary": True}
                said.append({**lamp, "control_code": temporary, **blink, **timer})
            if len(permanent) == 5 and permanent[0]:
                names = ("control_code", "on_count", "off_count", "on_color", "off_color")
                said.append({**lamp, **dict(zip(names, permanent, strict=True)), "timer_count": 0, "temporary": False})
            return said
        case _:
            return []


def _library() -> tuple[Any, Any]:
    try:
        import osdp
        import osdp_sys
    except ImportError as error:
        raise ReaderGone("OSDP readers need the extra `osdp`", hint="pip install 'roamkey[osdp]'") from error
    osdp_sys.set_loglevel(SILENT)
    return osdp, osdp_sys
