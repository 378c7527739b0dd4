"""`roamkey profiles list|show|check|try`: what is known about readers; a new one is one file and no code."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli import output
from agent.cli.profiles_report import known_from, plain, recognised_by, summary, told

if TYPE_CHECKING:
    from drivers.readers.reader import Card, ReaderEvent
    from firmware_profiles.profile import Profile

HELP = "list, show, check or try what is known about readers and chargers"

READ_BYTES = 4096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="list all profiles and how each is known")
    show = actions.add_parser("show", help="show one profile with its evidence")
    show.add_argument("profile", metavar="ID|FILE", help="such as readers/rdm6300, or a file of your own")
    check = actions.add_parser("check", help="check files, and read their vectors with the real codec")
    check.add_argument("profile", nargs="*", metavar="ID|FILE", help="default: all")
    attempt = actions.add_parser("try", help="read cards with a profile, from a device or from bytes; masked")
    attempt.add_argument("profile", metavar="ID|FILE")
    attempt.add_argument("--port", metavar="PORT", help="the device, as in the configuration")
    attempt.add_argument("--bytes", dest="raw", metavar="FILE", help="recorded bytes instead of a device; - for stdin")
    attempt.add_argument("--hex", action="store_true", help="the bytes are written in hexadecimal")
    attempt.add_argument("--seconds", type=float, metavar="N", help="stop after so long (default: until interrupted)")
    for action in (listed, show, check, attempt):
        action.add_argument("--folder", type=Path, metavar="FOLDER", help="profiles of your own: FOLDER/readers/*.toml")
    for action in (listed, show, check):
        action.add_argument("--json", action="store_true", help="print JSON for programs")


def main(arguments: argparse.Namespace) -> int:
    from firmware_profiles.profile import ProfileError

    actions = {"list": list_all, "show": show, "check": check, "try": attempt}
    try:
        return actions[arguments.action](arguments)
    except ProfileError as error:
        output.complain(str(error))
        return output.DATA


def list_all(arguments: argparse.Namespace) -> int:
    from firmware_profiles import available

    profiles = [named(each, arguments.folder) for each in available(arguments.folder)]
    if arguments.json:
        output.print_json([summary(each) for each in profiles])
        return output.OK
    columns = ("id", "make and model", "driver", "recognised by", "known from")
    rows = [
        (each.id, f"{each.make} {each.model}", each.driver, ", ".join(recognised_by(each)) or "-", known_from(each))
        for each in profiles
    ]
    output.table(f"{len(rows)} profiles", columns, rows)
    return output.OK


def show(arguments: argparse.Namespace) -> int:
    profile = named(arguments.profile, arguments.folder)
    if arguments.json:
        output.print_json(plain(profile.model_dump()))
        return output.OK
    output.table(profile.id, ("what", "is"), list(told(profile)))
    columns = ("field", "level", "reference", "note")
    evidence = [(each.field, each.level, f"{each.reference} ({each.date})", each.note) for each in profile.evidence]
    output.table("evidence", columns, evidence)
    return output.OK


def check(arguments: argparse.Namespace) -> int:
    """Every file is judged, also behind a bad one; shipped profiles are only compared with."""
    from firmware_profiles import available
    from firmware_profiles.profile import ProfileError

    results: dict[str, tuple[list[str], list[str]]] = {}
    everybody = list(sound(arguments.folder))
    for each in arguments.profile or available(arguments.folder):
        try:
            profile = named(each, arguments.folder)
        except ProfileError as error:
            results[each] = ([str(error)], [])
        else:
            results[each] = (list(broken(profile)), list(doubtful(profile, everybody)))
    bad = any(faults for faults, _ in results.values())
    if arguments.json:
        documents = [
            {"profile": name, "faults": faults, "doubts": doubts} for name, (faults, doubts) in results.items()
        ]
        output.print_json({"ok": not bad, "profiles": documents})
    else:
        rows = [(name, "error", each) for name, (faults, _) in results.items() for each in faults]
        rows += [(name, "warning", each) for name, (_, doubts) in results.items() for each in doubts]
        rows += [(name, "ok", "") for name, (faults, doubts) in results.items() if not faults and not doubts]
        output.table("profiles", ("profile", "verdict", "detail"), rows)
    return output.DATA if bad else output.OK


def attempt(arguments: argparse.Namespace) -> int:
    profile = named(arguments.profile, arguments.folder)
    if (arguments.port is None) == (arguments.raw is None):
        raise output.Hopeless(output.USAGE, "say either --port DEVICE or --bytes FILE")
    if profile.kind != "reader":
        raise output.Hopeless(output.USAGE, f"{profile.id} is a {profile.kind}; only readers read cards")
    if arguments.raw is not None:
        return decode(profile, recorded(arguments.raw, is_hex=arguments.hex))
    with suppress(KeyboardInterrupt):
        return asyncio.run(watch(profile, arguments.port, arguments.seconds))
    return output.OK


def named(what: str, folder: Path | None) -> Profile:
    """By id, or by path if it ends like one."""
    from firmware_profiles import load, load_file

    return load_file(Path(what).absolute()) if what.endswith(".toml") else load(what, folder=folder)


def recorded(path: str, *, is_hex: bool) -> bytes:
    try:
        raw = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return bytes.fromhex(raw.decode("ascii")) if is_hex else raw
    except OSError as error:
        raise output.Hopeless(output.NO_INPUT, f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise output.Hopeless(output.DATA, f"{path} is not hexadecimal") from error


def decode(profile: Profile, raw: bytes) -> int:
    from drivers.readers.decoders import open_decoder
    from drivers.readers.rejects import Rejected

    cards = 0
    for result in open_decoder(profile).feed(raw):
        if isinstance(result, Rejected):
            output.say(f"rejected  {result.reason.value}")
        else:
            cards += len(result)
            output.say("empty" if not result else "\n".join(f"card      {line(card)}" for card in result))
    if not cards:
        output.complain(
            f"no card in {len(raw)} bytes with {profile.id}: other profiles may fit, see `roamkey profiles list`"
        )
    return output.OK if cards else output.FAILURE


async def watch(profile: Profile, port: str, seconds: float | None) -> int:
    """What the reader says, each card once while it lies there."""
    from drivers.readers import open_reader
    from drivers.readers.reader import ReaderFound, ReaderLost, Seen

    before: list[tuple[Card, ...]] = [()]
    found: list[str] = []

    def told_of(event: ReaderEvent) -> None:
        match event:
            case Seen(cards=cards):
                if cards and cards != before[0]:
                    output.say("\n".join(f"card      {line(card)}" for card in cards))
                before[0] = cards
            case ReaderFound():
                found.append(event.model)
                output.say(f"ready     {event.model}, firmware {event.firmware}")
                for finding in event.findings:
                    output.say(f"finding   {finding}")
            case ReaderLost():
                output.say(f"lost      {event.cause}; {event.hint}")

    loop = asyncio.get_running_loop()
    reader = open_reader("try", profile=profile, port=port)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await reader.run(lambda event: _in_loop(loop, told_of, event))
    if not found:
        output.complain("no reader was there: `roamkey doctor` lists what is plugged in and what is in its way")
    return output.OK if found else output.UNAVAILABLE


def _in_loop(loop: asyncio.AbstractEventLoop, tell: Any, event: ReaderEvent) -> None:
    loop.call_soon_threadsafe(tell, event)


def line(card: Card) -> str:
    return f"{card}  {card.technology.value}  {card.assurance.value}"


def broken(profile: Profile) -> Iterator[str]:
    from drivers.readers.replay import faults

    if profile.kind == "reader":
        yield from faults(profile, in_clear=True)


def sound(folder: Path | None) -> Iterator[Profile]:
    """Those that load."""
    from firmware_profiles import available
    from firmware_profiles.profile import ProfileError

    for each in available(folder):
        with suppress(ProfileError):
            yield named(each, folder)


def doubtful(profile: Profile, everybody: Sequence[Profile]) -> Iterator[str]:
    """What is no error and still wants a look."""
    from firmware_profiles.matching import overlaps

    others = [each for each in everybody if each.id != profile.id]
    yield from (each for each in overlaps([*others, profile]) if profile.id in each)
    if not profile.evidence:
        yield "no evidence: say where the facts come from, and what is only believed"
    if profile.uid is not None and profile.uid.loss != "none":
        raws = [vector.raw for vector in profile.vectors.accept]
        if not any(vector.collides for vector in profile.vectors.accept) and len(set(raws)) == len(raws):
            yield "loses a part of each UID: add a vector with `collides`, two cards that look the same"
