"""Charging sessions of a foreign stack: with our wallet in its vehicle, and our verifier behind its charger's hook.

Each runs the stack's real vehicle against its real charger over TLS, about 20 s. Run by `make interop`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from agent.contracts.software_keys import SoftwareKeys
from agent.contracts.wallet import PROVISIONING_KEY, Asked, Authorization, Context, Installed, Wallet
from agent.core.contracts.certificates import read_certificate
from agent.core.contracts.exi_fragments import Reference, RootId
from agent.core.contracts.flaws import Flaw
from agent.core.contracts.installation import InstallationResponse
from agent.core.contracts.revocation import hash_data
from agent.core.contracts.signatures import raw_signature
from agent.core.contracts.signing import Signed, authorization_request_of, fragment_of, to_be_signed
from agent.core.contracts.trust import Anchor, Role, TrustBundle
from agent.core.contracts.verification import Outcome, Verdict, verify_chain
from agent.core.decisions import Granted, Limits
from agent.core.instants import Instant
from tests.contract_wallet.oracle_session import Session, a_foreign_pki, charge
from tests.contract_wallet.pki_builder import LEAF, ROOT, SUB_1, SUB_2, Wish, an_instant, p256, rsa_key
from tests.contract_wallet.provisioning import PASSPHRASE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


def now() -> Instant:
    return an_instant(datetime.now(UTC))


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_foreign_pki(tmp_path_factory.mktemp("foreign") / "pki")


def foreign(pki: Path, name: str) -> bytes:
    return (pki / "iso15118_2" / "certs" / name).read_bytes()


def foreign_key(pki: Path, name: str) -> ec.EllipticCurvePrivateKey:
    folder = pki / "iso15118_2" / "private_keys"
    key = load_pem_private_key((folder / name).read_bytes(), (folder / "oemLeafPassword.txt").read_bytes().strip())
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def foreign_trust(pki: Path) -> TrustBundle:
    roots = (("moRootCACert.der", Role.MOBILITY_OPERATOR), ("v2gRootCACert.der", Role.V2G))
    return TrustBundle(
        anchors=tuple(Anchor(certificate=read_certificate(foreign(pki, name)), role=role) for name, role in roots),
        revoked_as_of=NOW - DAY,
    )


@dataclass
class VehicleWithWallet:
    """Answers the foreign vehicle out of our wallet."""

    wallet: Wallet
    bundle: TrustBundle

    def __call__(self, asked: dict[str, Any]) -> Any:
        acts = {"contract": self.contract, "challenge": given, "sign": self.sign, "install": self.install}
        return acts[asked["do"]](asked)

    def contract(self, asked: dict[str, Any]) -> dict[str, Any]:
        [contract] = self.wallet.contracts
        return {"chain": [each.hex() for each in contract.chain], "emaid": contract.emaid.canonical}

    def sign(self, asked: dict[str, Any]) -> dict[str, Any]:
        fragment = bytes.fromhex(asked["fragment"])
        signed = self.authorize(fragment) if fragment[1] == 4 else self.ask_for_installation(asked)
        assert signed.fragment == fragment, "what we sign is what the stack sends, to the bit"
        return {
            "references": [(each.id, each.digest.hex()) for each in signed.references],
            "signature": signed.signature.hex(),
        }

    def authorize(self, fragment: bytes) -> Signed:
        request = authorization_request_of(fragment)
        answer = self.wallet.sign_authorization(
            request.id, request.challenge, context=Context(), permit=permitted, now=now()
        )
        assert isinstance(answer, Authorization), answer
        return answer.signed

    def ask_for_installation(self, asked: dict[str, Any]) -> Signed:
        issuer, serial = asked["root"]
        answer = self.wallet.sign_installation_request(
            asked["id"],
            provisioning_certificate=bytes.fromhex(asked["vehicle"]),
            roots=(RootId(issuer=issuer, serial=serial),),
        )
        assert isinstance(answer, Signed), answer
        return answer

    def install(self, asked: dict[str, Any]) -> str:
        contract_id, contract = asked["contract"]
        (key_id, key), (dh_id, dh), (emaid_id, emaid) = asked["key"], asked["dh"], asked["emaid"]
        response = InstallationResponse(
            provisioning_chain=tuple(bytes.fromhex(each) for each in asked["service"]),
            contract_chain_id=contract_id,
            contract_leaf=bytes.fromhex(contract[0]),
            contract_subs=tuple(bytes.fromhex(each) for each in contract[1:]),
            encrypted_key_id=key_id,
            encrypted_key=bytes.fromhex(key),
            dh_public_key_id=dh_id,
            dh_public_key=bytes.fromhex(dh),
            emaid_id=emaid_id,
            emaid=emaid,
            references=tuple(
                Reference(id=uri.removeprefix("#"), digest=bytes.fromhex(digest)) for uri, digest in asked["references"]
            ),
            signature=bytes.fromhex(asked["signature"]),
        )
        answer = self.wallet.install(response, bundle=self.bundle, now=now())
        assert isinstance(answer, Installed), answer
        return answer.contract.fingerprint


def given(asked: dict[str, Any]) -> Any:
    """The charger's challenge as it came."""
    return asked["given"]


def permitted(asked: Asked) -> Granted:
    return Granted(limits=Limits())


def charged(session: Session) -> None:
    assert session.refused is None, session.tail()
    assert session.charging_messages > 0, session.tail()
    assert session.stopped_in_order, session.tail()


def test_a_contract_is_installed_through_a_foreign_charger_and_then_used(tmp_path: Path, pki: Path) -> None:
    """(a) and (b): the wallet is empty before; its signature with the installed key is what the charger accepts."""
    keys = SoftwareKeys(folder=tmp_path / "keys", passphrase=PASSPHRASE)
    vehicle_key = foreign_key(pki, "oemLeaf.key")
    keys.bring(PROVISIONING_KEY, vehicle_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    wallet = Wallet(tmp_path / "wallet", keys)
    vehicle = VehicleWithWallet(wallet=wallet, bundle=foreign_trust(pki))

    installing = charge(tmp_path / "installing", pki, vehicle=vehicle, installing=True)
    charged(installing)
    assert [each.chain[0] for each in wallet.contracts] == [foreign(pki, "contractLeafCert.der")]

    reopened = VehicleWithWallet(wallet=Wallet(tmp_path / "wallet", keys), bundle=vehicle.bundle)
    charged(charge(tmp_path / "using", pki, vehicle=reopened, charger=a_charger(foreign_trust(pki))))


# --- our verifier behind the foreign charger's hook -------------------------------------------------------------------


def today(wish: Wish, **changes: Any) -> Wish:
    return wish.but(**{"not_before": NOW - 30 * DAY, "not_after": NOW + 300 * DAY, **changes})


MO_ROOT = today(ROOT)
MO_SUB_1 = today(SUB_1, issuer=MO_ROOT)
MO_SUB_2 = today(SUB_2, issuer=MO_SUB_1)
CONTRACT = today(LEAF, issuer=MO_SUB_2)
STRANGE_SUB_1 = MO_SUB_1.but(issuer=MO_ROOT.but(key=p256(80)))
STRANGE_SUB_2 = MO_SUB_2.but(issuer=STRANGE_SUB_1)
RSA_SUB_2 = MO_SUB_2.but(key=rsa_key(), signed_by=p256(81))


@dataclass
class BadVehicle:
    """Presents any chain as any contract, and signs with the leaf's key: no wallet would."""

    chain: tuple[Wish, ...]
    claimed: str = LEAF.name
    challenge: bytes | None = None  # instead of the charger's
    bad_signature: bool = False

    def __call__(self, asked: dict[str, Any]) -> Any:
        if asked["do"] == "contract":
            return {"chain": [each.der.hex() for each in self.chain], "emaid": self.claimed}
        if asked["do"] == "challenge":
            return asked["given"] if self.challenge is None else self.challenge.hex()
        request = authorization_request_of(bytes.fromhex(asked["fragment"]))
        prepared = to_be_signed(request)
        assert fragment_of(request).hex() == asked["fragment"]
        key = self.chain[0].key
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        signature = bytearray(raw_signature(key.sign(prepared.signed_info, ec.ECDSA(hashes.SHA256()))))
        signature[40] ^= self.bad_signature
        return {
            "references": [(each.id, each.digest.hex()) for each in prepared.references],
            "signature": signature.hex(),
        }


def a_charger(bundle: TrustBundle, verdicts: list[Verdict] | None = None) -> Callable[[dict[str, Any]], Any]:
    """`verdicts` collects what our verifier was asked for and said."""

    def verify(asked: dict[str, Any]) -> dict[str, Any]:
        chain = [bytes.fromhex(each) for each in asked["chain"]]
        verdict = verify_chain(chain, claimed=asked["emaid"], bundle=bundle, now=now())
        if verdicts is not None:
            verdicts.append(verdict)
        return {"accepted": verdict.outcome is not Outcome.REFUSED, "code": verdict.codes.iso2}

    return verify


def own_trust(**changes: Any) -> TrustBundle:
    anchors = (Anchor(certificate=MO_ROOT.certificate, role=Role.MOBILITY_OPERATOR),)
    return replace(TrustBundle(anchors=anchors, revoked_as_of=NOW - DAY), **changes)


@pytest.fixture(scope="module")
def own_pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stack's own, but the root of contracts is ours: the charger itself trusts it, too."""
    folder = a_foreign_pki(tmp_path_factory.mktemp("own") / "pki")
    (folder / "iso15118_2" / "certs" / "moRootCACert.der").write_bytes(MO_ROOT.der)
    return folder


def test_a_good_contract_charges_with_our_verifier_behind_the_hook(tmp_path: Path, own_pki: Path) -> None:
    vehicle = BadVehicle((CONTRACT, MO_SUB_2, MO_SUB_1))
    verdicts: list[Verdict] = []
    charged(charge(tmp_path / "session", own_pki, vehicle=vehicle, charger=a_charger(own_trust(), verdicts)))
    assert [each.outcome for each in verdicts] == [Outcome.POSSESSION_UNPROVEN]


# Our flaw, and the code on the wire: the stack turns what PaymentDetailsRes may not carry into FAILED.
REFUSALS: dict[str, tuple[BadVehicle, TrustBundle, Flaw, str]] = {
    "unknown root": (
        BadVehicle((CONTRACT.but(issuer=STRANGE_SUB_2), STRANGE_SUB_2, STRANGE_SUB_1)), own_trust(),
        Flaw.UNKNOWN_ANCHOR, "FAILED"),
    "RSA sub-CA, forged": (
        BadVehicle((CONTRACT.but(issuer=RSA_SUB_2), RSA_SUB_2, MO_SUB_1)), own_trust(),
        Flaw.KEY_TYPE, "FAILED"),
    "another eMAID claimed": (
        BadVehicle((CONTRACT, MO_SUB_2, MO_SUB_1), claimed="DE8AA0012345681"), own_trust(),
        Flaw.EMAID_MISMATCH, "FAILED"),
    "revoked": (
        BadVehicle((CONTRACT, MO_SUB_2, MO_SUB_1)),
        own_trust(revoked=frozenset({hash_data(CONTRACT.certificate, MO_SUB_2.certificate).revocation_key})),
        Flaw.REVOKED, "FAILED_CERTIFICATE_REVOKED"),
    "expired": (
        BadVehicle((CONTRACT.but(not_after=NOW - DAY), MO_SUB_2, MO_SUB_1)), own_trust(),
        Flaw.EXPIRED, "FAILED_CERTIFICATE_EXPIRED"),
    "not yet valid": (
        BadVehicle((CONTRACT.but(not_before=NOW + DAY), MO_SUB_2, MO_SUB_1)), own_trust(),
        Flaw.NOT_YET_VALID, "FAILED_CERTIFICATE_EXPIRED"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_our_verifier_refuses_does_not_charge(tmp_path: Path, own_pki: Path, name: str) -> None:
    vehicle, bundle, flaw, code = REFUSALS[name]
    verdicts: list[Verdict] = []

    session = charge(tmp_path / "session", own_pki, vehicle=vehicle, charger=a_charger(bundle, verdicts))

    [verdict] = verdicts
    assert flaw in {each.code for each in verdict.flaws}, (verdict, session.tail())
    assert session.refused == code, session.tail()
    assert session.charging_messages == 0, session.tail()


BAD_PROOFS = {
    "a bit of the signature": (
        BadVehicle((CONTRACT, MO_SUB_2, MO_SUB_1), bad_signature=True), "FAILED_SIGNATURE_ERROR"),
    "another challenge": (
        BadVehicle((CONTRACT, MO_SUB_2, MO_SUB_1), challenge=bytes(16)), "FAILED_CHALLENGE_INVALID"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_PROOFS)
def test_a_good_chain_whose_holder_proves_nothing_is_refused_by_the_charger(
    tmp_path: Path, own_pki: Path, name: str
) -> None:
    """The stack shows its hook no signature: this part it judges itself."""
    vehicle, code = BAD_PROOFS[name]
    verdicts: list[Verdict] = []

    session = charge(tmp_path / "session", own_pki, vehicle=vehicle, charger=a_charger(own_trust(), verdicts))

    assert [each.outcome for each in verdicts] == [Outcome.POSSESSION_UNPROVEN], session.tail()
    assert session.refused == code, session.tail()
    assert session.charging_messages == 0, session.tail()
