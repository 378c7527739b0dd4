"""`roamkey contract`: the vehicle's wallet through the running service, and a chain judged offline without one."""

from __future__ import annotations

import argparse
import base64
import json
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli import output
from agent.cli.client import DEFAULT_CONFIG, add_service_arguments, api_of, config_of

if TYPE_CHECKING:
    from agent.core.contracts.trust import TrustBundle
    from agent.core.contracts.verification import Verdict
    from agent.core.instants import Instant

HELP = "install, show, renew and try the vehicle's Plug & Charge contracts, or judge one offline"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    verify = actions.add_parser("verify", help="judge a contract's certificate chain, without any network")
    verify.add_argument("--chain", type=Path, required=True, metavar="FILE", help="PEM or DER, in any order")
    verify.add_argument("--anchors", type=Path, required=True, metavar="DIR", help="roots, below mo/ and v2g/")
    verify.add_argument("--emaid", type=emaid, metavar="EMAID", help="the contract that is claimed")
    verify.add_argument("--at", type=moment, metavar="TIME", help="judge as of this time (RFC 3339)")
    verify.add_argument("--revocations", type=Path, metavar="FILE", help="the fleet's contracts/revocations.json")
    verify.add_argument("--ocsp", type=Path, action="append", default=[], metavar="FILE", help="a response, DER")
    verify.add_argument("--crl", type=Path, action="append", default=[], metavar="FILE", help="a list, DER")
    verify.add_argument(
        "--without-evidence", action="store_true", help="ask for no evidence against a revocation (known ones count)"
    )
    lists = actions.add_parser("list", help="the contracts in the wallet, and their states")
    show = actions.add_parser("show", help="one contract of the wallet")
    for action in (lists, show):
        action.add_argument("--wallet", type=Path, metavar="FOLDER", help="read this wallet, without a service")
    install = actions.add_parser("install", help="verify a CertificateInstallationRes whole and keep its contract")
    install.add_argument("file", type=Path, metavar="FILE", help="as POST /v1/contracts/install takes it, JSON")
    install.add_argument("--priority", type=int, metavar="N", help="the lowest is used first (default: as before, 100)")
    provision = actions.add_parser("provision", help="bring the vehicle's provisioning key; the service need not run")
    provision.add_argument("key", type=Path, metavar="KEY", help="PEM or DER, without a password; delete it afterwards")
    provision.add_argument("--config", type=Path, help=f"the service's configuration (default: {DEFAULT_CONFIG})")
    renew = actions.add_parser("renew", help="sign a CertificateInstallationReq; the vehicle's stack sends it")
    renew.add_argument(
        "--certificate", type=Path, required=True, metavar="FILE", help="the provisioning one, PEM or DER"
    )
    renew.add_argument("--root", type=root, action="append", required=True, metavar="SERIAL:ISSUER", help="known roots")
    renew.add_argument("--id", default="id1", help="Id of the message's element (default: id1)")
    remove = actions.add_parser("remove", help="destroy a contract's key and forget the contract")
    for action in (show, remove):
        action.add_argument("fingerprint", metavar="FINGERPRINT", help="of its certificate; the beginning is enough")
    test = actions.add_parser("sign-test", help="ask for a signature over a random challenge, as a charge would")
    for name in ("evse", "network", "country"):
        test.add_argument(f"--{name}", help=f"the charger's {name}")
    test.add_argument("--emaid", type=emaid, help="which contract")
    for action in (lists, show, install, renew, remove, test):
        add_service_arguments(action)
    verify.add_argument("--json", action="store_true", help="for programs")


def main(arguments: argparse.Namespace) -> int:
    from agent.contracts.certificate_files import FilesUnfit
    from agent.contracts.shelf import ShelfDamaged
    from agent.contracts.trust_documents import TrustUnfit

    actions = {
        "verify": verify,
        "list": show_all,
        "show": show_one,
        "install": install,
        "provision": provision,
        "renew": renew,
        "remove": remove,
        "sign-test": sign_test,
    }
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
    contracts = wallet(arguments)
    if arguments.json:
        output.print_json(contracts)
        return output.OK
    output.table(
        "contracts",
        ("contract", "state", "valid until", "priority", "certificate"),
        [
            (each["emaid"], each["state"], each["not_after"][:10], each["priority"], each["fingerprint"][:16])
            for each in contracts
        ],
    )
    return output.OK


def show_one(arguments: argparse.Namespace) -> int:
    document = the_one(arguments)
    if arguments.json:
        output.print_json(document)
    else:
        for name, value in document.items():
            output.say(f"{name.replace('_', ' ')}: {'none' if value is None else value}")
    return output.OK


def install(arguments: argparse.Namespace) -> int:
    try:
        response = json.loads(arguments.file.read_bytes())
    except ValueError as error:
        output.complain(f"{arguments.file}: is no JSON ({error})")
        return output.DATA
    if arguments.priority is not None and isinstance(response, dict):
        response["priority"] = arguments.priority
    answer = api_of(arguments).post("/v1/contracts/install", response)
    if arguments.json:
        output.print_json(answer)
    elif answer["installed"]:
        done = "is here already" if answer["repeated"] else "is installed"
        output.say(f"the contract {done}: certificate {answer['fingerprint'][:16]}")
    else:
        output.say(f"not installed, {answer['obstacle']}: {answer['detail']}")
        for flaw in answer["flaws"]:
            output.say(f"  {flaw['code']}: {flaw['detail']}")
    return output.OK if answer["installed"] else output.DATA


def provision(arguments: argparse.Namespace) -> int:
    """Run as the service's user: what it writes must be readable for the service, and for nobody else."""
    from agent.contract_desk import open_files
    from agent.contracts.key_store import KeyStoreError
    from agent.contracts.wallet import PROVISIONING_KEY

    config = config_of(arguments.config or DEFAULT_CONFIG)
    if config.contracts is None:
        raise output.Hopeless(
            output.CONFIG, "this device has no wallet: add a [contracts] section to its configuration"
        )
    if config.contracts.pkcs11 is not None:
        told = f"keys are in the token {config.contracts.pkcs11.token}: make the vehicle's there, P-256, with the label"
        raise output.Hopeless(output.CONFIG, f"{told} roamkey:{PROVISIONING_KEY}")
    private = arguments.key.read_bytes()
    try:
        keys = open_files(config.contracts, config.contracts_folder)
        if PROVISIONING_KEY in keys.names():
            raise output.Hopeless(output.DATA, "the vehicle has its provisioning key already; nothing was changed")
        keys.bring(PROVISIONING_KEY, private)
    except KeyStoreError as error:
        output.complain(str(error))
        return output.DATA
    output.say(f"the vehicle's provisioning key is kept, encrypted; now delete {arguments.key}")
    return output.OK


def renew(arguments: argparse.Namespace) -> int:
    from agent.contracts.certificate_files import read_chain_file

    certificate = base64.b64encode(read_chain_file(arguments.certificate)[0]).decode()
    asked = {"id": arguments.id, "provisioning_certificate": certificate, "roots": arguments.root}
    answer = api_of(arguments).post("/v1/contracts/sign-installation", asked)
    if arguments.json:
        output.print_json(answer)
    elif answer["signed"]:
        output.say("signed; with --json, what the vehicle's stack sends in its CertificateInstallationReq")
    else:
        output.say(f"not signed, {answer['obstruction']}: {answer['detail']}")
    return output.OK if answer["signed"] else output.FAILURE


def remove(arguments: argparse.Namespace) -> int:
    answer = api_of(arguments).post("/v1/contracts/remove", {"fingerprint": the_one(arguments)["fingerprint"]})
    if arguments.json:
        output.print_json(answer)
    else:
        output.say(f"removed: the contract with certificate {answer['removed'][:16]}, and its key")
    return output.OK


def sign_test(arguments: argparse.Namespace) -> int:
    """Decided and recorded like any other, and ended at once: the contract is in use for no longer.

    The signature is checked here, with the certificate's public key.
    """
    from agent.core.contracts.certificates import read_certificate
    from agent.core.contracts.exi_fragments import Reference
    from agent.core.contracts.signatures import signature_holds

    context = {name: getattr(arguments, name) for name in ("evse", "network", "country")}
    asked: dict[str, Any] = {
        "id": "id1",
        "challenge": base64.b64encode(secrets.token_bytes(16)).decode(),
        "context": {name: value for name, value in context.items() if value is not None},
    }
    if arguments.emaid is not None:
        asked["emaid"] = arguments.emaid
    api = api_of(arguments)
    answer = api.post("/v1/contracts/sign-authorization", asked)
    holds = False
    if answer["signed"]:
        api.post("/v1/contracts/session-ended", {"decision": answer["decision"]})
        references = tuple(
            Reference(id=each["uri"][1:], digest=base64.b64decode(each["digest"])) for each in answer["references"]
        )
        point = read_certificate(base64.b64decode(answer["chain"][0])).point
        holds = signature_holds(point, references, base64.b64decode(answer["signature"]))
    if arguments.json:
        output.print_json(answer | {"holds": holds})
    elif answer["signed"]:
        output.say(f"signed; the signature {'holds' if holds else 'DOES NOT HOLD'}; decision {answer['decision']}")
    else:
        output.say(f"not signed, {answer['obstruction']}: {answer['detail']}; decision {answer['decision'] or 'none'}")
        for reason in answer["reasons"]:
            output.say(f"  {reason['code']}  {reason['observed'] or 'missing'}, allowed: {reason['limit'] or 'none'}")
    for line in answer["explanation"] if not arguments.json else ():
        output.say(f"  {line}")
    return output.OK if holds else output.FAILURE


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


def wallet(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Of the running service. From a folder it is read only: no key is opened and nothing is put in order. What the
    verifier beside it remembers counts; the fleet's list of revocations is with the service only."""
    if arguments.wallet is None:
        return list(api_of(arguments).get("/v1/contracts")["contracts"])
    from agent.contracts.messages import contract_document
    from agent.contracts.revocations import MEMORY, RememberedRevocations
    from agent.contracts.shelf import read_shelf
    from agent.core.contracts.contract import state_of

    arguments.wallet.stat()
    contracts = read_shelf(arguments.wallet / "contracts.json").contracts
    known = RememberedRevocations(arguments.wallet.resolve().parent / MEMORY).known
    revoked = frozenset(each.fingerprint for each in contracts if each.revocation_keys & known)
    now = instant(None)
    return [contract_document(each, state_of(each, contracts, now=now, revoked=revoked)) for each in contracts]


def the_one(arguments: argparse.Namespace) -> dict[str, Any]:
    """The contract whose certificate's fingerprint begins so."""
    arguments.wallet = getattr(arguments, "wallet", None)
    found = [each for each in wallet(arguments) if each["fingerprint"].startswith(arguments.fingerprint.lower())]
    if len(found) != 1:
        what = "no contract" if not found else f"{len(found)} contracts"
        hint = f"{what} with a certificate {arguments.fingerprint}...: see `roamkey contract list`"
        raise output.Hopeless(output.NO_INPUT, hint)
    return found[0]


def root(text: str) -> dict[str, Any]:
    """`SERIAL:ISSUER`, as the message names a root; the serial in decimal."""
    serial, _, issuer = text.partition(":")
    if not serial.isdecimal() or not issuer:
        raise argparse.ArgumentTypeError("give SERIAL:ISSUER, such as 12345:CN=V2GRootCA")
    return {"issuer": issuer, "serial": int(serial)}


def emaid(text: str) -> str:
    """Typed by a person: nothing but its check character tells a slip of the fingers."""
    from agent.core.contracts.emaid import read_typed_emaid

    try:
        read = read_typed_emaid(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return read.canonical + (read.check or "")


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
