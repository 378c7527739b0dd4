"""The demonstration's fleet: its drivers, cards and rules, published with the same verbs that a fleet would use."""

from __future__ import annotations

import asyncio
import contextlib
import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

FLEET = "acme"
DEVICE = "van-0007"

ANNA = bytes.fromhex("04A23B4C5D6080")
BERT = bytes.fromhex("DEADBEEF")
CARLA = bytes.fromhex("04B1C2D3E4F580")
DORA = bytes.fromhex("6200E31716")
STRANGER = bytes.fromhex("04111213141516")

POLICY = """\
stale_after_hours = 24
expired_after_hours = 168

[groups.acme]
countries = ["DE", "NL"]

[groups.vans]
parent = "acme"
networks = ["DE*ABC"]

[groups.night-shift]
parent = "acme"
networks = ["NL*XYZ"]
[groups.night-shift.schedule]
zone = "Europe/Amsterdam"
windows = [{{ days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], start = "{start}", end = "{end}" }}]
"""

DRIVERS = """\
[drivers.anna]
language = "en"
cost_centre = "parcels-north"

[drivers.bert]
language = "nl"

[drivers.carla]
language = "de"

[drivers.dora]
language = "fr"
"""

VEHICLES = """\
[vehicles.VAN-7]
cost_centre = "parcels"

[vehicles.VAN-9]
"""

TOKENS = f"""\
uid,label,group,driver,vehicle,status
{ANNA.hex().upper()},card 1,vans,anna,VAN-7,active
{BERT.hex().upper()},card 2,night-shift,bert,,active
{CARLA.hex().upper()},card 3,vans,carla,,blocked
{DORA.hex().upper()},fob 4,vans,dora,VAN-9,active
"""


class StageError(Exception):
    """A part could not be made, or something that the story waits for did not happen; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFiles:
    """What the other parts need of the fleet's files."""

    folder: Path
    service_key: Path


async def found_fleet(root: Path, port: int, mqtt: str) -> FleetFiles:
    """Make keys, write the rules, publish them to the broker, and give the device what it needs."""
    folder, source = root / "fleet", root / "policy"
    source.mkdir()
    start, end = hours_from_now(6), hours_from_now(8)
    (source / "policy.toml").write_text(POLICY.format(start=start, end=end), encoding="utf-8")
    (source / "drivers.toml").write_text(DRIVERS, encoding="utf-8")
    (source / "vehicles.toml").write_text(VEHICLES, encoding="utf-8")
    (source / "tokens.csv").write_text(TOKENS, encoding="utf-8")
    await verb("init", str(folder), "--fleet", FLEET)
    broker = ("--broker", f"127.0.0.1:{port}", "--plain", "--mqtt", mqtt)
    await verb("publish", str(folder), "--policy", str(source), *broker)
    await verb("device-files", str(folder), "--out", str(root / "device"))
    return FleetFiles(folder=folder, service_key=folder / "keys" / "service-ack.pem")


async def verb(*words: str) -> None:
    """`roamkey fleet ...`, in a thread, since it waits for the broker."""

    def call() -> int:
        from agent.cli import main

        with contextlib.redirect_stdout(said):
            return main(("fleet", *words))

    said = io.StringIO()
    code = await asyncio.to_thread(call)
    if code != 0:
        raise StageError(f"roamkey fleet {words[0]} ended with {code}: {said.getvalue().strip()}")


def hours_from_now(hours: int) -> str:
    """A local time that is surely not now: the night shift's window must be closed while the demonstration runs."""
    from zoneinfo import ZoneInfo

    moment = datetime.now(UTC).astimezone(ZoneInfo("Europe/Amsterdam")) + timedelta(hours=hours)
    return f"{moment:%H:%M}"
