"""`roamkey run`: the service, in the foreground, until SIGTERM. systemd starts it so."""

from __future__ import annotations

import argparse
from pathlib import Path

from agent.cli import output

HELP = "run the service in the foreground"

LEVELS = ("error", "warning", "info", "debug")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration, TOML")
    parser.add_argument("--log", choices=LEVELS, default="info", help="how much to log (default: info)")


def main(arguments: argparse.Namespace) -> int:
    from agent.config import ConfigError, load
    from agent.logs import set_up_logging

    set_up_logging(arguments.log)
    try:
        config = load(arguments.config)
    except ConfigError as error:
        for problem in error.problems:
            output.complain(f"{arguments.config}: {problem}")
        return output.CONFIG
    from agent.main import serve

    return serve(config)
