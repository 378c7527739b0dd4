"""`roamkey check`: would this configuration work on this machine? Starts nothing, changes nothing."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from agent.cli import output

HELP = "check a configuration and this machine without starting"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration, TOML")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def main(arguments: argparse.Namespace) -> int:
    from agent.config import ConfigError, load
    from agent.environment import Verdict, examine

    try:
        config = load(arguments.config)
    except ConfigError as error:
        if arguments.json:
            output.print_json({"ok": False, "problems": error.problems, "findings": []})
        for problem in error.problems:
            output.complain(f"{arguments.config}: {problem}")
        return output.CONFIG
    findings = list(examine(config))
    bad = any(finding.verdict is Verdict.BAD for finding in findings)
    if arguments.json:
        output.print_json({"ok": not bad, "problems": [], "findings": [asdict(finding) for finding in findings]})
    else:
        rows = [(finding.what, finding.verdict, finding.detail) for finding in findings]
        output.table(f"{arguments.config}", ("what", "verdict", "detail"), rows)
    return output.CONFIG if bad else output.OK
