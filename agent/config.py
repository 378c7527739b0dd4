"""The service's settings: one TOML file, read once, checked whole, frozen and handed down by name.

Operators' mistakes hurt here and nowhere later: unknown keys are refused with the nearest known one. Whether the files
and devices named here exist is asked by `roamkey check` (agent/environment.py) and by the runtime.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent.core.tariff.tariffs import Basis

NAME = r"^[a-z0-9][a-z0-9-]{0,63}$"  # also the certificate's common name and a topic level (reliability reference 9.4)
Name = Annotated[str, Field(pattern=NAME)]


class ConfigError(Exception):
    """The file cannot be used; `problems` has one line for each thing wrong in it."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        super().__init__("\n".join(f"{path}: {problem}" for problem in problems))
        self.path = path
        self.problems = problems


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Device(Section):
    """Who this is. `state` defaults to systemd's StateDirectory."""

    fleet: Name
    name: Name
    vehicle: str | None = None
    state: Path | None = None


class Trust(Section):
    """What the fleet gave this device: the first TUF root and the key of the token references.

    A systemd credential of the same file name (root.json, token.key, break-glass.key) is taken when the key is left
    out. `break_glass` is this device's secret for codes over the phone.
    """

    root: Path | None = None
    token_key: Path | None = None
    break_glass: Path | None = None


class Bundle(Section):
    """Where policy bundles come from besides the broker: a folder, such as a stick. Looked at every `every_s`."""

    folder: Path | None = None
    every_s: Annotated[int, Field(ge=1)] = 300


class Mqtt(Section):
    """The broker. Mutual TLS unless `plain` is set on purpose. `version` auto: 5, and 3.1.1 where 5 is refused.

    `codec` zstd needs the extra of that name here and at the backend; it is zlib until the backend says that it can.
    Certificate files that are left out are those that `roamkey enrol` installed (agent/enrolment.py).
    """

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 8883
    root: str = "roamkey/v1"
    version: Literal["auto", "5", "3.1.1"] = "auto"
    plain: bool = False
    codec: Literal["zlib", "zstd", "plain"] = "zlib"
    cafile: Path | None = None
    certfile: Path | None = None
    keyfile: Path | None = None
    keepalive_s: Annotated[int, Field(ge=5, le=3600)] = 60
    backoff_base_s: Annotated[float, Field(gt=0)] = 1.0
    backoff_cap_s: Annotated[float, Field(gt=0)] = 300.0

    @model_validator(mode="after")
    def tls_is_whole(self) -> Mqtt:
        if (self.certfile is None) != (self.keyfile is None):
            raise ValueError("certfile and keyfile belong together; leave both out for what `roamkey enrol` installed")
        return self


class Api(Section):
    """The local API's Unix socket, default in systemd's RuntimeDirectory. Access is by the file's mode and group."""

    socket: Path | None = None
    mode: Annotated[str, Field(pattern="^0[0-7]{3}$")] = "0660"


class Time(Section):
    """`system`: the operator vouches for the wall clock. `auto`: it is believed only while it is synchronised."""

    trust: Literal["auto", "system"] = "auto"


class Sessions(Section):
    start_timeout_s: Annotated[float, Field(gt=0)] = 120
    stop_timeout_s: Annotated[float, Field(gt=0)] = 30
    resume_timeout_s: Annotated[float, Field(gt=0)] = 300
    meter_record_every_s: Annotated[float, Field(gt=0)] = 60
    # So long a driver waits for the backend's word, where the fleet wants it to be asked; then there is none.
    ask_timeout_s: Annotated[float, Field(gt=0, le=8)] = 1.5


class Journal(Section):
    """Acknowledged records are kept so long, so that a backend restored from a backup can ask again.

    `max_bytes` bounds the database file; its last twentieth is kept for the ends of running sessions.
    """

    retain_days: Annotated[int, Field(ge=0)] = 30
    max_bytes: Annotated[int, Field(ge=1024 * 1024)] = 256 * 1024 * 1024


class Gpsd(Section):
    """A gpsd that tells where the vehicle is. `device`: the path of one of its receivers, where it has several."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 2947
    device: Annotated[str, Field(min_length=1, max_length=200)] | None = None


class Profiles(Section):
    """Profiles of the operator's own readers: files folder/readers/*.toml, beside the shipped ones, never instead.

    The service believes them as it believes this file: only root may write there.
    """

    folder: Path | None = None


class Reader(Section):
    """`address`, `key` and `plain` are for readers that speak OSDP: the key file of the secure channel, or in clear.

    A systemd credential named reader-NAME.key is taken when `key` is left out.
    """

    name: Name
    profile: str
    port: str
    charger: Name
    address: Annotated[int, Field(ge=0, le=126)] = 0
    key: Path | None = None
    plain: bool = False

    @model_validator(mode="after")
    def profile_of_a_reader(self) -> Reader:
        if not self.profile.startswith("readers/"):
            raise ValueError("profile is one of readers/...: `roamkey profiles list` shows them")
        return self

    @model_validator(mode="after")
    def one_way_to_listen(self) -> Reader:
        if self.plain and self.key is not None:
            raise ValueError("key is for a secure channel and plain = true for none: leave one out")
        return self


class Prices(Section):
    """What a charge costs at a charger whose price never changes. What is not named is free."""

    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    basis: Basis | None = None
    tax_percent: Annotated[Decimal, Field(ge=0)] | None = None
    per_kwh: Annotated[Decimal, Field(ge=0)] = Decimal(0)
    per_hour: Annotated[Decimal, Field(ge=0)] = Decimal(0)
    per_parking_hour: Annotated[Decimal, Field(ge=0)] = Decimal(0)
    fixed: Annotated[Decimal, Field(ge=0)] = Decimal(0)


class Charger(Section):
    """`profile` api: the gateway's own software reports over the local API. The place is the policy's input.

    `connector` is its type in OCPI's words, such as IEC_62196_T2; `power_w` is what the charging point is rated for.
    `tariff` is an OCPI file whose local times are in `zone`, an IANA name; it prices the session and not `prices`.
    Without a `meter` no limit of energy or cost can be held: the policy says what that means.
    """

    name: Name
    profile: str = "api"
    port: str = ""
    evse: str | None = None
    network: str | None = None
    country: Annotated[str, Field(pattern="^[A-Za-z]{2,3}$")] | None = None
    site: str | None = None
    connector: Annotated[str, Field(pattern="^[A-Z0-9_]{2,40}$")] | None = None
    power_w: Annotated[int, Field(ge=0)] | None = None
    latitude: Annotated[Decimal, Field(ge=-90, le=90)] | None = None
    longitude: Annotated[Decimal, Field(ge=-180, le=180)] | None = None
    meter: bool = True
    prices: Prices | None = None
    tariff: Path | None = None
    zone: str | None = None

    @model_validator(mode="after")
    def profile_of_a_charger(self) -> Charger:
        if self.profile != "api" and not self.profile.startswith("chargers/"):
            raise ValueError('profile is "api" or one of chargers/...: `roamkey profiles list` shows them')
        return self

    @model_validator(mode="after")
    def position_is_whole(self) -> Charger:
        if (self.latitude is None) != (self.longitude is None):
            raise ValueError("a position needs both latitude and longitude")
        return self

    @model_validator(mode="after")
    def price_is_one(self) -> Charger:
        if self.tariff is not None and self.prices is not None:
            raise ValueError("prices and tariff both say what it costs: leave one out")
        return self


class Pkcs11(Section):
    """A token that keeps the contract keys, such as a TPM through tpm2-pkcs11. Needs the extra `hsm`.

    A systemd credential named contract-keys.pin is taken when `pin`, a file, is left out.
    """

    module: Path
    token: Annotated[str, Field(min_length=1)]
    pin: Path | None = None


class Contracts(Section):
    """The vehicle's wallet of ISO 15118 contracts; without this section the device has none.

    `folder` defaults to `contracts` in the state folder. A systemd credential named contract-keys.passphrase is taken
    when `passphrase`, a file, is left out; with a token there is none.
    """

    folder: Path | None = None
    passphrase: Path | None = None
    pkcs11: Pkcs11 | None = None
    # A session whose end nobody tells counts so long, or as long as the fleet lets one last if that is less.
    session_hours: Annotated[int, Field(ge=1, le=168)] = 24

    @model_validator(mode="after")
    def one_key_store(self) -> Contracts:
        if self.pkcs11 is not None and self.passphrase is not None:
            raise ValueError("passphrase is for keys in files and pkcs11 for keys in a token: leave one out")
        return self


class Verifier(Section):
    """How old the evidence may be that a contract is not revoked: fresh, and then usable but marked. In days."""

    fresh_days: Annotated[int, Field(ge=1, le=365)] = 7
    usable_days: Annotated[int, Field(ge=1, le=365)] = 30

    @model_validator(mode="after")
    def fresh_is_usable(self) -> Verifier:
        if self.fresh_days > self.usable_days:
            raise ValueError("fresh_days is at most usable_days: what is fresh is usable, too")
        return self


class Wallet(Section):
    """A certified reader of phones' wallets, by the name of its installed plug-in (drivers/readers/wallets.py)."""

    name: Name
    plugin: Annotated[str, Field(min_length=1)]
    port: str = ""
    charger: Name


class Cards(Section):
    """Keys with which cards prove themselves; without this section a card is what its UID says.

    `keys` is the file that `roamkey cards provision` makes, `card.keys` in the vault when left out. A systemd
    credential named card-keys.seal is taken when `seal`, a file, is left out.
    """

    keys: Path | None = None
    seal: Path | None = None


class Config(Section):
    device: Device
    trust: Trust = Trust()
    bundle: Bundle = Bundle()
    mqtt: Mqtt | None = None
    api: Api = Api()
    time: Time = Time()
    sessions: Sessions = Sessions()
    journal: Journal = Journal()
    gpsd: Gpsd | None = None
    contracts: Contracts | None = None
    verifier: Verifier = Verifier()
    cards: Cards | None = None
    wallet: tuple[Wallet, ...] = ()
    profiles: Profiles = Profiles()
    reader: tuple[Reader, ...] = ()
    charger: tuple[Charger, ...] = ()

    @model_validator(mode="after")
    def wiring_is_whole(self) -> Config:
        for kind, names in (
            ("reader", [each.name for each in self.reader] + [each.name for each in self.wallet]),
            ("charger", [each.name for each in self.charger]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two {kind}s are named {', '.join(twice)}")
        chargers = {each.name for each in self.charger}
        for name, charger in self.charger_of.items():
            if charger not in chargers:
                known = ", ".join(sorted(chargers)) or "none is configured"
                raise ValueError(f"reader {name} stands for charger {charger!r}; chargers: {known}")
        return self

    @property
    def charger_of(self) -> dict[str, str]:
        """For which charger each reader stands, also those of wallets."""
        return {each.name: each.charger for each in self.reader} | {each.name: each.charger for each in self.wallet}

    @property
    def state_folder(self) -> Path:
        return self.device.state or Path(os.environ.get("STATE_DIRECTORY", "/var/lib/roamkey").split(":")[0])

    @property
    def contracts_folder(self) -> Path:
        named = self.contracts.folder if self.contracts is not None else None
        return named or self.state_folder / "contracts"

    @property
    def card_keys_file(self) -> Path:
        named = self.cards.keys if self.cards is not None else None
        return named or self.state_folder / "vault" / "card.keys"

    @property
    def card_seal_file(self) -> Path:
        named = self.cards.seal if self.cards is not None else None
        return named or credential("card-keys.seal") or Path("/etc/roamkey/card-keys.seal")

    @property
    def socket(self) -> Path:
        folder = os.environ.get("RUNTIME_DIRECTORY", "/run/roamkey").split(":")[0]
        return self.api.socket or Path(folder) / "api.sock"

    @property
    def root_file(self) -> Path:
        return self.trust.root or credential("root.json") or Path("/etc/roamkey/root.json")

    @property
    def break_glass_file(self) -> Path | None:
        """This device's secret for codes over the phone; a device without one takes none."""
        found = self.trust.break_glass or credential("break-glass.key") or Path("/etc/roamkey/break-glass.key")
        return found if self.trust.break_glass is not None or found.exists() else None

    @property
    def token_key_file(self) -> Path:
        return self.trust.token_key or credential("token.key") or Path("/etc/roamkey/token.key")


def credential(name: str) -> Path | None:
    """A file that systemd loaded for this service (LoadCredential=), if it did."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder) / name if folder else None
    return path if path is not None and path.exists() else None


def load(path: Path) -> Config:
    """Read and check the file. Relative paths in it are taken from the file's own folder.

    Raises ConfigError with every problem found, never with the first only.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=exact)
    except OSError as error:
        raise ConfigError(path, [f"cannot be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(path, [f"is not TOML: {error}"]) from error
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        raise ConfigError(path, [problem(each, document) for each in error.errors()]) from error
    return cast(Config, anchored(config, path.parent.absolute()))


def exact(text: str) -> Decimal | float:
    """An amount keeps its digits; what is no plain number (inf, nan, beyond all measure) stays what TOML calls it."""
    try:
        return Decimal(text) if text.strip("+-0123456789._eE") == "" else float(text)
    except InvalidOperation:
        return float(text)


def anchored(section: Section, folder: Path) -> Section:
    """The same settings with relative paths made absolute."""
    changes: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Path) and not value.is_absolute():
            changes[name] = folder / value
        elif isinstance(value, Section):
            changes[name] = anchored(value, folder)
        elif isinstance(value, tuple) and value and all(isinstance(each, Section) for each in value):
            changes[name] = tuple(anchored(each, folder) for each in value)
    return section.model_copy(update=changes)


def problem(error: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """One line for an operator: where, what, and the nearest known key for an unknown one."""
    where = error["loc"]
    place = ".".join(str(part) for part in where) or "the file"
    if error["type"] == "extra_forbidden":
        known = sorted(keys_at(where[:-1]))
        import difflib  # for a person who mistyped, never at a start that goes well

        near = difflib.get_close_matches(str(where[-1]), known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return f"{place}: unknown key {str(where[-1])!r}; {hint}"
    if error["type"] == "missing":
        return f"{place}: is missing"
    return f"{place}: {error['msg'].removeprefix('Value error, ')}"


def keys_at(where: tuple[str | int, ...]) -> Iterator[str]:
    """The keys that the section at this path may have."""
    section: type[Section] = Config
    for part in where:
        if isinstance(part, int):
            continue
        annotation = section.model_fields[part].annotation
        section = next(each for each in (annotation, *get_args(annotation)) if is_section(each))
    yield from section.model_fields


def is_section(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)
