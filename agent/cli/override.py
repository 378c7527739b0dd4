"""`roamkey override FILE`: hand a signed one-time override to the running service, where there is no signal."""

from __future__ import annotations

import argparse
from pathlib import Path

from agent.cli import output
from agent.cli.client import add_service_arguments, api_of

HELP = "hand a signed one-time override to the running service"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="as `roamkey fleet override --out` wrote it")
    add_service_arguments(parser)


def main(arguments: argparse.Namespace) -> int:
    try:
        text = arguments.file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        output.complain(f"{arguments.file} cannot be read: {error}")
        return output.NO_INPUT
    answer = api_of(arguments).post("/v1/overrides", {"overrides": text})
    if arguments.json:
        output.print_json(answer)
    else:
        for taken in answer["taken"]:
            output.say(f"override {taken['id']} is here, to be used until {taken['not_after']}")
    return output.OK
