"""`roamkey tap`: a tap without a card, for technicians and tests. It decides, records and starts like a real one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from agent.cli import output
from agent.cli.client import add_service_arguments, api_of

HELP = "inject a card tap into the running service"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reader", required=True, help="the reader's name in the configuration")
    parser.add_argument("--uid", required=True, help="the card's UID in hexadecimal, on-air order")
    parser.add_argument("--tariff", type=Path, metavar="FILE", help="the OCPI tariff that is shown here")
    parser.add_argument("--zone", metavar="ZONE", help="its time zone, such as Europe/Berlin")
    parser.add_argument("--route", help="the trip or tour that the session is charged to")
    add_service_arguments(parser)


def main(arguments: argparse.Namespace) -> int:
    asked: dict[str, Any] = {"reader": arguments.reader, "uid": arguments.uid, "route": arguments.route}
    if arguments.tariff is not None:
        try:
            document = arguments.tariff.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise output.Hopeless(output.NO_INPUT, f"{arguments.tariff}: {error}") from error
        asked["tariff"] = {"document": document, "zone": arguments.zone}
    answer = api_of(arguments).post("/v1/taps", {name: each for name, each in asked.items() if each is not None})
    if arguments.json:
        output.print_json(answer)
    else:
        output.say(f"{answer['outcome']}  decision {answer['decision']}")
        for reason in answer["reasons"]:
            output.say(f"  {reason['code']}  {against(reason)}")
        if answer["session"]:
            output.say(f"  session {answer['session']}")
    return output.OK if answer["outcome"] == "granted" else output.FAILURE


def against(reason: dict[str, str]) -> str:
    """`NL*XYZ, allowed: DE*ABC`."""
    observed = reason.get("observed") or "missing"
    return f"{observed}, allowed: {reason['limit']}" if reason.get("limit") else observed
