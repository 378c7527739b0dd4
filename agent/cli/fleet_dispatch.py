"""`roamkey fleet override` and `roamkey fleet break-glass`: help for a driver whom the rules leave standing."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli import output

if TYPE_CHECKING:
    from agent.fleet.dispatch import Dispatch

Action = Callable[[str, str], argparse.ArgumentParser]


def add_actions(action: Action, add_broker: Callable[[argparse.ArgumentParser], None]) -> None:
    override = action("override", "sign a one-time override: this card may charge once, at this device")
    _add_whom(override)
    override.add_argument(
        "--waive", action="append", default=[], metavar="RULE", help="a rule to outweigh; all that can be, if none"
    )
    override.add_argument("--hours", type=float, default=4.0, metavar="H", help="until it must be used (4, at most 24)")
    override.add_argument("--max-energy-wh", type=int, metavar="WH", help="limit of the one session")
    override.add_argument("--max-minutes", type=int, metavar="MIN", help="limit of the one session")
    override.add_argument("--max-cost", metavar="25.00EUR", help="limit of the one session, with taxes")
    override.add_argument("--out", type=Path, metavar="FILE", help="also write it, for `roamkey override FILE`")
    add_broker(override)
    code = action("break-glass", "the next code to read out over the phone, for a device without any connection")
    _add_whom(code)


def _add_whom(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", required=True, help="the device's name")
    parser.add_argument("--uid", help="the card's UID in hexadecimal, on-air order")
    parser.add_argument("--reference", metavar="HEX", help="or its keyed reference, as in records")
    parser.add_argument("--why", required=True, help="what for; it is recorded here and on the device")
    parser.add_argument("--by", default=os.environ.get("USER", ""), help="who gives it (default: your login name)")


def override(arguments: argparse.Namespace, send: Callable[[str, bytes], object] | None) -> int:
    """`send` hands a retained message to the broker, if one was named."""
    from agent.files import replace_durably
    from agent.fleet.dispatch import DispatchUnfit, cost_of

    dispatch, token = _open(arguments)
    try:
        made, outstanding = dispatch.override(
            device=arguments.device,
            token=token,
            by=arguments.by,
            why=arguments.why,
            waives=arguments.waive,
            valid=timedelta(hours=arguments.hours),
            max_energy_wh=arguments.max_energy_wh,
            max_duration_s=None if arguments.max_minutes is None else arguments.max_minutes * 60,
            max_cost=None if arguments.max_cost is None else cost_of(arguments.max_cost),
        )
    except DispatchUnfit as error:
        raise output.Hopeless(output.USAGE, str(error)) from error
    if arguments.out is not None:
        replace_durably(arguments.out, outstanding.splitlines()[-1] + b"\n")
    if send is not None:
        send(arguments.device, outstanding)
    if arguments.json:
        output.print_json({"override": made.id, **made.to_claims(), "sent": send is not None})
    else:
        output.say(f"Override {made.id} for {made.device}, to be used until {made.not_after:%Y-%m-%d %H:%M} UTC.")
        output.say("  it waives " + ("every rule that can be" if made.waives == ("*",) else ", ".join(made.waives)))
        if send is None and arguments.out is None:
            output.say("  nobody has it yet: give --broker or --out")
    return output.OK


def break_glass(arguments: argparse.Namespace) -> int:
    from agent.fleet.dispatch import DispatchUnfit

    dispatch, token = _open(arguments)
    try:
        counter, code = dispatch.break_glass(device=arguments.device, token=token, by=arguments.by, why=arguments.why)
    except DispatchUnfit as error:
        raise output.Hopeless(output.USAGE, str(error)) from error
    if arguments.json:
        output.print_json({"device": arguments.device, "counter": counter, "code": code})
    else:
        output.say(f"{code[:4]} {code[4:]}")
        output.say(
            f"  code {counter} of {arguments.device}: good once, for this card. The driver says the reason, too."
        )
    return output.OK


def _open(arguments: argparse.Namespace) -> tuple[Dispatch, str]:
    """(the dispatch of this folder, the token's reference)."""
    from agent.core.credentials import reference
    from agent.fleet.dispatch import Dispatch
    from agent.fleet.folder import FleetFolder
    from agent.fleet.source import Wrong, canonical_uid

    folder = FleetFolder(arguments.folder)
    if not arguments.by:
        raise output.Hopeless(output.USAGE, "--by: say who gives it")
    if (arguments.uid is None) == (arguments.reference is None):
        raise output.Hopeless(output.USAGE, "give the card's --uid or its --reference")
    token = arguments.reference
    if arguments.uid is not None:
        uid = canonical_uid(arguments.uid)
        if isinstance(uid, Wrong):
            raise output.Hopeless(output.USAGE, f"--uid {uid}")
        token = reference(folder.token_key, uid)
    if len(token) != 64 or not set(token) <= set("0123456789abcdef"):
        raise output.Hopeless(output.USAGE, "--reference must be 64 hexadecimal characters, as in records")
    return Dispatch(folder, now=datetime.now(UTC)), token
