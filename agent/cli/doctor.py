"""`roamkey doctor`: which readers are plugged in, what is in their way, and what to do next. Changes nothing.

What a configuration needs beside its readers (files, broker, clock) is `roamkey check`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli import output

if TYPE_CHECKING:
    from firmware_profiles.profile import Profile

HELP = "find readers on this machine and say what is in their way"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="compare with the readers of this configuration")
    parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)  # a machine made of files
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def main(arguments: argparse.Namespace) -> int:
    from agent.hardware import Machine, Verdict, diagnose
    from drivers.readers.pcsc_lite import installed_readers

    folder, configured = configuration(arguments.config)
    profiles = known(folder)
    here = arguments.root == Path("/")
    machine = Machine(arguments.root, pcsc=installed_readers() if here else ())
    found = list(diagnose(machine, profiles, configured))
    bad = any(each.verdict is Verdict.BAD for each in found)
    if arguments.json:
        output.print_json({"ok": not bad, "diagnoses": [asdict(each) for each in found]})
    else:
        counted = Counter(each.verdict for each in found)
        title = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counted.items()))
        rows = [(each.what, each.verdict, each.detail, each.next) for each in found]
        output.table(f"readers: {title}", ("what", "verdict", "detail", "next"), rows)
    return output.FAILURE if bad else output.OK


def known(folder: Path | None) -> list[Profile]:
    """The reader profiles that load; a broken one of the operator's own is told and passed over."""
    from firmware_profiles import available, load
    from firmware_profiles.profile import ProfileError

    profiles = []
    for each in available(folder):
        try:
            profile = load(each, folder=folder)
        except ProfileError as error:
            output.complain(str(error))
            continue
        if profile.kind == "reader":
            profiles.append(profile)
    return profiles


def configuration(path: Path | None) -> tuple[Path | None, list[tuple[str, Profile, str]]]:
    """The operator's own profiles, and the readers with the profile and port that they were given."""
    if path is None:
        return None, []
    from agent.config import ConfigError, load
    from firmware_profiles import load as load_profile
    from firmware_profiles.profile import ProfileError, ProfileUnknown

    try:
        config = load(path)
        folder = config.profiles.folder
        readers = []
        for each in config.reader:
            try:
                readers.append((each.name, load_profile(each.profile, folder=folder), each.port))
            except ProfileUnknown as error:
                output.complain(
                    f"reader {each.name}: {error}; the fleet's bundle may have it, the doctor does not look"
                )
    except ConfigError as error:
        raise output.Hopeless(output.CONFIG, *(f"{path}: {problem}" for problem in error.problems)) from error
    except ProfileError as error:
        raise output.Hopeless(output.CONFIG, str(error)) from error
    return folder, readers
