"""Single mutations of a good chain, each with every flaw that must be found, and the code that the vehicle is told.

The last tests take the checks away one by one: a check that no row would miss is a check that is not tested.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.core.contracts import verification
from agent.core.contracts.flaws import Doubt, Flaw
from agent.core.contracts.profile import CHARGER, CHECKS, CONTRACT, PROVISIONING_SERVICE, Check, Use
from agent.core.contracts.trust import Role, TrustBundle
from agent.core.contracts.verification import Outcome, Verdict, verify_chain
from tests.contract_wallet.pki_builder import (
    CONTRACT_BITS,
    CPS_LEAF,
    CPS_SUB_1,
    CPS_SUB_2,
    EMAID,
    LEAF,
    NOW,
    ROOT,
    SUB_1,
    SUB_2,
    V2G_ROOT,
    Wish,
    a_bundle,
    an_instant,
    certificate_of,
    p256,
    rsa_key,
)

GOOD = (LEAF, SUB_2, SUB_1)
CHAIN, EXPIRED = "FAILED_CertChainError", "FAILED_CertificateExpired"
MO, V2G = Role.MOBILITY_OPERATOR, Role.V2G


def under(root: Wish = ROOT, **changes: dict[str, object]) -> tuple[Wish, Wish, Wish]:
    """The good chain with these fields changed in `leaf`, `sub_2`, `sub_1`, each signed by its changed issuer."""
    sub_1 = SUB_1.but(issuer=root, **changes.get("sub_1", {}))
    sub_2 = SUB_2.but(issuer=sub_1, **changes.get("sub_2", {}))
    return LEAF.but(issuer=sub_2, **changes.get("leaf", {})), sub_2, sub_1


@dataclass(frozen=True, kw_only=True)
class Row:
    chain: Callable[[], tuple[Wish | bytes, ...]]
    flaws: frozenset[Flaw]
    code: str = CHAIN
    bundle: Callable[[], TrustBundle] = a_bundle
    claimed: str | None = EMAID
    use: Use = CONTRACT
    doubts: frozenset[Doubt] = field(default_factory=frozenset)


def row(
    chain: Callable[[], tuple[Wish | bytes, ...]],
    *flaws: Flaw,
    code: str = CHAIN,
    bundle: Callable[[], TrustBundle] = a_bundle,
    claimed: str | None = EMAID,
    use: Use = CONTRACT,
) -> Row:
    return Row(chain=chain, flaws=frozenset(flaws), code=code, bundle=bundle, claimed=claimed, use=use)


def accepted(
    chain: Callable[[], tuple[Wish | bytes, ...]],
    *,
    code: str = "OK",
    bundle: Callable[[], TrustBundle] = a_bundle,
    claimed: str | None = EMAID,
    use: Use = CONTRACT,
) -> Row:
    return Row(chain=chain, flaws=frozenset(), code=code, bundle=bundle, claimed=claimed, use=use)


def without(*bits: str) -> tuple[str, ...]:
    return tuple(bit for bit in CONTRACT_BITS if bit not in bits)


def exactly(target_bytes: int) -> bytes:
    """A good leaf of this size, filled up with an extension that nobody needs to understand."""
    oid = x509.ObjectIdentifier("1.3.6.1.4.1.55555.1")
    size = target_bytes - len(LEAF.der) - 20
    for _ in range(200):  # a DER signature is 70 to 72 bytes long, by chance
        leaf = LEAF.but(extra=((x509.UnrecognizedExtension(oid, b"\x04" * size), False),))
        der = leaf.der
        if len(der) == target_bytes:
            return der
        size += max(-3, min(target_bytes - len(der), 50))
    raise AssertionError(target_bytes)


def ber_length(der: bytes) -> bytes:
    """The same certificate with its outer length written longer than needed: BER, and no DER."""
    assert der[1] == 0x82
    return der[:1] + b"\x83\x00" + der[2:]


def negative_serial() -> bytes:
    """A serial with its sign bit set, which no issuer may give (RFC 5280, 4.1.2.2)."""
    der = LEAF.but(serial=0x7ABBCCDD).der
    assert der.count(bytes.fromhex("7abbccdd")) == 1
    return der.replace(bytes.fromhex("7abbccdd"), bytes.fromhex("fabbccdd"))


def version_1() -> bytes:
    """Without version number and extensions, as of 1988. The signature is the version 3 certificate's."""
    signed = certificate_of(LEAF).tbs_certificate_bytes
    start = signed.index(bytes.fromhex("a003020102")) + 5
    extensions = max(at for at in range(start, len(signed)) if der_from(signed, at) == len(signed))
    return sequence(sequence(signed[start:extensions]) + LEAF.der[LEAF.der.index(signed) + len(signed) :])


def der_from(content: bytes, at: int) -> int | None:
    """Where the extensions' field [3] ends that starts here, if one does."""
    return at + 2 + content[at + 1] if content[at] == 0xA3 and at + 1 < len(content) else None


def sequence(content: bytes) -> bytes:
    length = len(content)
    size = b"" if length < 128 else b"\x81" if length < 256 else b"\x82"
    return b"\x30" + size + length.to_bytes(1 + (length > 255), "big") + content


OTHER_ROOT = ROOT.but(key=p256(40), serial=40)  # the same name, another key
CPO_LEAF = LEAF.but(name="DE*ABC*E1", domain=("CPO",), bits=("digital_signature", "key_agreement"))
ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
P384, P521 = (ec.derive_private_key(99, curve) for curve in (ec.SECP384R1(), ec.SECP521R1()))
UNKNOWN_EXTENSION = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.2"), b"\x05\x00")
LATER = NOW + timedelta(days=1)
EARLIER = NOW - timedelta(days=1)
SHORT = {"not_before": NOW - timedelta(days=30), "not_after": EARLIER}
FUTURE = {"not_before": LATER}
NO_LEAF_USAGE = (Flaw.KEY_USAGE, Flaw.PATH_REFUSED)

MATRIX = {
    # what is good
    "good": accepted(lambda: GOOD),
    "reordered": accepted(lambda: (SUB_1, LEAF, SUB_2)),
    "reversed": accepted(lambda: (SUB_1, SUB_2, LEAF)),
    "root sent along": accepted(lambda: (*GOOD, ROOT)),
    "one sub-CA": accepted(lambda: (LEAF.but(issuer=SUB_2.but(issuer=ROOT)), SUB_2.but(issuer=ROOT))),
    "anchored at a V2G root": accepted(lambda: under(V2G_ROOT)),
    "roll-over, the old of two roots with one name": accepted(
        lambda: GOOD, bundle=lambda: a_bundle((OTHER_ROOT, MO), (ROOT, MO))
    ),
    "roll-over, the new of two roots with one name": accepted(
        lambda: under(OTHER_ROOT), bundle=lambda: a_bundle((ROOT, MO), (OTHER_ROOT, MO))
    ),
    "root in two roles": accepted(
        lambda: GOOD, bundle=lambda: a_bundle((ROOT, Role.CHARGE_POINT_OPERATOR), (ROOT, MO))
    ),
    "ten roots with one name": accepted(
        lambda: GOOD, bundle=lambda: a_bundle(*((ROOT.but(key=p256(60 + n)), MO) for n in range(9)), (ROOT, MO))
    ),
    "hyphens in the certificate": accepted(lambda: under(leaf={"name": "DE-8AA-001234567-0"})),
    "lower case claimed": accepted(lambda: GOOD, claimed="de-8aa-001234567"),
    "wrong check character in the certificate": accepted(
        lambda: under(leaf={"name": "UKSWI123456791A"}), claimed="UKSWI123456791A"
    ),
    "no domain component": accepted(lambda: under(leaf={"domain": ()})),
    "expires soon": accepted(
        lambda: under(leaf={"not_after": NOW + timedelta(days=13)}), code="OK_CertificateExpiresSoon"
    ),
    "800 bytes": accepted(lambda: (exactly(800), SUB_2, SUB_1)),
    "unknown extension, not critical": accepted(lambda: under(leaf={"extra": ((UNKNOWN_EXTENSION, False),)})),
    "good provisioning service": accepted(
        lambda: (CPS_LEAF, CPS_SUB_2, CPS_SUB_1), use=PROVISIONING_SERVICE, claimed=None
    ),
    # the shape of the chain
    "nothing": row(lambda: (), Flaw.NO_CERTIFICATE, code="FAILED_NoCertificateAvailable"),
    "only the root": row(lambda: (ROOT,), Flaw.NO_CERTIFICATE, code="FAILED_NoCertificateAvailable"),
    "sub-CA 1 missing": row(lambda: (LEAF, SUB_2), Flaw.UNKNOWN_ANCHOR),
    "sub-CA 2 missing": row(lambda: (LEAF, SUB_1), Flaw.UNKNOWN_ANCHOR, Flaw.LEFT_OVER),
    "leaf missing": row(
        lambda: (SUB_2, SUB_1),
        Flaw.LEAF_IS_CA, Flaw.PATH_LENGTH, Flaw.KEY_USAGE, Flaw.SUBJECT, Flaw.PATH_REFUSED,
    ),
    "leaf twice": row(lambda: (LEAF, LEAF, SUB_2), Flaw.DUPLICATE, Flaw.UNKNOWN_ANCHOR),
    "sub-CA twice": row(lambda: (LEAF, SUB_2, SUB_2, SUB_1), Flaw.DUPLICATE, Flaw.TOO_MANY),
    "extra certificate": row(lambda: (*GOOD, CPS_SUB_1), Flaw.LEFT_OVER, Flaw.TOO_MANY),
    "extra certificate, three in all": row(
        lambda: (LEAF.but(issuer=SUB_2.but(issuer=ROOT)), SUB_2.but(issuer=ROOT), CPS_SUB_1),
        Flaw.LEFT_OVER,
    ),
    "three sub-CAs": row(
        lambda: three_subs(), Flaw.TOO_MANY, Flaw.PATH_REFUSED
    ),
    "seven certificates": row(lambda: (*GOOD, CPS_LEAF, CPS_SUB_2, CPS_SUB_1, V2G_ROOT), Flaw.TOO_MANY),
    "foreign root sent along": row(
        lambda: (*GOOD, OTHER_ROOT), Flaw.SELF_SIGNED, Flaw.LEFT_OVER, Flaw.TOO_MANY
    ),
    "self-signed leaf": row(
        lambda: (LEAF.but(issuer=None),),
        Flaw.SELF_SIGNED, Flaw.UNKNOWN_ANCHOR,
    ),
    "leaf issued by the root": row(lambda: (LEAF.but(issuer=ROOT),), Flaw.ISSUED_BY_ROOT),
    "leaf issued by sub-CA 1": row(
        lambda: (LEAF.but(issuer=SUB_1), SUB_1), Flaw.PATH_LENGTH
    ),
    # who signed
    "unknown root": row(
        lambda: under(OTHER_ROOT.but(name="NobodysRootCA")), Flaw.UNKNOWN_ANCHOR
    ),
    "root with the right name and another key": row(
        lambda: under(OTHER_ROOT), Flaw.UNKNOWN_ANCHOR
    ),
    "no anchors at all": row(
        lambda: GOOD, Flaw.UNKNOWN_ANCHOR, bundle=lambda: TrustBundle(revoked_as_of=NOW)
    ),
    "leaf signed by somebody else": row(
        lambda: under(leaf={"signed_by": p256(41)}), Flaw.BAD_SIGNATURE, Flaw.PATH_REFUSED
    ),
    "sub-CA 2 signed by somebody else": row(
        lambda: under(sub_2={"signed_by": p256(41)}), Flaw.BAD_SIGNATURE, Flaw.PATH_REFUSED
    ),
    "sub-CA 1 signed by somebody else": row(
        lambda: under(sub_1={"signed_by": p256(41)}), Flaw.UNKNOWN_ANCHOR
    ),
    "right key, wrong issuer name in the leaf": row(
        lambda: under(leaf={"issuer_name": "SomebodySubCA2"}),
        Flaw.UNKNOWN_ANCHOR, Flaw.LEFT_OVER,
    ),
    "right key, wrong issuer name in sub-CA 1": row(
        lambda: under(sub_1={"issuer_name": "SomebodyRootCA"}), Flaw.UNKNOWN_ANCHOR
    ),
    "issuer name in another string type": row(
        lambda: under(leaf={"printable_issuer": True}), Flaw.PATH_REFUSED
    ),
    "a namesake of sub-CA 2 that signed nothing": row(
        lambda: (LEAF, SUB_2.but(key=p256(44)), SUB_2, SUB_1), Flaw.LEFT_OVER, Flaw.TOO_MANY
    ),
    "anchor only for charge points": row(
        lambda: GOOD, Flaw.ANCHOR_ROLE, bundle=lambda: a_bundle((ROOT, Role.CHARGE_POINT_OPERATOR))
    ),
    "anchor only for vehicles": row(
        lambda: GOOD, Flaw.ANCHOR_ROLE, bundle=lambda: a_bundle((ROOT, Role.MANUFACTURER))
    ),
    # keys and algorithms
    "RSA sub-CA 2": row(
        lambda: under(sub_2={"key": rsa_key()}, leaf={"signed_by": rsa_key()}),
        Flaw.KEY_TYPE, Flaw.BAD_SIGNATURE, Flaw.SIGNATURE_ALGORITHM,
    ),
    "RSA sub-CA 2, forged": row(  # charged with a foreign stack, since it only checks signatures of EC keys
        lambda: under(sub_2={"key": rsa_key(), "signed_by": p256(41)}, leaf={"signed_by": rsa_key()}),
        Flaw.KEY_TYPE, Flaw.BAD_SIGNATURE, Flaw.SIGNATURE_ALGORITHM, Flaw.PATH_REFUSED,
    ),
    "Ed25519 sub-CA 2": row(
        lambda: under(sub_2={"key": ED25519}, leaf={"signed_by": ED25519}),
        Flaw.KEY_TYPE, Flaw.BAD_SIGNATURE, Flaw.SIGNATURE_ALGORITHM, Flaw.PATH_REFUSED,
    ),
    "Ed25519 leaf": row(lambda: under(leaf={"key": ED25519}), Flaw.KEY_TYPE),
    "RSA leaf": row(lambda: under(leaf={"key": rsa_key()}), Flaw.KEY_TYPE),
    "P-384 leaf": row(lambda: under(leaf={"key": P384}), Flaw.KEY_TYPE),
    "P-521 leaf": row(lambda: under(leaf={"key": P521}), Flaw.KEY_TYPE),
    "P-384 sub-CA 2": row(lambda: under(sub_2={"key": P384}), Flaw.KEY_TYPE),
    "P-521 sub-CA 1": row(lambda: under(sub_1={"key": P521}), Flaw.KEY_TYPE),
    "P-384 root": row(
        lambda: under(ROOT.but(key=P384)),
        Flaw.KEY_TYPE,
        bundle=lambda: a_bundle((ROOT.but(key=P384), MO)),
    ),
    "leaf signed with SHA-384": row(
        lambda: under(leaf={"hash": hashes.SHA384()}), Flaw.SIGNATURE_ALGORITHM
    ),
    "sub-CA 1 signed with SHA-512": row(
        lambda: under(sub_1={"hash": hashes.SHA512()}), Flaw.SIGNATURE_ALGORITHM
    ),
    # bytes
    "801 bytes": row(lambda: (exactly(801), SUB_2, SUB_1), Flaw.TOO_LARGE),
    "bytes after the leaf": row(
        lambda: (LEAF.der + b"\x00", SUB_2, SUB_1),
        Flaw.UNREADABLE, Flaw.LEAF_IS_CA, Flaw.PATH_LENGTH, Flaw.KEY_USAGE, Flaw.SUBJECT, Flaw.PATH_REFUSED,
    ),
    "bytes after sub-CA 1": row(
        lambda: (LEAF, SUB_2, SUB_1.der + b"\x00"), Flaw.UNREADABLE, Flaw.UNKNOWN_ANCHOR
    ),
    "BER length in sub-CA 1": row(
        lambda: (LEAF, SUB_2, ber_length(SUB_1.der)), Flaw.UNREADABLE, Flaw.UNKNOWN_ANCHOR
    ),
    "PEM instead of DER": row(
        lambda: (LEAF, SUB_2, b"-----BEGIN CERTIFICATE-----"), Flaw.UNREADABLE, Flaw.UNKNOWN_ANCHOR
    ),
    "20 kB": row(lambda: (LEAF, SUB_2, bytes(20_000)), Flaw.UNREADABLE, Flaw.UNKNOWN_ANCHOR),
    "negative serial": row(
        lambda: (negative_serial(), SUB_2, SUB_1),
        Flaw.UNREADABLE, Flaw.LEAF_IS_CA, Flaw.PATH_LENGTH, Flaw.KEY_USAGE, Flaw.SUBJECT, Flaw.PATH_REFUSED,
    ),
    "version 1": row(
        lambda: (version_1(), SUB_2, SUB_1),
        Flaw.VERSION, Flaw.BASIC_CONSTRAINTS, Flaw.KEY_USAGE, Flaw.PATH_REFUSED, Flaw.BAD_SIGNATURE,
    ),
    # extensions
    "leaf that is a CA": row(
        lambda: under(leaf={"ca": True}), Flaw.LEAF_IS_CA, Flaw.PATH_REFUSED
    ),
    "leaf that may sign certificates": row(
        lambda: under(leaf={"bits": (*CONTRACT_BITS, "key_cert_sign")}), Flaw.LEAF_IS_CA, Flaw.PATH_REFUSED
    ),
    "leaf without basic constraints": row(
        lambda: under(leaf={"ca": None}), Flaw.BASIC_CONSTRAINTS, Flaw.PATH_REFUSED
    ),
    "leaf with basic constraints not critical": row(
        lambda: under(leaf={"constraints_critical": False}), Flaw.BASIC_CONSTRAINTS, Flaw.PATH_REFUSED
    ),
    "leaf without key usage": row(lambda: under(leaf={"bits": None}), *NO_LEAF_USAGE),
    "leaf with key usage not critical": row(lambda: under(leaf={"bits_critical": False}), *NO_LEAF_USAGE),
    "leaf without digitalSignature": row(
        lambda: under(leaf={"bits": without("digital_signature")}), Flaw.KEY_USAGE, Flaw.PATH_REFUSED
    ),
    "leaf without nonRepudiation": row(
        lambda: under(leaf={"bits": without("content_commitment")}), Flaw.KEY_USAGE
    ),
    "sub-CA 2 without CA flag": row(
        lambda: under(sub_2={"ca": False}), Flaw.NOT_A_CA, Flaw.PATH_REFUSED
    ),
    "sub-CA 1 without basic constraints": row(
        lambda: under(sub_1={"ca": None}), Flaw.NOT_A_CA, Flaw.BASIC_CONSTRAINTS, Flaw.PATH_REFUSED
    ),
    "sub-CA 1 with basic constraints not critical": row(
        lambda: under(sub_1={"constraints_critical": False}), Flaw.BASIC_CONSTRAINTS, Flaw.PATH_REFUSED
    ),
    "sub-CA 2 without keyCertSign": row(
        lambda: under(sub_2={"bits": ("crl_sign",)}), Flaw.KEY_USAGE, Flaw.PATH_REFUSED
    ),
    "sub-CA 2 without key usage": row(
        lambda: under(sub_2={"bits": None}), Flaw.KEY_USAGE, Flaw.PATH_REFUSED
    ),
    "path lengths swapped": row(
        lambda: under(sub_1={"path_length": 0}, sub_2={"path_length": 1}), Flaw.PATH_LENGTH, Flaw.PATH_REFUSED
    ),
    "sub-CA 2 without path length": row(lambda: under(sub_2={"path_length": None}), Flaw.PATH_LENGTH),
    "sub-CA 1 with path length 0": row(
        lambda: under(sub_1={"path_length": 0}), Flaw.PATH_LENGTH, Flaw.PATH_REFUSED
    ),
    "sub-CA 1 with path length 2": row(lambda: under(sub_1={"path_length": 2}), Flaw.PATH_LENGTH),
    "unknown critical extension in the leaf": row(
        lambda: under(leaf={"extra": ((UNKNOWN_EXTENSION, True),)}), Flaw.CRITICAL_EXTENSION, Flaw.PATH_REFUSED
    ),
    "unknown critical extension in sub-CA 1": row(
        lambda: under(sub_1={"extra": ((UNKNOWN_EXTENSION, True),)}), Flaw.CRITICAL_EXTENSION, Flaw.PATH_REFUSED
    ),
    "critical extended key usage": row(
        lambda: under(leaf={"extra": ((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), True),)}),
        Flaw.CRITICAL_EXTENSION,
    ),
    "critical name constraints in sub-CA 1": row(
        lambda: under(
            sub_1={"extra": ((x509.NameConstraints(None, [x509.DNSName("example.com")]), True),)}
        ),
        Flaw.CRITICAL_EXTENSION,
    ),
    # whose certificate it is
    "charger's chain offered as a contract": row(
        lambda: (CPO_LEAF.but(issuer=SUB_2), SUB_2, SUB_1),
        Flaw.WRONG_USE, Flaw.SUBJECT, Flaw.KEY_USAGE,
    ),
    "vehicle's domain component": row(lambda: under(leaf={"domain": ("OEM",)}), Flaw.WRONG_USE),
    "two domain components": row(lambda: under(leaf={"domain": ("MO", "CPO")}), Flaw.WRONG_USE),
    "common name that is no eMAID": row(lambda: under(leaf={"name": "My contract"}), Flaw.SUBJECT),
    "another eMAID claimed": row(lambda: GOOD, Flaw.EMAID_MISMATCH, claimed="DE8AA0012345681"),
    "nonsense claimed": row(lambda: GOOD, Flaw.EMAID_MISMATCH, claimed="'; DROP TABLE contracts"),
    "empty claim": row(lambda: GOOD, Flaw.EMAID_MISMATCH, claimed=""),
    "provisioning service without domain component": row(
        lambda: (CPS_LEAF.but(domain=()), CPS_SUB_2, CPS_SUB_1),
        Flaw.WRONG_USE, use=PROVISIONING_SERVICE, claimed=None,
    ),
    "contract as provisioning service": row(
        lambda: under(V2G_ROOT), Flaw.WRONG_USE, use=PROVISIONING_SERVICE, claimed=None
    ),
    "provisioning service of an MO root": row(
        lambda: (CPS_LEAF.but(issuer=SUB_2), SUB_2, SUB_1), Flaw.ANCHOR_ROLE, use=PROVISIONING_SERVICE, claimed=None
    ),
    "provisioning service as charger": row(
        lambda: (CPS_LEAF, CPS_SUB_2, CPS_SUB_1), Flaw.WRONG_USE, use=CHARGER, claimed=None
    ),
    # dates
    "leaf expired": row(
        lambda: under(leaf=dict(SHORT)), Flaw.EXPIRED, Flaw.PATH_REFUSED, code=EXPIRED
    ),
    "leaf not yet valid": row(
        lambda: under(leaf=dict(FUTURE)), Flaw.NOT_YET_VALID, Flaw.PATH_REFUSED, code=EXPIRED
    ),
    "sub-CA 2 expired": row(
        lambda: under(sub_2=dict(SHORT)), Flaw.EXPIRED, Flaw.PATH_REFUSED, code=EXPIRED
    ),
    "sub-CA 1 not yet valid": row(
        lambda: under(sub_1=dict(FUTURE)), Flaw.NOT_YET_VALID, Flaw.PATH_REFUSED, code=EXPIRED
    ),
    "root expired": row(
        lambda: under(ROOT.but(not_after=EARLIER)),
        Flaw.EXPIRED, Flaw.PATH_REFUSED,
        code=EXPIRED, bundle=lambda: a_bundle((ROOT.but(not_after=EARLIER), MO)),
    ),
    "expired and of an unknown root": row(
        lambda: under(OTHER_ROOT, leaf=dict(SHORT)), Flaw.UNKNOWN_ANCHOR, Flaw.EXPIRED
    ),
    # the fleet's lists
    "contract cancelled": row(
        lambda: GOOD, Flaw.CONTRACT_CANCELLED, code="FAILED_ContractCanceled",
        bundle=lambda: a_bundle(cancelled=frozenset({"DE8AA001234567"})),
    ),
    "contract not in the list": row(
        lambda: GOOD, Flaw.NOT_LISTED, code="FAILED_CertificateNotAllowedAtThisEVSE",
        bundle=lambda: a_bundle(allowed=frozenset({"DE8AA001234568"})),
    ),
    "contract in the list": accepted(lambda: GOOD, bundle=lambda: a_bundle(allowed=frozenset({"DE8AA001234567"}))),
    "contract in the list under its older name": accepted(
        lambda: under(leaf={"name": "NLTNMC00122045K"}), claimed="NLTNMC00122045K",
        bundle=lambda: a_bundle(allowed=frozenset({"NLTNM000122045"})),
    ),
}  # fmt: skip


def three_subs() -> tuple[Wish, ...]:
    sub_0 = SUB_1.but(name="MOSubCA0", key=p256(42), path_length=2, serial=42)
    sub_1 = SUB_1.but(issuer=sub_0)
    sub_2 = SUB_2.but(issuer=sub_1)
    return LEAF.but(issuer=sub_2), sub_2, sub_1, sub_0


def judged(row: Row) -> Verdict:
    chain = [each if isinstance(each, bytes) else each.der for each in row.chain()]
    return verify_chain(chain, claimed=row.claimed, bundle=row.bundle(), now=an_instant(), use=row.use)


@pytest.mark.parametrize("name", MATRIX)
def test_every_flaw_of_a_chain_is_found_and_no_other(name: str) -> None:
    expected = MATRIX[name]

    verdict = judged(expected)

    assert {finding.code for finding in verdict.flaws} == expected.flaws, verdict.flaws
    assert verdict.codes.iso2 == expected.code
    assert not any("DE8AA" in finding.detail for finding in verdict.flaws), "no log shall hold a whole eMAID"
    assert verdict.outcome is (Outcome.REFUSED if expected.flaws else Outcome.POSSESSION_UNPROVEN)


def test_the_matrix_holds_at_least_forty_refusals() -> None:
    assert sum(bool(each.flaws) for each in MATRIX.values()) >= 40


REFUSALS = [name for name, each in MATRIX.items() if each.flaws]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_no_check_can_be_taken_away_unnoticed(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "CHECKS", tuple(each for each in CHECKS if each is not check))

    assert any({finding.code for finding in judged(MATRIX[name]).flaws} != MATRIX[name].flaws for name in REFUSALS)


def test_the_library_s_own_opinion_is_needed() -> None:
    assert MATRIX["issuer name in another string type"].flaws == {Flaw.PATH_REFUSED}
