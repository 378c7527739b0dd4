"""`roamkey evidence`: one file that proves one session; checked anywhere, with the fleet's root alone."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli import output
from agent.cli.client import Api, Refused, Unreachable, add_service_arguments, api_of

if TYPE_CHECKING:
    from agent.core.policy import Group
    from agent.evidence.document import Evidence
    from agent.evidence.judgement import Judgement

HELP = "write what proves a session into one file, or check such a file"

PAGE_RECORDS = 500
NOT_FOUND, NOT_YET = 404, 409


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "session", nargs="?", metavar="SESSION", help="the session's id, as `roamkey sessions` shows it"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the new file (default: evidence-SESSION.json)")
    parser.add_argument("--verify", type=Path, metavar="FILE", help="check this file instead; no service is needed")
    parser.add_argument("--root", type=Path, metavar="FILE", help="the fleet's root.json, which you trust")
    parser.add_argument(
        "--device-key",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a device's public key (JWK or PEM) that you trust although the fleet's documents do not name it",
    )
    parser.add_argument(
        "--token-key", type=Path, metavar="FILE", help="the fleet's token key: opens meter records that name a card"
    )
    parser.add_argument("--meter-key", metavar="KEY", help="the meter's public key: a file, or hex, base64 or PEM")
    parser.add_argument(
        "--meter-out", type=Path, metavar="FILE", help="write the signed meter records there, byte for byte"
    )
    add_service_arguments(parser)


def main(arguments: argparse.Namespace) -> int:
    from agent.evidence.document import NotEvidence
    from agent.signed_meter import Unopened
    from agent.vault import VaultError
    from sync.signing import SigningError

    if arguments.verify is None and arguments.session is None:
        output.complain("name the SESSION, or a file with --verify")
        return output.USAGE
    if arguments.verify is not None and arguments.root is None:
        output.complain("--verify needs the fleet's root: give --root root.json")
        return output.USAGE
    try:
        return verify(arguments) if arguments.verify is not None else collect(arguments)
    except Unreachable as error:
        output.complain(str(error))
        return output.UNAVAILABLE
    except Refused as error:
        output.complain(str(error))
        return {NOT_FOUND: output.NO_INPUT, NOT_YET: output.TRY_LATER}.get(error.status, output.FAILURE)
    except (NotEvidence, SigningError, VaultError, Unopened) as error:
        output.complain(str(error))
        return output.DATA
    except FileExistsError as error:
        output.complain(f"{error.filename} is there already; name another file with --out")
        return output.CANNOT_CREATE
    except OSError as error:
        output.complain(f"{error.filename}: {error.strerror}")
        return output.NO_INPUT if arguments.verify is not None else output.CANNOT_CREATE


def collect(arguments: argparse.Namespace) -> int:
    """Exit code 1 when something is missing that the check will ask for; the file is written all the same."""
    from agent.evidence.document import Evidence, to_bytes
    from sync.bundle import SignedBundle

    api = api_of(arguments)
    told = api.get(f"/v1/evidence/{arguments.session}")
    records = list(records_of(api, told["first"], told["last"]))
    missing: list[str] = told["missing"]
    if len(records) != told["last"] - told["first"] + 1:
        missing.append(f"records {told['first']} to {told['last']} are not all in the journal any more")
    evidence = Evidence(
        fleet=told["fleet"],
        device=told["device"],
        session=told["session"],
        records=records,
        device_key=told["device_key"],
        roots=[root.encode() for root in told["roots"]],
        bundles=[
            SignedBundle(
                root=bundle["root"],
                timestamp=bundle["timestamp"].encode(),
                snapshot=bundle["snapshot"].encode(),
                targets=bundle["targets"].encode(),
                parts={name: body.encode() for name, body in bundle["parts"].items()},
            )
            for bundle in told["bundles"]
        ],
    )
    out = arguments.out or Path(f"evidence-{arguments.session}.json")
    with out.open("xb") as file:
        file.write(to_bytes(evidence))
    for each in missing:
        output.complain(each)
    if arguments.json:
        output.print_json({"file": str(out), "records": len(records), "missing": missing})
    else:
        output.say(f"{out}: {len(records)} records; check it with: roamkey evidence --verify {out} --root root.json")
    return output.FAILURE if missing else output.OK


def records_of(api: Api, first: int, last: int) -> Iterator[bytes]:
    after = first - 1
    while after < last:
        page = api.get("/v1/journal", after=after, limit=min(PAGE_RECORDS, last - after))["records"]
        if not page:
            return
        for record in page:
            after = record["sequence"]
            if after <= last:
                yield record["body"].encode()


def verify(arguments: argparse.Namespace) -> int:
    from agent.cli.ocmf import key_of
    from agent.evidence.judgement import judge
    from agent.vault import read_token_key
    from sync.signing import thumbprint

    token_key = None if arguments.token_key is None else read_token_key(arguments.token_key)
    keys = [path.read_text("ascii") for path in arguments.device_key]
    judgement = judge(
        arguments.verify.read_bytes(),
        root=arguments.root.read_bytes(),
        session=arguments.session,
        device_keys={thumbprint(key): key for key in keys},
        token_key=token_key,
        meter_key=key_of(arguments.meter_key) if arguments.meter_key else None,
    )
    if arguments.meter_out is not None and judgement.evidence is not None:
        write_meter_records(judgement.evidence, token_key, arguments.meter_out)
    if arguments.json:
        output.print_json(as_json(judgement))
    else:
        for line in told_of(judgement):
            output.say(line)
    return output.OK if judgement.ok else output.FAILURE


def write_meter_records(evidence: Evidence, token_key: bytes | None, out: Path) -> None:
    """One after the other: `roamkey ocmf verify` reads them so."""
    from agent.core.facts import SessionSigned
    from agent.signed_meter import records_of
    from agent.wire import Unreadable, open_record

    facts = []
    for body in evidence.records:
        try:
            fact = open_record(body).fact
        except Unreadable:
            continue
        if isinstance(fact, SessionSigned) and fact.session == evidence.session:
            facts.append(fact)
    with out.open("xb") as file:
        for each in records_of(facts, token_key):
            if each.document is None:
                output.complain(f"{each.format} {each.sha256[:12]} lies in a box: give --token-key")
            else:
                file.write(each.document + b"\n")


def as_json(judgement: Judgement) -> dict[str, Any]:
    from agent.evidence.document import summary

    evidence = judgement.evidence
    return {
        "ok": judgement.ok,
        "session": evidence.session if evidence is not None else None,
        "checks": [
            {"check": finding.check.value, "ok": finding.ok, "told": finding.told, "flaws": list(finding.flaws)}
            for finding in judgement.findings
        ],
        "summary": summary(evidence.records, evidence.session) if evidence is not None and judgement.ok else None,
        "rules": [line for group in judgement.groups for line in rules_of(group)],
    }


def told_of(judgement: Judgement) -> Iterator[str]:
    from agent.evidence.document import summary

    for finding in judgement.findings:
        yield f"{'ok    ' if finding.ok else 'FAILED'}  {finding.check.value}: {finding.told}".rstrip(": ")
        yield from (f"          {flaw}" for flaw in finding.flaws)
    if not judgement.ok or judgement.evidence is None:
        yield f"NOT PROVEN: {', '.join(judgement.failed)}"
        return
    evidence = judgement.evidence
    about = summary(evidence.records, evidence.session)
    holder, place = about["holder"], about["place"]
    yield f"PROVEN: session {evidence.session} of device {evidence.device}, fleet {evidence.fleet}"
    yield f"  by     {', '.join(f'{name} {value}' for name, value in holder.items())}"
    yield f"  at     {', '.join(f'{name} {value}' for name, value in place.items()) or about['charger']}"
    yield f"  from   {about.get('started_at', about['authorised_at'])} to {about['ended_at']}, {about['reason']}"
    yield f"  energy {about['energy_wh']} Wh in {about['duration_s']} s"
    if "cost" in about:
        sides = ", ".join(f"{name} {about['cost'][name]}" for name in ("net", "gross") if name in about["cost"])
        yield f"  cost   {sides} {about['cost']['currency']}"
    for group in judgement.groups:
        yield from (f"  rule   {line}" for line in rules_of(group))


def rules_of(group: Group) -> Iterator[str]:
    """What one level of the policy says; what it leaves open is not said."""
    said = {
        "networks": group.networks and ", ".join(sorted(group.networks)),
        "countries": group.countries and ", ".join(sorted(group.countries)),
        "schedule": group.schedule and f"{len(group.schedule.windows)} windows, {group.schedule.zone.key}",
        "sessions per token": group.max_sessions_per_token,
        "sessions per vehicle": group.max_sessions_per_vehicle,
        "energy": group.max_energy_wh and f"{group.max_energy_wh} Wh",
        "also rules about": ", ".join(further_rules(group)) or None,
    }
    text = "; ".join(f"{name}: {value}" for name, value in said.items() if value is not None)
    yield f"group {group.id}{f' (of {group.parent})' if group.parent else ''}: {text or 'nothing of its own'}"


SAID_IN_FULL = {
    "networks",
    "countries",
    "schedule",
    "max_sessions_per_token",
    "max_sessions_per_vehicle",
    "max_energy_wh",
}


def further_rules(group: Group) -> Iterator[str]:
    """The names of what else this level says: whoever wants it in full has the signed policy in the file."""
    silent = type(group)(id=group.id, parent=group.parent)
    for field in fields(group):
        if field.name not in SAID_IN_FULL and getattr(group, field.name) != getattr(silent, field.name):
            yield field.name.replace("_", " ")
