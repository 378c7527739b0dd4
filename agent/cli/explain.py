"""`roamkey explain DECISION`: why a card was granted or refused, for a person. Takes the id or support reference."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from agent.cli import output
from agent.cli.client import add_service_arguments, api_of
from agent.cli.tap import against

HELP = "explain a decision, by its id or its support reference"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("decision", metavar="DECISION", help="the decision's id, or the reference the driver was shown")
    add_service_arguments(parser)


def main(arguments: argparse.Namespace) -> int:
    decision = api_of(arguments).get(f"/v1/decisions/{arguments.decision}")
    if arguments.json:
        output.print_json(decision)
    else:
        for line in explain(decision):
            output.say(line)
    return output.OK


def explain(decision: dict[str, Any]) -> list[str]:
    holder, place, policy = decision["holder"], decision["place"], decision.get("policy")
    who = ", ".join(f"{name} {value}" for name, value in holder.items()) or "nobody the fleet knows"
    where = ", ".join(spelled(place)) or "an unknown place"
    lines = [
        f"{decision['outcome'].upper()} at {decision['time']} (clock {decision['clockquality']})",
        f"  who    {who}",
        f"  card   {decision['credential']['assurance']} assurance, reference {card(decision)}",
        f"  where  {where}, reader {decision.get('reader', '-')}, charger {decision.get('charger', '-')}",
    ]
    if policy is None:
        lines.append("  policy none was active")
    else:
        lines.append(
            f"  policy revision {policy['revision']}, {policy['age_s'] // 3600} h old, {policy['fingerprint'][:12]}"
            + (f" ({policy['state']})" if "state" in policy else "")
        )
    lines += asked_and_waived(decision)
    for reason in decision.get("reasons", []):
        level = f" (group {reason['group']})" if reason.get("group") else ""
        lines.append(f"  - {reason['code']}: {against(reason)}{level}, rule {reason['rule']}")
    for ground in decision.get("grounds", []):
        level = f" (group {ground['group']})" if ground.get("group") else ""
        lines.append(f"  + {ground['rule']}: {against(ground)}{level}")
    for warning in decision.get("warnings", []):
        lines.append(f"  ! {warning['code']}: {against(warning)}, rule {warning['rule']}")
    lines.append(f"  told the driver: {decision['text']!r}, support reference {decision['support']}")
    lines.append(
        f"  peers: OCPI {decision['ocpi'] or '2004'}, OCPP 1.6 {decision['ocpp16']}, "
        f"OCPP 2.0.1 {decision['ocpp201']}, OICP {decision['oicp']}"
    )
    return lines


def asked_and_waived(decision: dict[str, Any]) -> Iterator[str]:
    """What the backend said, if it had to be asked, and whose override outweighed what."""
    heard = decision.get("backend")
    if heard is not None:
        said = f"says {heard['verdict']}" if "verdict" in heard else f"is silent: {heard.get('silence', 'not asked')}"
        before = f"; it said {heard['kept']} before" if "kept" in heard else ""
        yield f"  asked  whitelist {decision.get('whitelist', '?')}: the backend {said}{before}"
    if "mode" in decision:
        yield f"  mode   {decision['mode']}, decided in {decision['waited_ms']} ms"
    for use in decision.get("leases", []):
        yield f"  budget {use['budget']}: reserved {use['amount']} ({use.get('unit', '?')}), lease {use['lease'][:8]}"
    if "override" in decision:
        yield f"  by override {decision['override']}, used up, of {decision['override_by']}: {decision['override_why']}"
        for reason in decision.get("waived", []):
            yield f"  ~ {reason['code']} outweighed: {against(reason)}, rule {reason['rule']}"


def spelled(place: dict[str, Any]) -> Iterator[str]:
    """What is known of the place, then who said so and why there is a doubt."""
    for name in ("evse", "network", "country", "site", "connector", "power_w"):
        if name in place:
            yield f"{name} {place[name]}"
    if "source" in place:
        yield f"as the {place['source']} says" if place["source"] != "sites" else "by the fleet's sites"
    if "position" in place:
        where = place["position"]
        yield (
            f"{where['latitude_udeg'] / 1e6:.6f} {where['longitude_udeg'] / 1e6:.6f} "
            f"(to {where.get('accuracy_m', '?')} m, {where.get('age_s', '?')} s old, "
            f"by {place.get('measured_by', '?')})"
        )
    if "distance_m" in place:
        yield f"{place['distance_m']} m from the site"
    if "doubt" in place:
        yield f"DOUBTFUL: {place['doubt']} {' '.join(place.get('candidates', ()))}".strip()


def card(decision: dict[str, Any]) -> str:
    reference = decision["credential"].get("reference", "")
    return f"{reference[:12]}..." if reference else "none"
