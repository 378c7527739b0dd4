"""Asks the machine whether a configuration can work here: files, devices, broker, clock. Starts and changes nothing."""

from __future__ import annotations

import importlib
import os
import socket
import ssl
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from importlib.metadata import packages_distributions
from pathlib import Path

from agent.bundled_profiles import can_come
from agent.certificate_watch import inspect
from agent.certificates import Standing
from agent.clock import SystemClock
from agent.config import Config, Contracts, Gpsd, Reader, Wallet
from agent.contract_desk import inspect_keys
from agent.core.instants import ClockQuality, Instant
from agent.enrolment import tls_of
from agent.first_root import RootUnusable, read_root
from agent.ocpi.quotes import QuoteUnfit, read_quote_file
from agent.reader_lines import line_of
from agent.vault import VaultError, read_token_key
from drivers.positions.gpsd_reports import LONGEST_LINE_BYTES, PROTOCOL, NotGpsd, Version, read_report
from drivers.readers.secure_line import KeyUnusable, checked
from firmware_profiles import load as load_profile
from firmware_profiles.profile import ProfileError, ProfileUnknown
from sync.link_errors import LinkError
from sync.tls import explained, tls_context

PACKAGES = ("agent", "drivers", "sync", "firmware_profiles")
CONNECT_TIMEOUT_S = 5.0
# How long a broker may take to say that it does not want our certificate; a happy one waits for our CONNECT.
REFUSAL_WITHIN_S = 0.5
BROKER_WARN_BEFORE = timedelta(days=14)
ROOM_NEEDED_BYTES = 16 * 1024 * 1024


class Verdict(StrEnum):
    """BAD: the service would not work. WORSE: it would, but somebody should know."""

    GOOD = "ok"
    WORSE = "warning"
    BAD = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    what: str
    verdict: Verdict
    detail: str


def examine(config: Config) -> Iterator[Finding]:
    """Every finding, good ones too."""
    yield from packages()
    yield folder("state folder", config.state_folder)
    yield folder("socket folder", config.socket.parent)
    yield usable("TUF root", config.root_file, read_root)
    yield usable("token key", config.token_key_file, read_token_key)
    for reader in config.reader:
        yield from device(f"reader {reader.name}", reader.profile, reader.port, config.profiles.folder)
        yield from secure_channel(reader, config.profiles.folder)
    for charger in config.charger:
        if charger.profile != "api":
            yield from device(f"charger {charger.name}", charger.profile, charger.port, config.profiles.folder)
        if charger.tariff is not None:
            yield usable(f"tariff of {charger.name}", charger.tariff, partial(read_quote_file, zone=charger.zone))
    for each in config.wallet:
        yield wallet(each)
    if config.cards is not None:
        yield usable("card keys", config.card_keys_file, partial(card_keys, config))
    if config.contracts is not None:
        yield contract_keys(config.contracts, config.contracts_folder)
    if config.gpsd is not None:
        yield gpsd(config.gpsd)
    yield clock(config)
    yield from certificate(config)
    yield broker(config)


def packages() -> Iterator[Finding]:
    """Our package names are generic: another distribution that owns one of them has overwritten our files."""
    owners = packages_distributions()
    for name in PACKAGES:
        others = sorted(set(owners.get(name, [])) - {"roamkey"})
        module = importlib.import_module(name)
        if others:
            detail = f"also installed by {', '.join(others)}: give roamkey an environment of its own and reinstall it"
            yield Finding(what=f"package {name}", verdict=Verdict.BAD, detail=detail)
        elif module.__file__ is None:
            detail = "its files are gone: reinstall roamkey with --force-reinstall"
            yield Finding(what=f"package {name}", verdict=Verdict.BAD, detail=detail)


def folder(what: str, path: Path) -> Finding:
    existing = next(each for each in (path, *path.parents) if each.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Finding(what=what, verdict=Verdict.BAD, detail=f"{existing} is not a folder that we may write to")
    space = os.statvfs(existing)
    room = space.f_bavail * space.f_frsize
    if room < ROOM_NEEDED_BYTES:
        return Finding(what=what, verdict=Verdict.WORSE, detail=f"{path}: only {room // 1024} KiB free")
    made = "" if path.exists() else ", will be made"
    return Finding(what=what, verdict=Verdict.GOOD, detail=f"{path}{made}")


def usable(what: str, path: Path, read: Callable[[Path], object]) -> Finding:
    try:
        read(path)
    except (RootUnusable, VaultError, QuoteUnfit) as error:
        return Finding(what=what, verdict=Verdict.BAD, detail=str(error))
    if what == "token key" and path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
        return Finding(what=what, verdict=Verdict.WORSE, detail=f"{path} is open to every user: chmod 0600")
    return Finding(what=what, verdict=Verdict.GOOD, detail=str(path))


def wallet(settings: Wallet) -> Finding:
    from drivers.readers.wallets import WalletUnknown, open_wallet

    what = f"wallet reader {settings.name}"
    try:
        open_wallet(settings.name, plugin=settings.plugin, port=settings.port)
    except WalletUnknown as error:
        return Finding(what=what, verdict=Verdict.BAD, detail=str(error))
    return Finding(what=what, verdict=Verdict.GOOD, detail=f"plug-in {settings.plugin}")


def card_keys(config: Config, path: Path) -> object:
    from agent.card_keys import CardKeyBox, read_seal

    return CardKeyBox(path, seal=read_seal(config.card_seal_file), token_key=read_token_key(config.token_key_file))


def device(what: str, profile_id: str, port: str, folder: Path | None) -> Iterator[Finding]:
    """Whether the profile is known and the port could be opened. What is plugged in at all is agent/hardware.py."""
    try:
        profile = load_profile(profile_id, folder=folder)
    except ProfileUnknown as error:
        if not can_come(profile_id):
            yield Finding(what=what, verdict=Verdict.BAD, detail=str(error))
            return
        detail = f"{error}; unless the fleet's bundle has it, correct the configuration: the reader only waits for it"
        yield Finding(what=what, verdict=Verdict.WORSE, detail=detail)
        return
    except ProfileError as error:
        yield Finding(what=what, verdict=Verdict.BAD, detail=str(error))
        return
    yield from (
        Finding(
            what=what,
            verdict=Verdict.WORSE,
            detail=f"{profile_id}: {each.id} ({each.severity}) affects firmware {each.affects}; judged at the opening",
        )
        for each in profile.security
    )
    if profile.transport.kind not in ("serial", "evdev"):
        if profile.transport.kind != "memory":
            detail = f"{profile_id}, {profile.transport.kind}: `roamkey doctor` looks whether it is there"
            yield Finding(what=what, verdict=Verdict.GOOD, detail=detail)
        return
    path = Path(port)
    if not path.exists():
        detail = f"{port} is not there: plugged in? it is waited for; `roamkey doctor` lists what is there"
        yield Finding(what=what, verdict=Verdict.WORSE, detail=detail)
    elif not stat.S_ISCHR(path.stat().st_mode):
        yield Finding(what=what, verdict=Verdict.BAD, detail=f"{port} is not a character device")
    elif not os.access(path, os.R_OK | os.W_OK):
        detail = f"{port} may not be opened by this user: `roamkey doctor` says which group or rule is missing"
        yield Finding(what=what, verdict=Verdict.BAD, detail=detail)
    else:
        yield Finding(what=what, verdict=Verdict.GOOD, detail=f"{profile_id} at {port}")


def secure_channel(reader: Reader, folder: Path | None = None) -> Iterator[Finding]:
    """Whether a reader on a shared line has a key of its own, or is in clear on purpose."""
    try:
        if load_profile(reader.profile, folder=folder).driver != "osdp":
            return
    except ProfileError:
        return  # told by device()
    what = f"secure channel of reader {reader.name}"
    if reader.plain:
        detail = "in clear, as configured: whoever reaches the wire can read and replay cards"
        yield Finding(what=what, verdict=Verdict.WORSE, detail=detail)
        return
    try:
        checked(line_of(reader).key())
    except KeyUnusable as fault:
        yield Finding(what=what, verdict=Verdict.BAD, detail=str(fault))
    else:
        yield Finding(what=what, verdict=Verdict.GOOD, detail="has a key of its own")


def contract_keys(settings: Contracts, folder: Path) -> Finding:
    """Cards are decided without them: so it is no error."""
    from agent.contracts.key_store import KeyStoreError

    try:
        return Finding(what="contract keys", verdict=Verdict.GOOD, detail=inspect_keys(settings, folder))
    except KeyStoreError as error:
        return Finding(what="contract keys", verdict=Verdict.WORSE, detail=str(error))


def gpsd(settings: Gpsd) -> Finding:
    """What it says first. It need not be there yet: until it is, a rule that asks for the place misses it."""
    address = f"{settings.host}:{settings.port}"
    try:
        with socket.create_connection((settings.host, settings.port), timeout=CONNECT_TIMEOUT_S) as connection:
            connection.settimeout(CONNECT_TIMEOUT_S)
            said = read_report(connection.makefile("rb").readline(LONGEST_LINE_BYTES))
    except OSError as error:
        detail = f"{address} does not answer ({error}): until it does, nobody measures where this is"
        return Finding(what="gpsd", verdict=Verdict.WORSE, detail=detail)
    except NotGpsd as error:
        return Finding(what="gpsd", verdict=Verdict.BAD, detail=f"{address} sends {error}: is that port a gpsd's?")
    if not isinstance(said, Version) or said.protocol != PROTOCOL:
        detail = f"{address} does not speak protocol {PROTOCOL} of gpsd"
        return Finding(what="gpsd", verdict=Verdict.BAD, detail=detail)
    return Finding(what="gpsd", verdict=Verdict.GOOD, detail=f"{address} answers, gpsd {said.release}")


def clock(config: Config) -> Finding:
    now = SystemClock(trusted=config.time.trust == "system").now()
    if now.utc < now.floor:
        detail = f"{now.utc:%Y-%m-%d %H:%MZ} is before {now.floor:%Y-%m-%d}, which has surely passed: set the clock"
        return Finding(what="clock", verdict=Verdict.BAD, detail=detail)
    if now.quality is ClockQuality.UNKNOWN:
        detail = "not synchronised: rules that depend on the hour refuse until it is"
        return Finding(what="clock", verdict=Verdict.WORSE, detail=detail)
    return Finding(what="clock", verdict=Verdict.GOOD, detail=f"{now.quality}, {now.utc:%Y-%m-%d %H:%M:%SZ}")


def certificate(config: Config) -> Iterator[Finding]:
    """Ours, as the broker will judge it."""
    tls = tls_of(config)
    if tls is None or tls.certfile is None:
        return
    now = SystemClock(trusted=config.time.trust == "system").now()
    seen = inspect(tls.certfile, now.latest)
    verdicts: dict[str, Verdict] = {Standing.GOOD: Verdict.GOOD, Standing.EXPIRING: Verdict.WORSE}
    verdict, detail = verdicts.get(seen.state, Verdict.BAD), seen.detail
    if seen.certificate is not None and seen.certificate.name != config.device.name:
        verdict, detail = Verdict.BAD, f"{detail}; but this device is {config.device.name!r}"
    yield Finding(what="certificate", verdict=verdict, detail=detail)


def broker(config: Config) -> Finding:
    settings = config.mqtt
    if settings is None:
        return Finding(what="broker", verdict=Verdict.WORSE, detail="no [mqtt] section: records stay on this device")
    address = f"{settings.host}:{settings.port}"
    tls = tls_of(config)
    try:
        context = None if tls is None else tls_context(tls)
        ends = connect(settings.host, settings.port, context)
    except LinkError as error:
        return Finding(what="broker", verdict=Verdict.BAD, detail=str(error))
    except ssl.SSLError as error:
        why = explained(error, address, None if tls is None else tls.cafile)
        return Finding(what="broker", verdict=Verdict.BAD, detail=str(why or f"{address}: TLS fails: {error}"))
    except OSError as error:
        detail = f"{address} does not answer ({error}): the service works offline until it does"
        return Finding(what="broker", verdict=Verdict.WORSE, detail=detail)
    if ends is None:
        return Finding(what="broker", verdict=Verdict.WORSE, detail=f"{address} answers, not encrypted")
    return broker_certificate(address, ends, SystemClock(trusted=config.time.trust == "system").now())


def broker_certificate(address: str, ends: datetime, now: Instant) -> Finding:
    """The broker's own certificate is somebody else's duty, but its end is our silence."""
    if ends - now.latest < BROKER_WARN_BEFORE:
        detail = f"{address} answers, but its certificate ends on {ends:%Y-%m-%d %H:%M} UTC: tell who runs it"
        return Finding(what="broker", verdict=Verdict.WORSE, detail=detail)
    return Finding(what="broker", verdict=Verdict.GOOD, detail=f"{address} answers, TLS, until {ends:%Y-%m-%d}")


def connect(host: str, port: int, context: ssl.SSLContext | None) -> datetime | None:
    """When the broker's certificate ends; None on a plain connection."""
    with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S) as plain:
        if context is None:
            return None
        with context.wrap_socket(plain, server_hostname=host) as encrypted:
            shown = encrypted.getpeercert() or {}
            # In TLS 1.3 a refusal of our certificate comes after the handshake, instead of silence.
            encrypted.settimeout(REFUSAL_WITHIN_S)
            with suppress(TimeoutError):
                encrypted.recv(1)
            return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(shown["notAfter"])), UTC)
