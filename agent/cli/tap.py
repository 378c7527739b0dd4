"""`roamkey tap`: a tap without a card, for technicians and tests. It decides, records and starts like a real one."""

from __future__ import annotations

import argparse

from agent.cli import output
from agent.cli.client import add_service_arguments, api_of

HELP = "inject a card tap into the running service"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reader", required=True, help="the reader's name in the configuration")
    parser.add_argument("--uid", required=True, help="the card's UID in hexadecimal, on-air order")
    add_service_arguments(parser)


def main(arguments: argparse.Namespace) -> int:
    answer = api_of(arguments).post("/v1/taps", {"reader": arguments.reader, "uid": arguments.uid})
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
