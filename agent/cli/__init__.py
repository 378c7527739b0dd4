"""The command line: `main` finds the verb and hands over. One file a verb; each has HELP, add_arguments and main.

A verb's module imports what it needs inside its own main, so that help and completion stay quick.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Protocol, cast

from agent.cli import output

VERBS = (
    "run",
    "check",
    "doctor",
    "profiles",
    "enrol",
    "status",
    "sessions",
    "explain",
    "journal",
    "evidence",
    "tap",
    "override",
    "policy",
    "fleet",
    "receive",
    "budget",
    "demo",
    "settle",
    "reconcile",
    "price",
    "tariff",
    "ocmf",
    "contract",
    "cards",
)


class Verb(Protocol):
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def main(self, arguments: argparse.Namespace) -> int:
        """The exit code, as in sysexits.h."""
        ...


def main(argv: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else list(argv)
    parser = build_parser(words[0] if words and words[0] in VERBS else None)
    arguments = parser.parse_args(words)
    try:
        return load(arguments.verb).main(arguments)
    except output.Hopeless as error:
        for line in error.lines:
            output.complain(line)
        return error.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `roamkey journal tail | head`
        return 0


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The whole parser, or the part for one verb, so that a start needs one verb's imports."""
    parser = argparse.ArgumentParser(
        prog="roamkey", description="The fleet's key on the road: card taps decided by the fleet's own policy, offline."
    )
    parser.add_argument("--version", action="version", version=f"roamkey {version('roamkey')}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name in VERBS if only is None else (only,):
        verb = load(name)
        verb.add_arguments(verbs.add_parser(name, help=verb.HELP, description=verb.HELP))
    return parser


def load(name: str) -> Verb:
    return cast(Verb, import_module(f"agent.cli.{name}"))
