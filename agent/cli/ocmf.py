"""`roamkey ocmf verify`: is a signed meter record genuine, and fit for a bill?"""

from __future__ import annotations

import argparse
from pathlib import Path

from agent.cli import output

HELP = "verify signed meter records (OCMF)"

MAX_KEY_BYTES = 64 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="ocmf_verb", required=True, metavar="VERB")
    verify = verbs.add_parser("verify", help="check signature and readings of the records in a file")
    verify.add_argument("file", type=Path, metavar="FILE", help="OCMF record, or those of one charge in order")
    verify.add_argument(
        "--public-key", metavar="KEY", help="the station's or meter's key: a file, or hex or base64 (DER), or PEM"
    )
    verify.add_argument("--json", action="store_true", help="print one JSON object")


def main(arguments: argparse.Namespace) -> int:
    """0 when every record is valid and fit for a bill, 1 when not, and bad data when one is no OCMF record."""
    from agent.cli.price_report import finding_document, say_findings
    from agent.core.findings import is_sound, unique
    from agent.core.ocmf import MAX_BYTES, read_all
    from agent.core.ocmf_checks import check
    from agent.exact_json import dumps
    from agent.ocmf_signatures import Verdict, verify

    try:
        with arguments.file.open("rb") as file:
            data = file.read(64 * MAX_BYTES)
        key = key_of(arguments.public_key) if arguments.public_key else None
    except OSError as error:
        output.complain(f"{error.filename}: {error.strerror}")
        return output.NO_INPUT
    reads = read_all(data)
    verifications = [verify(one.record, key) for one in reads]
    checked = check(tuple(one.record for one in reads if one.record is not None))
    findings = unique((*(finding for one in reads for finding in one.findings), *checked.findings))
    verdicts = [one.verdict for one in verifications]
    worst = max(verdicts, key=list(Verdict).index)
    metered = checked.metered
    if arguments.json:
        records = [
            {
                "verdict": verification.verdict,
                "text": verification.text,
                "algorithm": None if one.record is None else one.record.signature.algorithm,
                "version": None if one.record is None else one.record.version,
                "pagination": None if one.record is None else one.record.pagination,
                "meter": None if one.record is None else one.record.meter_serial,
                "gateway": None if one.record is None else one.record.gateway_serial,
            }
            for one, verification in zip(reads, verifications, strict=True)
        ]
        document = {
            "verdict": worst,
            "billable": worst is Verdict.VALID and is_sound(findings),
            "time_billable": worst is Verdict.VALID and is_sound(findings) and metered.timed,
            "energy_wh": metered.energy_wh,
            "duration_s": None if metered.duration is None else int(metered.duration.total_seconds()),
            "records": records,
            "findings": [finding_document(finding) for finding in findings],
        }
        output.say(dumps(document))
    else:
        for number, verification in enumerate(verifications, 1):
            output.say(f"record {number}: {verification.verdict}: {verification.text}")
        if metered.energy_wh is not None:
            output.say(f"energy {metered.energy_wh} Wh, duration {metered.duration or 'unknown'}")
        say_findings(findings)
    if worst is Verdict.MALFORMED:
        return output.DATA
    return output.OK if worst is Verdict.VALID and is_sound(findings) else output.FAILURE


def key_of(text: str) -> bytes:
    """A file's content when there is such a file, else the text itself."""
    path = Path(text)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):  # far too long for a name
        is_file = False
    if not is_file:
        return text.encode()
    with path.open("rb") as file:
        return file.read(MAX_KEY_BYTES)
