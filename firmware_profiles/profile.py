"""What a profile may say, and that it says it right. The only place that knows pydantic; no device, no codec.

A profile is data about one make and model, with its evidence and with vectors that tests replay through the real
codec. Reading files and `extends` is in firmware_profiles/__init__.py.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from firmware_profiles.versions import RANGE_PATTERN, VERSION_PATTERN

Kind = Literal["reader", "charger", "gateway"]
Driver = Literal[
    "pn532_hsu", "pn53x_usb", "em4100_ascii", "pcsc", "hid_keys", "charger_register", "simulated",
    "stronglink", "twn4_simple", "wiegand_lines", "osdp",  # readers
    "line",  # chargers
]  # fmt: skip
Technology = Literal["iso14443a", "iso14443b", "iso15693", "felica", "em4100"]
Assurance = Literal["lossy", "random", "static", "authenticated"]
Signal = Literal["pending", "granted", "refused", "offline", "fault", "learn"]
Capability = Literal[
    "uid", "apdu", "led", "buzzer", "display", "removal", "tamper", "secure_link", "sam",  # readers
    "start", "stop", "meter", "power", "plug", "energy_limit",  # chargers
]  # fmt: skip
AliasForm = Literal[
    "reversed", "padded_8", "first_3", "first_4", "first_6", "last_3", "last_4", "version_byte",
    "first_3_reversed", "first_4_reversed", "last_3_reversed",
]  # fmt: skip
Level = Literal["hardware", "vendor", "source", "community", "unverified"]
# What follows from a finding: a word to the operator, every card as weak as a lossy one, or no card at all.
Action = Literal["warn", "lossy", "refuse"]
VersionText = Annotated[str, Field(pattern=VERSION_PATTERN)]

DRIVERS_OF: dict[str, frozenset[str]] = {
    "reader": frozenset(
        {"pn532_hsu", "pn53x_usb", "em4100_ascii", "pcsc", "hid_keys", "charger_register", "simulated"}
        | {"stronglink", "twn4_simple", "wiegand_lines", "osdp"}
    ),
    "charger": frozenset({"line"}),
    "gateway": frozenset(),
}
# What a driver reads from, and nothing else.
TRANSPORTS_OF: dict[str, frozenset[str]] = {
    "pn532_hsu": frozenset({"serial"}),
    "pn53x_usb": frozenset({"usb"}),
    "em4100_ascii": frozenset({"serial"}),
    "pcsc": frozenset({"pcsc"}),
    "hid_keys": frozenset({"evdev"}),
    "charger_register": frozenset({"modbus"}),
    "simulated": frozenset({"memory"}),
    "stronglink": frozenset({"serial"}),
    "twn4_simple": frozenset({"serial"}),
    "wiegand_lines": frozenset({"serial"}),
    "osdp": frozenset({"serial"}),
    "line": frozenset({"serial", "memory"}),
}
# First bytes that a command for lamps, buzzers and settings may have, by driver; a driver that is not here has none.
# Never a write, format or firmware opcode.
FEEDBACK_OPENINGS: dict[str, tuple[bytes, ...]] = {
    # ACS: FF 00 40 lamps and buzzer, FF 00 52 beep at a poll (ACR122U); E0 00 00 28, 29, 21 buzzer, lamps, behaviour of
    # both (ACR1252U, ACR1552U).
    "pcsc": tuple(map(bytes.fromhex, ("FF0040", "FF0052", "E0000028", "E0000029", "E0000021"))),
    # SL025M manual 4-4-15: 40 the red LED, nothing else that leaves no trace on a card.
    "stronglink": (b"\x40",),
    # TWN4: 04 00 outputs, 04 02 and 03 on and off, 04 05 blink, 04 07 beep, 05 02 which tags are looked for.
    "twn4_simple": tuple(map(bytes.fromhex, ("0400", "0402", "0403", "0405", "0407", "0502"))),
    # OSDP 2.2: 69 osdp_LED, 6A osdp_BUZ. Never 6E COMSET, 75 KEYSET, 7C FILETRANSFER, 80 MFG.
    "osdp": (b"\x69", b"\x6a"),
}
# Drivers whose commands have a fixed size: anything longer would be a second command in the shadow of the first.
FEEDBACK_SIZES: dict[str, dict[bytes, int]] = {
    "stronglink": {b"\x40": 2},
    "twn4_simple": {b"\4\0": 5, b"\4\2": 3, b"\4\3": 3, b"\4\5": 7, b"\4\7": 9, b"\5\2": 10},
    "osdp": {b"\x69": 15, b"\x6a": 6},
}
# The only questions that a profile may ask for a version.
FIRMWARE_QUERIES: dict[str, tuple[bytes, ...]] = {
    "pcsc": tuple(map(bytes.fromhex, ("FF00480000", "E000001800"))),
}
FEEDBACK_MAX_BYTES = 64
REPEATING = ("em4100_ascii", "hid_keys", "wiegand_lines", "osdp")  # say a card, never that it has gone
WEAKLY_CHECKED = ("em4100_ascii", "stronglink", "twn4_simple", "wiegand_lines")
ACCEPT_AT_LEAST = 2
REJECT_AT_LEAST = 1
_PYDANTIC_PREFIX = "Value error, "


class ProfileError(ValueError):
    """The profile says something that it may not. Names the file, the key and what to write instead."""


class ProfileUnknown(ProfileError):
    """There is no profile with this id. Names the nearest that there is."""


def _from_hex(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return bytes.fromhex(value if isinstance(value, str) else "no text")
    except ValueError:
        raise ValueError("write bytes as a text of hexadecimal digits") from None


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str | bytes) else value


Hex = Annotated[bytes, BeforeValidator(_from_hex)]
Commands = Annotated[tuple[Hex, ...], BeforeValidator(_one_or_more), Field(strict=False, min_length=1, max_length=8)]


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

    kind: Literal["serial", "usb", "pcsc", "evdev", "modbus", "memory"]
    baud: Literal[9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600] | None = None

    @model_validator(mode="after")
    def _serial_has_a_speed(self) -> Self:
        if (self.kind == "serial") != (self.baud is not None):
            raise ValueError(f'a serial transport needs baud, a "{self.kind}" transport has none')
        return self


class Match(Strict):
    """Which devices this is. Any line is enough; where two profiles could be meant, the higher priority is.

    `usb` is vendor:product, `serial_by_id` a name in /dev/serial/by-id with * for any text, `product` a part of the
    product text or of the name that PC/SC gives the reader. Empty where a device does not say what it is.
    """

    usb: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{4}:([0-9a-f]{4}|\*)$")], ...] = Field(default=(), strict=False)
    serial_by_id: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.*:#+-]{8,}$")], ...] = Field(
        default=(), strict=False
    )
    product: tuple[Annotated[str, Field(min_length=4)], ...] = Field(default=(), strict=False)
    priority: int = Field(default=0, ge=0, le=9)


class Framing(Strict):
    """Parameters of the codec. `trailer`: bytes between the check and the end byte of an EM4100 ASCII frame.

    `function`, `register_address` and `register_count` are what a charger is asked over Modbus; addresses are those on
    the wire, from 0. `unit` is the Modbus unit. `firmware_address` and `firmware_count` are where its version stands,
    in ASCII, filled up with NUL. A card counts only while the register at `state_address` has one of `state_values`.

    `mode` and `crc` are those of the TWN4's Simple Protocol. `wiegand` is how a converter writes the bits:
    "counted_left" and "counted_right" with two digits that say how many there are, all of them, filled up with zeros
    behind or in front; "data_only" without the parity bits.
    """

    trailer: Hex = Field(default=b"", max_length=4)
    function: Literal["holding", "input"] | None = None
    register_address: int | None = Field(default=None, ge=0, le=65_535)
    register_count: int | None = Field(default=None, ge=1, le=40)
    firmware_address: int | None = Field(default=None, ge=0, le=65_535)
    firmware_count: int | None = Field(default=None, ge=1, le=40)
    state_address: int | None = Field(default=None, ge=0, le=65_535)
    state_values: tuple[int, ...] = Field(default=(), max_length=16, strict=False)
    unit: int = Field(default=1, ge=0, le=255)
    mode: Literal["ascii", "binary"] | None = None
    crc: bool = False
    wiegand: Literal["counted_left", "counted_right", "data_only"] | None = None


class TextForm(Strict):
    """How the device writes a UID where it does not send its bytes. Read by drivers/readers/text_forms.py.

    `padding` "nul" and "space": filled up behind; "zero_bytes": UIDs shorter than the field have 00 bytes behind them.
    `digits`: exactly so many, filled up with zeros in front.
    """

    encoding: Literal["raw", "ascii", "utf_16_be"] = "ascii"
    digits_are: Literal["hex", "decimal"] = "hex"
    case: Literal["upper", "lower", "any"] = "any"
    separator: Literal["", ":", "-", " "] = ""
    prefix: str = Field(default="", max_length=8)
    padding: Literal["none", "nul", "space", "zero_bytes"] = "none"
    digits: int | None = Field(default=None, ge=4, le=20)


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
    # "unknown": bits are missing, and which ones is the vendor's secret.
    loss: Literal["none", "first_3", "first_4", "first_6", "version_byte", "unknown"] = "none"
    text: TextForm | None = None
    # Other forms in which this device may tell a card, where nothing says which; `loss` is one of its own accord.
    aliases: tuple[AliasForm, ...] = Field(default=(), strict=False)


class Firmware(Strict):
    """Which firmware is known to work. Versions are dotted numbers, compared number by number (versions.py).

    `query` asks for it where the driver does not ask by itself, `prefix` is what stands before the number in the
    answer. `below_minimum` and `unknown` say what a version that is too old, or that nobody can tell, means.
    """

    known: tuple[VersionText, ...] = Field(default=(), strict=False)
    minimum: VersionText | None = None
    query: Hex = b""
    prefix: str = ""
    below_minimum: Action = "warn"
    unknown: Literal["accept", "warn", "refuse"] = "accept"


class Advisory(Strict):
    """A published weakness and what to do about it. `affects`: "all", or bounds that all must hold: ">=1.5 <1.6.3"."""

    id: str = Field(min_length=3)
    affects: Annotated[str, Field(pattern=RANGE_PATTERN)]
    severity: Literal["low", "medium", "high", "critical"]
    action: Action
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
    """Raw bytes that must be understood. Readers state `cards` (none: an empty field), chargers state `event`.

    `collides`: UIDs of different cards that this reader tells as this one; a lossy reader has at least one such vector.
    """

    name: str = Field(min_length=1)
    raw: Hex = Field(min_length=1, repr=False)
    cards: tuple[VectorCard, ...] | None = Field(default=None, strict=False)
    collides: tuple[Hex, ...] = Field(default=(), strict=False, repr=False)
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

    id: str = Field(pattern=r"^(readers|chargers|gateways)/[a-z0-9][a-z0-9_]{0,79}$")
    kind: Kind
    make: str = Field(min_length=1)
    model: str = Field(min_length=1)
    driver: Driver
    match: Match = Match()
    transport: Transport
    framing: Framing = Framing()
    polling: Polling = Polling()
    uid: Uid | None = None
    confirm_frames: int = Field(default=1, ge=1, le=5)
    capabilities: tuple[Capability, ...] = Field(default=(), strict=False)
    feedback: dict[Signal, Commands] = Field(default_factory=dict)
    setup: tuple[Hex, ...] = Field(default=(), strict=False)  # commands after opening, from the same allow-list
    rest: tuple[Hex, ...] = Field(default=(), strict=False)  # and these end a signal, feedback_ms after it began
    feedback_ms: int = Field(default=3_000, ge=100, le=60_000)
    quirks: tuple[str, ...] = Field(default=(), strict=False)
    # Kernel modules that take the device before we can: `roamkey doctor` names those that are loaded.
    kernel_conflicts: tuple[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], ...] = Field(default=(), strict=False)
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


def commands_for(profile: Profile, signal: str) -> Commands:
    """What shows it. A refusal for want of a connection is shown as a refusal where there is no sign for it."""
    signs = {str(key): commands for key, commands in profile.feedback.items()}
    return signs.get(signal) or (signs.get("refused", ()) if signal == "offline" else ())


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
    import difflib  # for a person who mistyped, never at a start that goes well

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
    if profile.transport.kind not in (kinds := TRANSPORTS_OF[profile.driver]):
        return f"driver {profile.driver}: transport.kind is {' or '.join(sorted(kinds))}"
    if profile.framing.trailer and profile.driver != "em4100_ascii":
        return f"driver {profile.driver} knows no framing.trailer"
    if profile.driver in REPEATING and profile.polling.silence_ms is None:
        return f"driver {profile.driver} needs polling.silence_ms"
    for key, driver in (("mode", "twn4_simple"), ("wiegand", "wiegand_lines")):
        if (getattr(profile.framing, key) is not None) != (profile.driver == driver):
            return f"framing.{key} belongs to driver {driver}, which needs it"
    if profile.framing.crc and profile.driver != "twn4_simple":
        return f"driver {profile.driver} knows no framing.crc"
    if profile.framing.mode == "binary" and not profile.framing.crc:
        return "framing: the binary mode needs crc, without one nothing tells where a message begins"
    asked = (profile.framing.function, profile.framing.register_address, profile.framing.register_count)
    if (profile.driver == "charger_register") != (None not in asked) or len({each is None for each in asked}) > 1:
        return "framing: function, register_address and register_count belong to driver charger_register, all of them"
    version = (profile.framing.firmware_address, profile.framing.firmware_count)
    if version != (None, None) and (profile.driver != "charger_register" or None in version):
        return "framing: firmware_address and firmware_count belong to driver charger_register, both of them"
    if profile.framing.state_address is not None and profile.driver != "charger_register":
        return "framing: state_address belongs to driver charger_register"
    if (profile.framing.state_address is None) != (not profile.framing.state_values):
        return "framing: state_address and state_values belong together"
    text = profile.uid.text if profile.uid is not None else None
    if (text is not None) != (profile.driver in ("hid_keys", "charger_register")):
        return "uid.text belongs to the drivers hid_keys and charger_register"
    if text is not None and text.digits_are == "decimal" and len(profile.uid.lengths if profile.uid else ()) != 1:
        return "uid: a decimal number does not say how many bytes it stands for; lengths must be one"
    return None


def _feedback(profile: Profile) -> str | None:
    allowed = FEEDBACK_OPENINGS.get(profile.driver, ())
    commands = [(f"feedback.{signal}", each) for signal, said in profile.feedback.items() for each in said]
    commands += [("setup", each) for each in profile.setup] + [("rest", each) for each in profile.rest]
    for where, command in commands:
        if not any(command.startswith(opening) for opening in allowed):
            return f"{where}: driver {profile.driver} allows no such command"
        sizes = FEEDBACK_SIZES.get(profile.driver, {})
        for opening, size in sizes.items():
            if command.startswith(opening) and len(command) != size:
                return f"{where}: this command of driver {profile.driver} has {size} bytes"
        if len(command) > FEEDBACK_MAX_BYTES:
            return f"{where}: longer than {FEEDBACK_MAX_BYTES} bytes"
    if profile.firmware.query and profile.firmware.query not in FIRMWARE_QUERIES.get(profile.driver, ()):
        return f"firmware.query: driver {profile.driver} allows no such question"
    return None


def _evidence(profile: Profile) -> str | None:
    """A reader that confirms with one frame, or with more than one, must say why."""
    known = set(Profile.model_fields)
    for evidence in profile.evidence:
        if (first := evidence.field.split(".")[0]) not in known:
            return f"evidence: there is no field {first!r}{nearest(first, sorted(known))}"
    if profile.driver in WEAKLY_CHECKED and "confirm_frames" not in {e.field for e in profile.evidence}:
        return "evidence: confirm_frames decides what a damaged frame can do; say why this number"
    return None
