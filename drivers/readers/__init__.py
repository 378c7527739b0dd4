"""Antennas: from a configured name, a profile and a port to a Reader. The front door: open_reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drivers.cards.proof import CardKeys
    from drivers.readers.reader import Reader
    from drivers.readers.secure_line import SecureLine
    from firmware_profiles.profile import Profile


def open_reader(
    name: str, *, profile: Profile, port: str, keys: CardKeys | None = None, line: SecureLine | None = None
) -> Reader:
    """The reader, not opened yet: run() opens it and goes on trying. ValueError if the profile is of no reader.

    `keys`: what cards must prove at a reader that can talk to them; the others tell UIDs, and the policy knows that.
    `line`: address and key of a reader on a shared line (OSDP), which without one is not believed.
    """
    match profile.driver:
        case "em4100_ascii" | "wiegand_lines":
            from drivers.readers.serial_ascii import SerialAsciiReader

            return SerialAsciiReader(name, profile=profile, port=port)
        case "pn532_hsu":
            from drivers.readers.pn532 import Pn532Reader

            return Pn532Reader(name, profile=profile, port=port, keys=keys)
        case "pn53x_usb":
            from drivers.readers.pn533_usb import pn533_reader

            return pn533_reader(name, profile=profile, port=port, keys=keys)
        case "stronglink" | "twn4_simple":
            from drivers.readers.polled_serial import PolledSerialReader

            return PolledSerialReader(name, profile=profile, port=port)
        case "pcsc":
            from drivers.readers.pcsc import PcscReader

            return PcscReader(name, profile=profile, port=port, keys=keys)
        case "hid_keys":
            from drivers.readers.hid_keys import HidKeysReader

            return HidKeysReader(name, profile=profile, port=port)
        case "charger_register":
            from drivers.readers.charger_register import ChargerRegisterReader

            return ChargerRegisterReader(name, profile=profile, port=port)
        case "osdp":
            from drivers.readers.osdp_reader import OsdpReader
            from drivers.readers.secure_line import SecureLine

            return OsdpReader(name, profile=profile, port=port, line=line or SecureLine())
        case "simulated":
            from drivers.readers.simulated import SimulatedReader

            return SimulatedReader(name, poll_ms=profile.polling.poll_ms)
        case driver:
            raise ValueError(f"reader {name}: profile {profile.id} drives a {profile.kind} ({driver}), not a reader")
