"""What a vehicle's or a charger's stack asks the local API about contracts, as JSON, and what it is answered.

Bytes are base64, as in the messages of ISO 15118 themselves. Wrong documents raise MessageUnfit and reach nobody.
Serving them over the socket is agent/api.py; the verdict's document is verdicts.py.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from agent.contracts.wallet import Authorization, Context, Installed, NotSigned
from agent.core.contracts.contract import USABLE, Contract, State, Wanted
from agent.core.contracts.emaid import read_emaid
from agent.core.contracts.exi_fragments import MAX_ROOT_IDS, MeterReading, Reference, RootId
from agent.core.contracts.installation import InstallationResponse, NotInstalled
from agent.core.contracts.signing import MeteringReceiptRequest, Signed, Unsignable
from agent.core.contracts.verification import Proof
from agent.core.decisions import NeedsInput
from agent.core.limits import Limits

MAX_TEXT = 256
MAX_BINARY_BYTES = 8_192
MAX_CERTIFICATES = 8
MAX_PRIORITY = 1_000
MAX_NAMES = 128  # of providers or roots a charger says it knows


class MessageUnfit(Exception):
    """The document does not say what it must; the text says what is wrong where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationAsked:
    id: str
    challenge: bytes
    context: Context
    wanted: Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptAsked:
    """A MeteringReceiptReq of the session that `decision` permitted, with the contract that signed then."""

    request: MeteringReceiptRequest
    decision: str
    fingerprint: str
    context: Context


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAsked:
    """A CertificateInstallationReq that is to be signed with the vehicle's own key."""

    id: str
    provisioning_certificate: bytes
    roots: tuple[RootId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationAsked:
    """`proof` and the challenge that was sent come together, or the chain alone is judged."""

    chain: tuple[bytes, ...]
    claimed: str
    stapled: tuple[bytes, ...]
    challenge: bytes | None
    proof: Proof | None


def read_authorization(document: object) -> AuthorizationAsked:
    """`{"id", "challenge", "context": {...}, "emaid", "providers", "roots"}`; all but the first two may be left out."""
    fields = _object("", document, required={"id", "challenge"}, optional={"context", "emaid", "providers", "roots"})
    emaid = fields.get("emaid")
    return AuthorizationAsked(
        id=_text("id", fields["id"]),
        challenge=_binary("challenge", fields["challenge"]),
        context=_context(fields.get("context", {})),
        wanted=Wanted(
            emaid=None if emaid is None else _emaid("emaid", emaid),
            providers=_names("providers", fields.get("providers")),
            roots=_names("roots", fields.get("roots")),
        ),
    )


def read_installation(document: object) -> InstallationResponse:
    """A CertificateInstallationRes: `provisioning_chain`, four elements with `id`, and the header's `signature`."""
    fields = _object(
        "", document,
        required={"provisioning_chain", "contract_chain", "encrypted_private_key", "dh_public_key", "emaid",
                  "signature"},
        optional=set(),
    )  # fmt: skip
    chain = _object("contract_chain", fields["contract_chain"], required={"id", "certificates"}, optional=set())
    certificates = _binaries("contract_chain.certificates", chain["certificates"])
    if not certificates:
        raise MessageUnfit("contract_chain.certificates: the contract's own certificate comes first, none is here")
    key_id, key = _element("encrypted_private_key", fields["encrypted_private_key"])
    dh_id, dh = _element("dh_public_key", fields["dh_public_key"])
    emaid = _object("emaid", fields["emaid"], required={"id", "value"}, optional=set())
    references, signature = _signature(fields["signature"])
    return InstallationResponse(
        provisioning_chain=_binaries("provisioning_chain", fields["provisioning_chain"]),
        contract_chain_id=_text("contract_chain.id", chain["id"]),
        contract_leaf=certificates[0],
        contract_subs=certificates[1:],
        encrypted_key_id=key_id,
        encrypted_key=key,
        dh_public_key_id=dh_id,
        dh_public_key=dh,
        emaid_id=_text("emaid.id", emaid["id"]),
        emaid=_text("emaid.value", emaid["value"]),
        references=references,
        signature=signature,
    )


def read_request(document: object) -> RequestAsked:
    """`{"id", "provisioning_certificate", "roots": [{"issuer", "serial"}, ...]}`; a serial is a whole number."""
    fields = _object("", document, required={"id", "provisioning_certificate", "roots"}, optional=set())
    roots = []
    for index, each in enumerate(_list("roots", fields["roots"], MAX_ROOT_IDS)):
        root = _object(f"roots.{index}", each, required={"issuer", "serial"}, optional=set())
        serial = root["serial"]
        if isinstance(serial, bool) or not isinstance(serial, int) or not 0 <= serial < 2**160:
            raise MessageUnfit(f"roots.{index}.serial: is no serial number of at most 20 bytes")
        roots.append(RootId(issuer=_text(f"roots.{index}.issuer", root["issuer"]), serial=serial))
    return RequestAsked(
        id=_text("id", fields["id"]),
        provisioning_certificate=_binary("provisioning_certificate", fields["provisioning_certificate"]),
        roots=tuple(roots),
    )


def read_receipt(document: object) -> ReceiptAsked:
    """`{"decision", "fingerprint", "id", "session", "schedule", "meter": {...}, "context"}`, as MeteringReceiptReq."""
    fields = _object(
        "",
        document,
        required={"decision", "fingerprint", "id", "session", "schedule", "meter"},
        optional={"context"},
    )
    meter = _object("meter", fields["meter"], required={"id"}, optional={"reading_wh", "signature", "status", "time"})
    reading = MeterReading(
        meter=_text("meter.id", meter["id"]),
        reading_wh=_whole("meter.reading_wh", meter.get("reading_wh")),
        signature=_binary("meter.signature", meter["signature"]) if "signature" in meter else None,
        status=_whole("meter.status", meter.get("status")),
        time=_whole("meter.time", meter.get("time")),
    )
    schedule = _whole("schedule", fields["schedule"])
    try:
        request = MeteringReceiptRequest(
            id=_text("id", fields["id"]),
            session=_binary("session", fields["session"]),
            schedule=0 if schedule is None else schedule,
            reading=reading,
        )
    except Unsignable as error:
        raise MessageUnfit(str(error)) from error
    return ReceiptAsked(
        request=request,
        decision=_text("decision", fields["decision"]),
        fingerprint=_text("fingerprint", fields["fingerprint"]).lower(),
        context=_context(fields.get("context", {})),
    )


def read_priority(value: object) -> int | None:
    """Of `{"priority"}`; the contract with the lowest is used first. None is as before, or the usual one."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_PRIORITY:
        raise MessageUnfit(f"priority: is no whole number from 0 to {MAX_PRIORITY}")
    return value


def read_session_end(document: object) -> str:
    """`{"decision"}`: the decision by which the contract signed."""
    return _text("decision", _object("", document, required={"decision"}, optional=set())["decision"])


def read_fingerprint(document: object) -> str:
    """`{"fingerprint"}`: SHA-256 of a contract's own certificate, in hex."""
    fingerprint = _text("fingerprint", _object("", document, required={"fingerprint"}, optional=set())["fingerprint"])
    if len(fingerprint) != 64:
        raise MessageUnfit("fingerprint: is no SHA-256 in hex, see GET /v1/contracts")
    return fingerprint.lower()


def read_verification(document: object) -> VerificationAsked:
    """`{"chain", "emaid", "ocsp", "challenge", "proof": {"id", "challenge", "signature": {...}}}`."""
    fields = _object("", document, required={"chain", "emaid"}, optional={"ocsp", "challenge", "proof"})
    if ("proof" in fields) != ("challenge" in fields):
        raise MessageUnfit("proof: comes together with the challenge that was sent")
    return VerificationAsked(
        chain=_binaries("chain", fields["chain"]),
        claimed=_text("emaid", fields["emaid"]),
        stapled=_binaries("ocsp", fields.get("ocsp", [])),
        challenge=_binary("challenge", fields["challenge"]) if "challenge" in fields else None,
        proof=_proof(fields["proof"]) if "proof" in fields else None,
    )


def authorization_document(answer: Authorization | NotSigned) -> dict[str, Any]:
    """A signature with what the messages need, or a refusal with every reason; never both."""
    if isinstance(answer, NotSigned):
        reasons = [] if answer.decision is None else [asdict(each) for each in answer.decision.reasons]
        return {
            "signed": False,
            "obstruction": answer.obstruction,
            "detail": answer.detail,
            "reasons": reasons,
            "needs": sorted(answer.decision.prompts) if isinstance(answer.decision, NeedsInput) else [],
            "explanation": list(answer.explanation),
        }
    return {
        "signed": True,
        "emaid": answer.contract.emaid.canonical + (answer.contract.emaid.check or ""),
        "fingerprint": answer.contract.fingerprint,
        "limits": _limits(answer.limits),
        "chain": [_base64(each) for each in answer.contract.chain],
        **_signed(answer.signed),
        "explanation": list(answer.explanation),
    }


def _limits(limits: Limits) -> dict[str, Any]:
    """What the session may not exceed: whoever speaks with the charger keeps to it, nobody else sees this session."""
    cost = limits.cost
    told: dict[str, Any] = {
        "max_energy_wh": limits.max_energy_wh,
        "max_duration_s": limits.max_duration_s,
        "target_soc_percent": limits.target_soc_percent,
        "max_cost": None
        if cost is None
        else {
            "currency": cost.prices.currency,
            "net": None if cost.net is None else str(cost.net),
            "gross": None if cost.gross is None else str(cost.gross),
        },
    }
    return {name: value for name, value in told.items() if value is not None}


def request_document(answer: Signed | NotSigned) -> dict[str, Any]:
    if isinstance(answer, NotSigned):
        return {"signed": False, "obstruction": answer.obstruction, "detail": answer.detail}
    return {"signed": True, **_signed(answer)}


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
        "usable": state in USABLE,
    }


def installation_document(answer: Installed | NotInstalled) -> dict[str, Any]:
    if isinstance(answer, NotInstalled):
        return {
            "installed": False,
            "obstacle": answer.obstacle,
            "detail": answer.detail,
            "flaws": [{"code": each.code, "detail": each.detail} for each in answer.findings],
        }
    return {"installed": True, "fingerprint": answer.contract.fingerprint, "repeated": answer.repeated}


def _signed(signed: Signed) -> dict[str, Any]:
    return {
        "fragment": _base64(signed.fragment),
        "signed_info": _base64(signed.signed_info),
        "references": [{"uri": f"#{each.id}", "digest": _base64(each.digest)} for each in signed.references],
        "signature": _base64(signed.signature),
    }


def _context(value: object) -> Context:
    texts = ("evse", "network", "country", "session")
    fields = _object("context", value, required=set(), optional=set(texts))
    told = {name: _text(f"context.{name}", fields[name]) for name in texts if name in fields}
    return Context(
        evse=told.get("evse"),
        network=told.get("network"),
        country=told.get("country"),
        session=told.get("session"),
    )


def _proof(value: object) -> Proof:
    fields = _object("proof", value, required={"id", "challenge", "signature"}, optional=set())
    references, signature = _signature(fields["signature"])
    return Proof(
        id=_text("proof.id", fields["id"]),
        challenge=_binary("proof.challenge", fields["challenge"]),
        references=references,
        signature=signature,
    )


def _signature(value: object) -> tuple[tuple[Reference, ...], bytes]:
    fields = _object("signature", value, required={"references", "value"}, optional=set())
    references = []
    for index, each in enumerate(_list("signature.references", fields["references"])):
        where = f"signature.references.{index}"
        reference = _object(where, each, required={"uri", "digest"}, optional=set())
        uri = _text(f"{where}.uri", reference["uri"])
        if not uri.startswith("#"):
            raise MessageUnfit(f"{where}.uri: begins with #, since it names an element of the message")
        references.append(Reference(id=uri[1:], digest=_binary(f"{where}.digest", reference["digest"])))
    return tuple(references), _binary("signature.value", fields["value"])


def _element(where: str, value: object) -> tuple[str, bytes]:
    fields = _object(where, value, required={"id", "value"}, optional=set())
    return _text(f"{where}.id", fields["id"]), _binary(f"{where}.value", fields["value"])


def _object(where: str, value: object, *, required: set[str], optional: set[str]) -> Mapping[str, Any]:
    name = where or "the document"
    if not isinstance(value, dict):
        raise MessageUnfit(f"{name}: is no object")
    if missing := required - value.keys():
        raise MessageUnfit(f"{name}: lacks {', '.join(sorted(missing))}")
    if unknown := value.keys() - required - optional:
        raise MessageUnfit(f"{name}: has the unknown {', '.join(sorted(map(str, unknown)))}")
    return value


def _list(where: str, value: object, most: int = MAX_CERTIFICATES) -> list[object]:
    if not isinstance(value, list) or len(value) > most:
        raise MessageUnfit(f"{where}: is no list of at most {most}")
    return value


def _text(where: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise MessageUnfit(f"{where}: is no text of at most {MAX_TEXT} characters")
    return value


def _whole(where: str, value: object) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise MessageUnfit(f"{where}: is no whole number")
    return value


def _binary(where: str, value: object) -> bytes:
    try:
        content = base64.b64decode(value if isinstance(value, str) else "!", validate=True)
    except ValueError as error:
        raise MessageUnfit(f"{where}: is no base64") from error
    if len(content) > MAX_BINARY_BYTES:
        raise MessageUnfit(f"{where}: has more than {MAX_BINARY_BYTES} bytes")
    return content


def _binaries(where: str, value: object) -> tuple[bytes, ...]:
    return tuple(_binary(f"{where}.{index}", each) for index, each in enumerate(_list(where, value)))


def _names(where: str, value: object) -> frozenset[str] | None:
    return None if value is None else frozenset(_text(where, each) for each in _list(where, value, MAX_NAMES))


def _emaid(where: str, value: object) -> str:
    try:
        return read_emaid(_text(where, value)).canonical
    except ValueError as error:
        raise MessageUnfit(f"{where}: is no eMAID") from error


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
