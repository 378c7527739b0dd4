r"""The line protocol of chargers without OCPP: bytes to messages and back. Pure; ports and waiting are in line.py.

    line = body "*" crc LF             CR before LF is ignored, an empty line means nothing
    body = printable ASCII, fields separated by one space; "-" stands for a value that is not there
    crc  = CRC-16/CCITT-FALSE of the body, four upper-case hexadecimal digits

    host to charger                           charger to host
    START session max_wh|-                    STATUS state session|- meter_wh|-
    STOP session                              PLUGGED
    QUERY                                     UNPLUGGED
                                              STARTED session|- meter_wh
                                              METER session|- meter_wh power_w|-
                                              STOPPED session|- meter_wh|- reason
                                              FAULT code
                                              REFUSED session reason

A sender opens each line with an empty one, so that noise or a torn line before it costs no message.
Commands can be repeated: START of the running session answers STARTED again with the reading at its start, STOP of a
session that does not run answers STOPPED with the reading of now.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar, assert_never

from drivers.chargers.charger import ChargerState

MAX_LINE_BYTES = 200  # the longest line, STOPPED with a session of 64 and a reason of 32, has 121


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    session: str
    max_energy_wh: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    session: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    state: ChargerState
    session: str | None
    meter_wh: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugged:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplugged:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    session: str | None
    meter_wh: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    session: str | None
    meter_wh: int
    power_w: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    session: str | None
    meter_wh: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    session: str
    reason: str


Command = Start | Stop | Query
Report = Status | Plugged | Unplugged | Started | Meter | Stopped | Fault | Refused
Message = TypeVar("Message")


class Garbled(ValueError):
    """These bytes are no line of this protocol; the text says why."""


class LineDecoder(Generic[Message]):
    """Feed it bytes as they come. Lines that are not sound are counted and dropped; memory is bounded."""

    def __init__(self, parse: Callable[[str], Message]) -> None:
        self._parse = parse
        self._line = bytearray()
        self._overlong = False
        self.dropped = 0
        self.last_complaint = ""

    def feed(self, chunk: bytes) -> list[Message]:
        messages = []
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            self._collect(piece)
            try:
                if self._overlong:
                    raise Garbled(f"more than {MAX_LINE_BYTES} bytes without an end of line")
                line = bytes(self._line).removesuffix(b"\r")
                if line:
                    messages.append(self._parse(unseal(line)))
            except Garbled as garbled:
                self.dropped += 1
                self.last_complaint = str(garbled)
            self._line.clear()
            self._overlong = False
        self._collect(rest)
        return messages

    def _collect(self, piece: bytes) -> None:
        if self._overlong or len(self._line) + len(piece) > MAX_LINE_BYTES:
            self._line.clear()
            self._overlong = True
        else:
            self._line += piece


def encode(message: Command | Report) -> bytes:
    fields = _fields(message)
    if not all(FIELD.fullmatch(field) for field in fields):
        raise ValueError(f"a field of {type(message).__name__} is empty, too long, or has more than printable ASCII")
    body = " ".join(fields).encode("ascii")
    return b"\n%b*%04X\n" % (body, checksum(body))


def unseal(line: bytes) -> str:
    """The body of a line whose checksum is right."""
    body, star, crc = line.rpartition(b"*")
    if not star or crc != b"%04X" % checksum(body):
        raise Garbled("the checksum is missing or wrong")
    if not body.isascii() or not body.decode("ascii").isprintable():
        raise Garbled("something else than printable ASCII")
    return body.decode("ascii")


def checksum(body: bytes) -> int:
    return binascii.crc_hqx(body, 0xFFFF)


def parse_command(body: str) -> Command:
    match body.split(" "):
        case ["START", session, most]:
            return Start(session=_session(session), max_energy_wh=_optional(_number, most))
        case ["STOP", session]:
            return Stop(session=_session(session))
        case ["QUERY"]:
            return Query()
        case _:
            raise Garbled("no command that a charger knows")


def parse_report(body: str) -> Report:
    match body.split(" "):
        case ["STATUS", state, session, meter]:
            return Status(state=_state(state), session=_optional(_session, session), meter_wh=_optional(_number, meter))
        case ["PLUGGED"]:
            return Plugged()
        case ["UNPLUGGED"]:
            return Unplugged()
        case ["STARTED", session, meter]:
            return Started(session=_optional(_session, session), meter_wh=_number(meter))
        case ["METER", session, meter, power]:
            return Meter(
                session=_optional(_session, session), meter_wh=_number(meter), power_w=_optional(_number, power)
            )
        case ["STOPPED", session, meter, reason]:
            return Stopped(
                session=_optional(_session, session), meter_wh=_optional(_number, meter), reason=_word(reason)
            )
        case ["FAULT", code]:
            return Fault(code=_word(code))
        case ["REFUSED", session, reason]:
            return Refused(session=_session(session), reason=_word(reason))
        case _:
            raise Garbled("no report that we know")


def _fields(message: Command | Report) -> tuple[str, ...]:
    match message:
        case Start():
            return "START", message.session, _or_dash(message.max_energy_wh)
        case Stop():
            return "STOP", message.session
        case Query():
            return ("QUERY",)
        case Status():
            return "STATUS", message.state, _or_dash(message.session), _or_dash(message.meter_wh)
        case Plugged():
            return ("PLUGGED",)
        case Unplugged():
            return ("UNPLUGGED",)
        case Started():
            return "STARTED", _or_dash(message.session), str(message.meter_wh)
        case Meter():
            return "METER", _or_dash(message.session), str(message.meter_wh), _or_dash(message.power_w)
        case Stopped():
            return "STOPPED", _or_dash(message.session), _or_dash(message.meter_wh), message.reason
        case Fault():
            return "FAULT", message.code
        case Refused():
            return "REFUSED", message.session, message.reason
        case _ as never:
            assert_never(never)


FIELD = re.compile(r"[!-~]{1,64}", re.ASCII)
SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", re.ASCII)
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", re.ASCII)
NUMBER = re.compile(r"[0-9]{1,12}", re.ASCII)  # 12 digits of Wh: a register that no charger fills in its life
Value = TypeVar("Value")


def _optional(parse: Callable[[str], Value], field: str) -> Value | None:
    return None if field == "-" else parse(field)


def _or_dash(value: str | int | None) -> str:
    return "-" if value is None else str(value)


def _state(field: str) -> ChargerState:
    try:
        return ChargerState(field)
    except ValueError:
        raise Garbled("no state that a charger can be in") from None


def _session(field: str) -> str:
    return _checked(SESSION, field, "a session")


def _word(field: str) -> str:
    return _checked(WORD, field, "a reason or code")


def _number(field: str) -> int:
    return int(_checked(NUMBER, field, "a number"))


def _checked(pattern: re.Pattern[str], field: str, what: str) -> str:
    if not pattern.fullmatch(field):
        raise Garbled(f"{what} is malformed")
    return field
