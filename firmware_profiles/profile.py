"""What a profile may say, and that it says it right. The only place that knows pydantic; no device, no codec.

A profile is data about one make and model, with its evidence and with vectors that tests replay through the real
codec. Reading files and `extends` is in firmware_profiles/__init__.py.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

Kind = Literal["reader", "charger", "gateway"]
Driver = Literal["pn532_hsu", "em4100_ascii", "simulated", "line"]
Technology = Literal["iso14443a", "iso14443b", "iso15693", "felica", "em4100"]
Assurance = Literal["lossy", "random", "static", "authenticated"]
Signal = Literal["pending", "granted", "refused", "offline", "fault", "learn"]
Capability = Literal[
    "uid", "apdu", "led", "buzzer", "display", "removal", "tamper", "secure_link", "sam",  # readers
    "start", "stop", "meter", "power", "plug", "energy_limit",  # chargers
]  # fmt: skip
Level = Literal["hardware", "vendor", "source", "community", "unverified"]

DRIVERS_OF: dict[str, frozenset[str]] = {
    "reader": frozenset({"pn532_hsu", "em4100_ascii", "simulated"}),
    "charger": frozenset({"line"}),
    "gateway": frozenset(),
}
# First bytes that a feedback command may have, by driver. Empty: the driver has no way to give feedback yet.
# Never a write, format or firmware opcode.
FEEDBACK_OPENINGS: dict[str, tuple[bytes, ...]] = {
    "pn532_hsu": (),
    "em4100_ascii": (),
    "simulated": (),
    "line": (),
}
FEEDBACK_MAX_BYTES = 64
ACCEPT_AT_LEAST = 2
REJECT_AT_LEAST = 1
_PYDANTIC_PREFIX = "Value error, "


class ProfileError(ValueError):
    """The profile says something that it may not. Names the file, the key and what to write instead."""


def _from_hex(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return bytes.fromhex(value if isinstance(value, str) else "no text")
    except ValueError:
        raise ValueError("write bytes as a text of hexadecimal digits") from None


Hex = Annotated[bytes, BeforeValidator(_from_hex)]


class Strict(BaseModel):
    """Unknown keys are errors that name the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for key in value:
                if key not in cls.model_fields:
                    raise ValueError(f"unknown key {key!r}{nearest(str(key), list(cls.model_fields))}")
        return value


class Transport(Strict):
    """How the bytes come. Serial lines are 8N1 and opened by one process only."""

    kind: Literal["serial", "memory"]
    baud: Literal[9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600] | None = None

    @model_validator(mode="after")
    def _serial_has_a_speed(self) -> Self:
        if (self.kind == "serial") != (self.baud is not None):
            raise ValueError('a serial transport needs baud, a "memory" transport has none')
        return self


class Framing(Strict):
    """Parameters of the codec. `trailer`: bytes between the check and the end byte of an EM4100 ASCII frame."""

    trailer: Hex = Field(default=b"", max_length=4)


class Polling(Strict):
    """`poll_ms`: time between two polls. `silence_ms`: a reader that only repeats frames is empty after this long
    without one; needed where the device itself cannot be asked."""

    poll_ms: int = Field(default=150, ge=50, le=1_000)
    silence_ms: int | None = Field(default=None, ge=50, le=5_000)


class Uid(Strict):
    """What the device does to a UID on the way from the air to the wire."""

    technologies: tuple[Technology, ...] = Field(min_length=1, strict=False)
    lengths: tuple[int, ...] = Field(min_length=1, strict=False)
    byte_order: Literal["on_air", "reversed"] = "on_air"
    loss: Literal["none", "first_3", "first_4", "first_6", "version_byte"] = "none"


class Firmware(Strict):
    """Which firmware is known to work. Versions are dotted numbers, compared number by number."""

    known: tuple[str, ...] = Field(default=(), strict=False)
    minimum: str | None = Field(default=None, pattern=r"^\d+(\.\d+)*$")


class Advisory(Strict):
    """A published weakness and what to do about it."""

    id: str = Field(min_length=3)
    affects: str = Field(min_length=1)
    severity: Literal["low", "medium", "high", "critical"]
    action: Literal["warn", "refuse", "lossy"]
    source: str = Field(min_length=1)


class Evidence(Strict):
    """Why we believe a field. `hardware` is what we saw ourselves on the device."""

    field: str = Field(min_length=1)
    level: Level
    reference: str = Field(min_length=1)
    date: str = Field(pattern=r"^\d{4}-\d{2}(-\d{2})?$")
    note: str = ""


class VectorCard(Strict):
    uid: Hex = Field(min_length=1, max_length=10, repr=False)
    technology: Technology
    assurance: Assurance = "static"


class Accept(Strict):
    """Raw bytes that must be understood. Readers state `cards` (none: an empty field), chargers state `event`."""

    name: str = Field(min_length=1)
    raw: Hex = Field(min_length=1, repr=False)
    cards: tuple[VectorCard, ...] | None = Field(default=None, strict=False)
    event: str | None = None


class Reject(Strict):
    """Raw bytes that must not be understood, and the codec's word for why."""

    name: str = Field(min_length=1)
    raw: Hex = Field(min_length=1, repr=False)
    reason: str = Field(min_length=1)


class Vectors(Strict):
    accept: tuple[Accept, ...] = Field(strict=False)
    reject: tuple[Reject, ...] = Field(strict=False)


class Profile(Strict):
    """One make and model."""

    id: str = Field(pattern=r"^(readers|chargers|gateways)/[a-z0-9][a-z0-9_]*$")
    kind: Kind
    make: str = Field(min_length=1)
    model: str = Field(min_length=1)
    driver: Driver
    transport: Transport
    framing: Framing = Framing()
    polling: Polling = Polling()
    uid: Uid | None = None
    confirm_frames: int = Field(default=1, ge=1, le=5)
    capabilities: tuple[Capability, ...] = Field(default=(), strict=False)
    feedback: dict[Signal, Hex] = Field(default_factory=dict)
    quirks: tuple[str, ...] = Field(default=(), strict=False)
    firmware: Firmware = Firmware()
    security: tuple[Advisory, ...] = Field(default=(), strict=False)
    evidence: tuple[Evidence, ...] = Field(default=(), strict=False)
    vectors: Vectors

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        for check in (_place, _vectors, _uid, _codec, _feedback, _evidence):
            if fault := check(self):
                raise ValueError(fault)
        return self


def parse(table: dict[str, Any], *, source: str) -> Profile:
    """The table as a Profile, or one ProfileError with every fault on its own line."""
    try:
        return Profile.model_validate(table)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'profile'}: {fault['msg'].removeprefix(_PYDANTIC_PREFIX)}"
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]
    raise ProfileError(f"{source}: " + "; ".join(faults))


def nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f", the nearest known one is {close[0]!r}" if close else f", known are {', '.join(sorted(known))}"


def _place(profile: Profile) -> str | None:
    if profile.id.split("/")[0] != f"{profile.kind}s":
        return f"id {profile.id!r} does not lie in the folder of a {profile.kind}"
    if profile.driver not in DRIVERS_OF[profile.kind]:
        return f"driver {profile.driver!r} does not drive a {profile.kind}"
    return None


def _vectors(profile: Profile) -> str | None:
    vectors = profile.vectors
    if len(vectors.accept) < ACCEPT_AT_LEAST or len(vectors.reject) < REJECT_AT_LEAST:
        return f"vectors: at least {ACCEPT_AT_LEAST} to accept and {REJECT_AT_LEAST} to reject are needed"
    names = [vector.name for vector in vectors.accept] + [vector.name for vector in vectors.reject]
    if twice := {name for name in names if names.count(name) > 1}:
        return f"vectors: the name {min(twice)!r} is used twice"
    wanted, other = ("cards", "event") if profile.kind == "reader" else ("event", "cards")
    for vector in vectors.accept:
        if getattr(vector, wanted) is None or getattr(vector, other) is not None:
            return f"vectors: {vector.name!r} of a {profile.kind} must state {wanted}, not {other}"
    return None


def _uid(profile: Profile) -> str | None:
    if profile.kind != "reader":
        return "uid: only a reader has one" if profile.uid else None
    if profile.uid is None:
        return "uid: a reader must say what its UIDs are"
    for vector in profile.vectors.accept:
        for card in vector.cards or ():
            if len(card.uid) not in profile.uid.lengths or card.technology not in profile.uid.technologies:
                return f"vectors: {vector.name!r} has a card that the uid table does not allow"
            if (profile.uid.loss != "none") != (card.assurance == "lossy") and card.assurance != "random":
                return f"vectors: the assurance of {vector.name!r} does not agree with uid.loss"
    return None


def _codec(profile: Profile) -> str | None:
    match profile.driver:
        case "em4100_ascii":
            if profile.transport.kind != "serial" or profile.polling.silence_ms is None:
                return "driver em4100_ascii needs a serial transport and polling.silence_ms"
        case "pn532_hsu":
            if profile.transport.kind != "serial" or profile.framing.trailer:
                return "driver pn532_hsu needs a serial transport and knows no framing.trailer"
        case "line":
            if profile.framing.trailer:
                return "driver line knows no framing.trailer"
        case _:
            if profile.transport.kind != "memory":
                return f"driver {profile.driver} has no device: transport.kind is memory"
    return None


def _feedback(profile: Profile) -> str | None:
    for signal, command in profile.feedback.items():
        if not command.startswith(FEEDBACK_OPENINGS[profile.driver] or (b"\x00never",)):
            return f"feedback.{signal}: driver {profile.driver} allows no such command"
        if len(command) > FEEDBACK_MAX_BYTES:
            return f"feedback.{signal}: longer than {FEEDBACK_MAX_BYTES} bytes"
    return None


def _evidence(profile: Profile) -> str | None:
    """A reader that confirms with one frame, or with more than one, must say why."""
    known = set(Profile.model_fields)
    for evidence in profile.evidence:
        if (first := evidence.field.split(".")[0]) not in known:
            return f"evidence: there is no field {first!r}{nearest(first, sorted(known))}"
    if profile.driver == "em4100_ascii" and "confirm_frames" not in {e.field for e in profile.evidence}:
        return "evidence: confirm_frames decides what a damaged frame can do; say why this number"
    return None
