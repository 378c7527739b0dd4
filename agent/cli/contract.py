"""`roamkey contract verify|list|show`: judge a contract's chain offline, and see what the vehicle's wallet holds."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli import output

if TYPE_CHECKING:
    from agent.core.contracts.contract import Contract, State
    from agent.core.contracts.trust import TrustBundle
    from agent.core.contracts.verification import Verdict
    from agent.core.instants import Instant

HELP = "judge a Plug & Charge contract offline, show the vehicle's contracts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    verify = actions.add_parser("verify", help="judge a contract's certificate chain, without any network")
    verify.add_argument("--chain", type=Path, required=True, metavar="FILE", help="PEM or DER, in any order")
    verify.add_argument("--anchors", type=Path, required=True, metavar="DIR", help="roots, below mo/ and v2g/")
    verify.add_argument("--emaid", metavar="EMAID", help="the contract that is claimed")
    verify.add_argument("--at", type=moment, metavar="TIME", help="judge as of this time (RFC 3339)")
    verify.add_argument("--revocations", type=Path, metavar="FILE", help="the fleet's contracts/revocations.json")
    verify.add_argument("--ocsp", type=Path, action="append", default=[], metavar="FILE", help="a response, DER")
    verify.add_argument("--crl", type=Path, action="append", default=[], metavar="FILE", help="a list, DER")
    verify.add_argument(
        "--without-evidence", action="store_true", help="ask for no evidence against a revocation (known ones count)"
    )
    lists = actions.add_parser("list", help="the contracts in the wallet, and their states")
    show = actions.add_parser("show", help="one contract of the wallet")
    show.add_argument("fingerprint", metavar="FINGERPRINT", help="of its certificate; the beginning is enough")
    for action in (lists, show):
        action.add_argument("--wallet", type=Path, required=True, metavar="FOLDER", help="the wallet's folder")
    for action in (verify, lists, show):
        action.add_argument("--json", action="store_true", help="for programs")


def main(arguments: argparse.Namespace) -> int:
    from agent.contracts.certificate_files import FilesUnfit
    from agent.contracts.shelf import ShelfDamaged
    from agent.contracts.trust_documents import TrustUnfit

    actions = {"verify": verify, "list": show_all, "show": show_one}
    try:
        return actions[arguments.action](arguments)
    except (FilesUnfit, TrustUnfit, ShelfDamaged) as error:
        output.complain(str(error))
        return output.DATA
    except OSError as error:
        output.complain(f"{error.filename}: {error.strerror}")
        return output.NO_INPUT


def verify(arguments: argparse.Namespace) -> int:
    from agent.contracts.certificate_files import read_chain_file
    from agent.contracts.verdicts import verdict_document
    from agent.core.contracts.trust import DEFAULT_LADDER
    from agent.core.contracts.verification import verify_chain

    verdict = verify_chain(
        read_chain_file(arguments.chain),
        claimed=arguments.emaid,
        bundle=trust(arguments),
        now=instant(arguments.at),
        stapled=[path.read_bytes() for path in arguments.ocsp],
        ladder=None if arguments.without_evidence else DEFAULT_LADDER,
    )
    if arguments.json:
        output.print_json(verdict_document(verdict))
    else:
        for line in told(verdict):
            output.say(line)
    return output.DATA if verdict.flaws else output.OK


def show_all(arguments: argparse.Namespace) -> int:
    contracts, states = wallet(arguments)
    if arguments.json:
        output.print_json([contract_document(each, states[each.fingerprint]) for each in contracts])
        return output.OK
    output.table(
        "contracts",
        ("contract", "state", "valid until", "priority", "certificate"),
        [
            (
                str(each.emaid),
                states[each.fingerprint],
                f"{each.not_after:%Y-%m-%d}",
                each.priority,
                each.fingerprint[:16],
            )
            for each in contracts
        ],
    )
    return output.OK


def show_one(arguments: argparse.Namespace) -> int:
    contracts, states = wallet(arguments)
    found = [each for each in contracts if each.fingerprint.startswith(arguments.fingerprint.lower())]
    if len(found) != 1:
        what = "no contract" if not found else f"{len(found)} contracts"
        output.complain(f"{what} with a certificate {arguments.fingerprint}...: see `roamkey contract list`")
        return output.NO_INPUT
    document = contract_document(found[0], states[found[0].fingerprint])
    if arguments.json:
        output.print_json(document)
    else:
        for name, value in document.items():
            output.say(f"{name.replace('_', ' ')}: {'none' if value is None else value}")
    return output.OK


def trust(arguments: argparse.Namespace) -> TrustBundle:
    from dataclasses import replace

    from agent.contracts.certificate_files import read_anchor_folder
    from agent.contracts.trust_documents import with_revocations
    from agent.core.contracts.trust import TrustBundle

    bundle = TrustBundle(anchors=read_anchor_folder(arguments.anchors))
    if arguments.revocations is not None:
        bundle = with_revocations(bundle, arguments.revocations.read_bytes())
    return replace(bundle, crls=(*bundle.crls, *(path.read_bytes() for path in arguments.crl)))


def instant(at: datetime | None) -> Instant:
    """This machine's clock and what is known of it, or the time that the operator vouches for."""
    from dataclasses import replace

    from agent.clock import SystemClock
    from agent.core.instants import ClockQuality

    now = SystemClock().now()
    return now if at is None else replace(now, utc=at, floor=at, quality=ClockQuality.SYNCHRONISED)


def wallet(arguments: argparse.Namespace) -> tuple[tuple[Contract, ...], dict[str, State]]:
    """Read only: no key is opened and nothing is put in order."""
    from agent.contracts.shelf import read_shelf
    from agent.core.contracts.contract import state_of

    arguments.wallet.stat()
    contracts = read_shelf(arguments.wallet / "contracts.json").contracts
    now = instant(None)
    return contracts, {each.fingerprint: state_of(each, contracts, now=now, revoked=frozenset()) for each in contracts}


def contract_document(contract: Contract, state: State) -> dict[str, Any]:
    return {
        "emaid": str(contract.emaid),
        "state": state,
        "not_before": contract.not_before.isoformat(),
        "not_after": contract.not_after.isoformat(),
        "issuer": contract.issuer,
        "serial": format(contract.serial, "x"),
        "certificates": len(contract.chain),
        "fingerprint": contract.fingerprint,
        "priority": contract.priority,
        "installed": contract.installed.isoformat(),
        "key": contract.key,
    }


def told(verdict: Verdict) -> list[str]:
    named = str(verdict.emaid) if verdict.emaid is not None else "no contract"
    judgement = (
        "REFUSED" if verdict.flaws else "chain accepted; that its holder has the key is proven by a signature only"
    )
    lines = [f"{named}: {judgement}", f"answer to the vehicle: {verdict.codes.iso2} (-20: {verdict.codes.iso20})"]
    lines += [f"  {each.code}: {each.detail}" for each in verdict.flaws]
    lines += [f"  note {each.code}: {each.detail}" for each in verdict.doubts]
    if verdict.anchor is not None:
        lines.append(f"anchor: {verdict.anchor.subject} ({verdict.anchor.role}, {verdict.anchor.fingerprint[:16]})")
    lines.append(f"evidence against a revocation: {verdict.rung}")
    lines.append(f"judged as of {verdict.judged_at:%Y-%m-%d %H:%M:%S} UTC, clock {verdict.clock}")
    return lines


def moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
