"""What is plugged into this machine that could be a reader, and what is in its way. Looks, opens and changes nothing.

Whether a configuration can work is agent/environment.py. Everything is read below a root, so that a test can build a
machine of files.
"""

from __future__ import annotations

import grp
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from firmware_profiles.matching import Described, matching

if TYPE_CHECKING:
    from firmware_profiles.profile import Profile

SERIAL_NAMES = ("ttyUSB", "ttyACM", "ttyAMA", "ttymxc", "ttyAML")  # ttyS is there without a port behind it
UDEV_FOLDERS = ("etc/udev/rules.d", "usr/lib/udev/rules.d", "lib/udev/rules.d")
UDEV_RULES = ("70-roamkey-serial.rules", "70-roamkey-readers.rules")
BLACKLIST = "etc/modprobe.d/roamkey-readers.conf"
PCSC_SOCKET = "/run/pcscd/pcscd.comm"
LINKS_UP = 8  # from a tty to its USB device there are three or four folders


class Verdict(StrEnum):
    """BAD: this reader cannot be read as it is. WORSE: it can, but somebody should know."""

    GOOD = "ok"
    WORSE = "warning"
    BAD = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """`next` is what a technician does about it; empty when there is nothing to do."""

    what: str
    verdict: Verdict
    detail: str
    next: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Something that could be a reader. `node` is what is opened, `port` what one writes into the configuration."""

    port: str
    node: Path | None
    described: Described
    bound: tuple[str, ...] = ()  # kernel drivers that have its USB interfaces
    profiles: tuple[Profile, ...] = field(default=(), repr=False)


class Machine:
    """`pcsc` are the readers that the PC/SC daemon has, since only it can say."""

    def __init__(self, root: Path = Path("/"), *, pcsc: Sequence[str] = ()) -> None:
        self._root = root
        self._pcsc = tuple(pcsc)

    def devices(self, profiles: Sequence[Profile]) -> Iterator[Device]:
        for device in (*self._serial(), *self._keyboards(), *self._usb(), *self._named_by_pcsc()):
            fitting = matching(device.described, [each for each in profiles if _fits(each, device)])
            yield Device(
                port=device.port,
                node=device.node,
                described=device.described,
                bound=device.bound,
                profiles=fitting,
            )

    def modules(self) -> frozenset[str]:
        """Kernel modules that are loaded."""
        return frozenset(line.split()[0] for line in _text(self._root / "proc/modules").splitlines() if line.strip())

    def holders(self, node: Path) -> tuple[str, ...]:
        """Programs that have it open, as far as this user may see: "ModemManager (431)"."""
        wanted = os.path.realpath(node)
        found = []
        for process in sorted((self._root / "proc").glob("[0-9]*")):
            with suppress(OSError):
                if any(os.path.realpath(each) == wanted for each in (process / "fd").iterdir()):
                    found.append(f"{_text(process / 'comm').strip() or '?'} ({process.name})")
        return tuple(found)

    def udev_rules(self) -> tuple[str, ...]:
        """Those of ours that are installed."""
        return tuple(
            name for name in UDEV_RULES if any((self._root / folder / name).exists() for folder in UDEV_FOLDERS)
        )

    def path(self, port: str) -> Path:
        return self._root / port.lstrip("/")

    def _serial(self) -> Iterator[Device]:
        named = _links(self._root / "dev/serial/by-id")
        for tty in sorted((self._root / "sys/class/tty").glob("tty*")):
            if not tty.name.startswith(SERIAL_NAMES):
                continue
            usb = _usb_above(tty / "device")
            by_id = named.get(tty.name)
            yield Device(
                port=f"/dev/serial/by-id/{by_id}" if by_id else f"/dev/{tty.name}",
                node=self._root / "dev" / tty.name,
                described=Described(usb=_id_of(usb), by_id=by_id, product=_product_of(usb)),
            )

    def _keyboards(self) -> Iterator[Device]:
        for target, by_id in sorted(_links(self._root / "dev/input/by-id").items()):
            if by_id.endswith("-event-kbd"):
                usb = _usb_above(self._root / "sys/class/input" / target / "device")
                yield Device(
                    port=f"/dev/input/by-id/{by_id}",
                    node=self._root / "dev/input" / target,
                    described=Described(usb=_id_of(usb), by_id=by_id, product=_product_of(usb)),
                )

    def _usb(self) -> Iterator[Device]:
        for folder in sorted((self._root / "sys/bus/usb/devices").glob("*")):
            if (usb := _id_of(folder)) is None:
                continue
            bound = {
                Path(os.path.realpath(interface / "driver")).name
                for interface in folder.glob(f"{folder.name}:*")
                if (interface / "driver").exists()
            }
            bus, number = _text(folder / "busnum").strip(), _text(folder / "devnum").strip()
            node = self._root / f"dev/bus/usb/{int(bus):03}/{int(number):03}" if bus and number else None
            yield Device(
                port=f"usb:{usb}",
                node=node,
                described=Described(usb=usb, product=_product_of(folder)),
                bound=tuple(sorted(bound)),
            )

    def _named_by_pcsc(self) -> Iterator[Device]:
        for name in self._pcsc:
            yield Device(port=name, node=None, described=Described(product=name))


def diagnose(
    machine: Machine, profiles: Sequence[Profile], configured: Sequence[tuple[str, Profile, str]] = ()
) -> Iterator[Diagnosis]:
    """Every device that could be a reader, good ones too. `configured` are (name, profile, port) of a configuration."""
    devices = list(machine.devices(profiles))
    readers = [device for device in devices if device.profiles or device.port.startswith("/dev/")]
    for device in readers:
        yield from _seen(machine, device)
    for name, profile, port in configured:
        yield from _configured(machine, devices, name, profile, port)
    yield from _in_general(machine, readers)


def _seen(machine: Machine, device: Device) -> Iterator[Diagnosis]:
    names = " or ".join(profile.id for profile in device.profiles)
    if device.profiles:
        detail = f"{_called(device)}: {names}{_speed(device.profiles[0])}"
        more = f'choose one: profile = "{device.profiles[0].id}"' if len(device.profiles) > 1 else ""
        yield Diagnosis(what=device.port, verdict=Verdict.GOOD, detail=detail, next=more)
    else:
        yield Diagnosis(
            what=device.port,
            verdict=Verdict.WORSE,
            detail=f"{_called(device)}: says nothing that a profile is recognised by",
            next="if a reader is behind it, name its profile (roamkey profiles list) and look: roamkey profiles try",
        )
    if device.profiles and all(profile.driver == "pcsc" for profile in device.profiles):
        yield from _daemon(machine, device)  # which opens it for us
    else:
        yield from _access(machine, device.port, device.node)
    for profile in device.profiles:
        yield from _modules(machine, device, profile)


def _daemon(machine: Machine, device: Device) -> Iterator[Diagnosis]:
    if not machine.path(PCSC_SOCKET).exists():
        yield Diagnosis(
            what=device.port,
            verdict=Verdict.BAD,
            detail="it is read through the PC/SC daemon, which does not run",
            next="apt-get install pcscd; systemctl enable --now pcscd.socket",
        )


def _access(machine: Machine, what: str, node: Path | None) -> Iterator[Diagnosis]:
    if node is None or not node.exists():
        return
    if holders := machine.holders(node):
        held = ", ".join(holders)
        hint = "this is the service: stop it before you try by hand, systemctl stop roamkey"
        if "roamkey" not in held and "python" not in held:
            hint = f"stop that program, or keep it away by the udev rules in {UDEV_RULES[0]}"
        yield Diagnosis(what=what, verdict=Verdict.WORSE, detail=f"held by {held}", next=hint)
    if not os.access(node, os.R_OK | os.W_OK):
        group = _group_of(node)
        yield Diagnosis(
            what=what,
            verdict=Verdict.BAD,
            detail=f"this user may not open it; it belongs to group {group}",
            next=f"usermod -aG {group} roamkey and log in again, or install the udev rules",
        )


def _modules(machine: Machine, device: Device, profile: Profile) -> Iterator[Diagnosis]:
    loaded = [each for each in profile.kernel_conflicts if each in machine.modules()]
    ours = profile.driver == "pn53x_usb"  # then no driver of the kernel may have it; usbfs is a program, told above
    taken = [each for each in device.bound if each in profile.kernel_conflicts or (ours and each != "usbfs")]
    if not loaded and not taken:
        return
    names = " ".join(dict.fromkeys((*loaded, *taken)))
    lines = "; ".join(f"blacklist {each}" for each in dict.fromkeys((*loaded, *taken)))
    took = f"the kernel driver {', '.join(taken)} has taken it" if taken else f"modules {', '.join(loaded)} are loaded"
    yield Diagnosis(
        what=device.port,
        verdict=Verdict.BAD if taken else Verdict.WORSE,
        detail=f"{took}; {profile.id} cannot have it at the same time",
        next=f"modprobe -r {names}; to keep it so, write into /{BLACKLIST}: {lines}",
    )


def _configured(
    machine: Machine, devices: Sequence[Device], name: str, profile: Profile, port: str
) -> Iterator[Diagnosis]:
    """A reader of the configuration, beside what is plugged in."""
    what = f"reader {name}"
    if profile.transport.kind in ("serial", "evdev"):
        node = machine.path(port)
        if not node.exists():
            there = ", ".join(each.port for each in devices if each.port.startswith("/dev/")) or "none"
            yield Diagnosis(
                what=what,
                verdict=Verdict.BAD,
                detail=f"{port} is not there",
                next=f"check cable and power; ports that are there: {there}",
            )
            return
        same = [
            each for each in devices if each.node is not None and os.path.realpath(each.node) == os.path.realpath(node)
        ]
        if port.startswith(("/dev/ttyUSB", "/dev/ttyACM")):
            better = next((each.port for each in same if "by-id" in each.port), "/dev/serial/by-path/...")
            yield Diagnosis(
                what=what,
                verdict=Verdict.WORSE,
                detail=f"{port} is numbered in the order of plugging",
                next=f'write port = "{better}"',
            )
        others = [each for device in same for each in device.profiles if each.id != profile.id]
        if others and not any(each.id == profile.id for device in same for each in device.profiles):
            yield Diagnosis(
                what=what,
                verdict=Verdict.WORSE,
                detail=f"configured as {profile.id}, but the device says that it is {others[0].id}",
                next=f'write profile = "{others[0].id}", if that is what it is',
            )
    elif profile.transport.kind in ("usb", "pcsc"):
        wanted = [each for each in devices if any(fit.id == profile.id for fit in each.profiles)]
        if not wanted and not any(port and port.casefold() in each.port.casefold() for each in devices):
            yield Diagnosis(
                what=what,
                verdict=Verdict.BAD,
                detail=f"nothing is plugged in that is {profile.id}",
                next="check the cable; for PC/SC also that pcscd runs: systemctl status pcscd.socket",
            )
            return
    yield Diagnosis(what=what, verdict=Verdict.GOOD, detail=f"{profile.id} at {port or 'its USB id'}{_speed(profile)}")


def _in_general(machine: Machine, readers: Sequence[Device]) -> Iterator[Diagnosis]:
    if not readers:
        yield Diagnosis(
            what="readers",
            verdict=Verdict.WORSE,
            detail="nothing is plugged in that could be a reader",
            next="plug one in; readers in chargers are configured by host and port",
        )
    missing = [each for each in UDEV_RULES if each not in machine.udev_rules()]
    if missing and readers:
        yield Diagnosis(
            what="udev",
            verdict=Verdict.WORSE,
            detail=f"not installed: {', '.join(missing)}",
            next="copy them from systemd/ to /etc/udev/rules.d, then: udevadm control --reload; udevadm trigger",
        )


def _fits(profile: Profile, device: Device) -> bool:
    """A serial profile is for a port, not for the USB device behind it; and so on."""
    match profile.transport.kind:
        case "serial":
            return device.port.startswith("/dev/") and "/input/" not in device.port
        case "evdev":
            return "/input/" in device.port
        case "usb":
            return device.port.startswith("usb:")
        case "pcsc":
            return not device.port.startswith("/dev/")
        case _:
            return False


def _speed(profile: Profile) -> str:
    return f", {profile.transport.baud} baud" if profile.transport.baud is not None else ""


def _called(device: Device) -> str:
    said = device.described
    return " ".join(part for part in (said.product, f"({said.usb})" if said.usb else None) if part) or "unnamed"


def _links(folder: Path) -> dict[str, str]:
    """Names in a folder of links, by the name of what they point to."""
    with suppress(OSError):
        return {Path(os.path.realpath(link)).name: link.name for link in sorted(folder.iterdir())}
    return {}


def _usb_above(device: Path) -> Path | None:
    folder = Path(os.path.realpath(device))
    for _ in range(LINKS_UP):
        if (folder / "idVendor").exists():
            return folder
        folder = folder.parent
    return None


def _id_of(usb: Path | None) -> str | None:
    if usb is None:
        return None
    vendor, product = _text(usb / "idVendor").strip(), _text(usb / "idProduct").strip()
    return f"{vendor}:{product}" if vendor and product else None


def _product_of(usb: Path | None) -> str | None:
    if usb is None:
        return None
    return (
        " ".join(part for part in (_text(usb / name).strip() for name in ("manufacturer", "product")) if part) or None
    )


def _group_of(node: Path) -> str:
    number = node.stat().st_gid
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""
