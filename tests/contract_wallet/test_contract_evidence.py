"""Revocation, its evidence and its age; the three states of the clock; the proof of possession."""

from __future__ import annotations

import hashlib
import random
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.contracts.certificates import key_signed, read_certificate
from agent.core.contracts.exi_fragments import Reference, authorization_request, signed_info
from agent.core.contracts.flaws import Doubt, Flaw
from agent.core.contracts.revocation import Source, hash_data
from agent.core.contracts.signatures import raw_signature
from agent.core.contracts.trust import ClockState, RevocationKey, Role, Rung, TrustBundle
from agent.core.contracts.verification import Outcome, Proof, Verdict, prove_possession, verify_chain
from agent.core.instants import ClockQuality, Instant
from tests.contract_wallet.pki_builder import (
    EMAID,
    LEAF,
    NOW,
    ROOT,
    SUB_1,
    SUB_2,
    Wish,
    a_bundle,
    a_crl,
    an_instant,
    an_ocsp_response,
    certificate_of,
    ders,
    p256,
)

GOOD = ders(LEAF, SUB_2, SUB_1)
REVOKED, UNKNOWN = ocsp.OCSPCertStatus.REVOKED, ocsp.OCSPCertStatus.UNKNOWN
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
SUBS_GOOD = tuple(an_ocsp_response(each) for each in (SUB_2, SUB_1))
RESPONDER = Wish(
    name="Responder", key=p256(50), issuer=SUB_2, ca=False, bits=("digital_signature",), serial=50,
    extra=((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), False),),
)  # fmt: skip


def judge(
    *papers: bytes,
    now: Instant | None = None,
    bundle: TrustBundle | None = None,
    crls: tuple[bytes, ...] = (),
    remembered: frozenset[RevocationKey] = frozenset(),
) -> Verdict:
    """The good chain, with these stapled OCSP responses and CRLs, and by default no list of the fleet."""
    return verify_chain(
        GOOD,
        claimed=EMAID,
        bundle=bundle or a_bundle(revoked_as_of=None, crls=crls),
        now=now or an_instant(),
        stapled=papers,
        remembered=remembered,
    )


def flaws(verdict: Verdict) -> set[Flaw | Doubt]:
    return {finding.code for finding in verdict.flaws}


def test_fresh_good_words_about_every_certificate_are_enough() -> None:
    verdict = judge(an_ocsp_response(LEAF), *SUBS_GOOD)

    assert verdict.outcome is Outcome.POSSESSION_UNPROVEN
    assert verdict.rung is Rung.FRESH
    assert not verdict.revocation_unverified
    assert {(each.source, each.age) for each in verdict.evidence} == {(Source.OCSP, timedelta(hours=1))}


def test_without_a_word_about_one_of_them_the_contract_is_refused() -> None:
    assert flaws(judge(an_ocsp_response(LEAF), SUBS_GOOD[0])) == {Flaw.NO_EVIDENCE}
    assert judge().codes.iso2 == "FAILED_CertificateNotAllowedAtThisEVSE"


def test_a_delegated_responder_of_the_issuer_may_answer() -> None:
    assert judge(an_ocsp_response(LEAF, delegate=RESPONDER), *SUBS_GOOD).rung is Rung.FRESH


UNKNOWN_EXTENSION = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.2"), b"\x05\x00")
STRANGER = SUB_2.but(key=p256(51))
USELESS = {
    "signed by a stranger with the issuer's name": lambda: an_ocsp_response(LEAF, signer=STRANGER),
    "issuer hash of a stranger": lambda: an_ocsp_response(LEAF, issuer=STRANGER, signer=SUB_2),
    "about another certificate": lambda: an_ocsp_response(LEAF.but(serial=0x0BCE)),
    "responder without the right to answer": lambda: an_ocsp_response(LEAF, delegate=RESPONDER.but(extra=())),
    "responder of another issuer": lambda: an_ocsp_response(LEAF, delegate=RESPONDER.but(issuer=SUB_1)),
    "responder that signed itself": lambda: an_ocsp_response(LEAF, delegate=RESPONDER.but(signed_by=p256(50))),
    "the leaf's own key as responder": lambda: an_ocsp_response(LEAF, delegate=LEAF),
    "responder that was not valid then": lambda: an_ocsp_response(LEAF, delegate=RESPONDER.but(not_before=NOW)),
    "issuer of another name with the same key": lambda: an_ocsp_response(
        LEAF.but(issuer_name="Other")),
    "responder with another issuer's name": lambda: an_ocsp_response(
        LEAF, delegate=RESPONDER.but(issuer_name="Other")),
    "responder with an unknown critical extension": lambda: an_ocsp_response(
        LEAF, delegate=RESPONDER.but(extra=(*RESPONDER.extra, (UNKNOWN_EXTENSION, True)))),
    "with a critical extension": lambda: an_ocsp_response(LEAF, extra=((x509.OCSPNonce(bytes(16)), True),)),
    "from the future": lambda: an_ocsp_response(LEAF, this_update=NOW + timedelta(minutes=6)),
    "noise": lambda: b"\x30\x03\x0a\x01\x00",
    "empty": lambda: b"",
    "a mere error": lambda: ocsp.OCSPResponseBuilder.build_unsuccessful(
        ocsp.OCSPResponseStatus.TRY_LATER
    ).public_bytes(Encoding.DER),
    "changed in its last byte": lambda: an_ocsp_response(LEAF)[:-1] + b"\x00",
}  # fmt: skip


@pytest.mark.parametrize("name", USELESS)
def test_an_unverified_good_word_is_no_evidence(name: str) -> None:
    assert flaws(judge(USELESS[name](), *SUBS_GOOD)) == {Flaw.NO_EVIDENCE}


@pytest.mark.parametrize(
    ("age", "until", "rung"),
    [
        (7 * DAY, NOW + DAY, Rung.FRESH),
        (7 * DAY + SECOND, NOW + DAY, Rung.STALE),
        (DAY, NOW, Rung.FRESH),
        (DAY, NOW - SECOND, Rung.STALE),
        (DAY, None, Rung.FRESH),
        (30 * DAY, NOW - DAY, Rung.STALE),
        (30 * DAY + SECOND, NOW + DAY, Rung.TOO_OLD),
    ],
)
def test_each_boundary_of_the_ladder_to_the_second(age: timedelta, until: datetime | None, rung: Rung) -> None:
    verdict = judge(an_ocsp_response(LEAF, this_update=NOW - age, next_update=until), *SUBS_GOOD)

    assert verdict.rung is rung
    assert flaws(verdict) == ({Flaw.EVIDENCE_TOO_OLD} if rung is Rung.TOO_OLD else set())
    assert verdict.revocation_unverified is (rung is not Rung.FRESH)


@pytest.mark.parametrize("about", [LEAF, SUB_2, SUB_1], ids=lambda wish: wish.name[:5])
def test_a_revocation_by_any_paper_refuses(about: Wish) -> None:
    assert about.issuer is not None
    key = hash_data(about.certificate, about.issuer.certificate).revocation_key
    verdicts = {
        "ocsp": judge(an_ocsp_response(about, status=REVOKED)),
        "crl": judge(crls=(a_crl(about.issuer, (about,)),)),
        "list": judge(bundle=a_bundle(revoked=frozenset({key}))),
        "list without a date": judge(bundle=a_bundle(revoked=frozenset({key}), revoked_as_of=None)),
        "memory": judge(remembered=frozenset({key})),
    }
    for verdict in verdicts.values():
        assert Flaw.REVOKED in flaws(verdict)
        assert (verdict.codes.iso2, verdict.codes.iso20) == ("FAILED_CertificateRevoked", "WARNING_CertificateRevoked")
        assert verdict.revoked == {key}


def test_a_known_revocation_never_lapses() -> None:
    old = an_ocsp_response(LEAF, status=REVOKED, this_update=NOW - 400 * DAY, next_update=NOW - 399 * DAY)
    newer_good = an_ocsp_response(LEAF)
    first = judge(old, newer_good, *SUBS_GOOD)
    later = judge(newer_good, *SUBS_GOOD, remembered=first.revoked)

    assert flaws(first) == {Flaw.REVOKED}
    assert flaws(later) == {Flaw.REVOKED}
    assert flaws(judge(newer_good, *SUBS_GOOD, bundle=a_bundle(), remembered=first.revoked)) == {Flaw.REVOKED}


def test_a_revocation_from_the_future_counts_although_a_good_word_from_there_does_not() -> None:
    """Their clock or ours is wrong, and which one nobody knows: what errs must err to the refusal."""
    ahead = NOW + 2 * DAY
    key = hash_data(LEAF.certificate, SUB_2.certificate).revocation_key
    good = an_ocsp_response(LEAF)
    verdicts = (
        judge(an_ocsp_response(LEAF, status=REVOKED, this_update=ahead), good, *SUBS_GOOD),
        judge(good, *SUBS_GOOD, bundle=a_bundle(revoked=frozenset({key}), revoked_as_of=ahead)),
    )

    assert [flaws(each) for each in verdicts] == [{Flaw.REVOKED}] * 2
    assert [each.revoked for each in verdicts] == [{key}] * 2
    assert flaws(judge(an_ocsp_response(LEAF, this_update=ahead), *SUBS_GOOD)) == {Flaw.NO_EVIDENCE}


def test_a_stranger_cannot_revoke() -> None:
    forged = an_ocsp_response(LEAF, status=REVOKED, signer=STRANGER)
    verdict = judge(forged, an_ocsp_response(LEAF), *SUBS_GOOD)

    assert verdict.outcome is Outcome.POSSESSION_UNPROVEN
    assert not verdict.revoked


def test_a_made_up_hierarchy_fills_no_memory() -> None:
    root = ROOT.but(key=p256(52))
    sub = SUB_2.but(issuer=root)
    leaf = LEAF.but(issuer=sub)
    verdict = verify_chain(
        ders(leaf, sub), claimed=EMAID, bundle=a_bundle(), now=an_instant(),
        stapled=[an_ocsp_response(leaf, status=REVOKED)],
    )  # fmt: skip
    assert not verdict.revoked


def test_the_newest_word_decides_between_good_and_unknown() -> None:
    older_good = an_ocsp_response(LEAF, this_update=NOW - timedelta(hours=2))

    assert flaws(judge(older_good, an_ocsp_response(LEAF, status=UNKNOWN), *SUBS_GOOD)) == {Flaw.STATUS_UNKNOWN}
    older_unknown = an_ocsp_response(LEAF, status=UNKNOWN, this_update=NOW - timedelta(hours=2))
    assert flaws(judge(older_unknown, an_ocsp_response(LEAF), *SUBS_GOOD)) == set()


def test_crls_are_evidence_when_their_issuer_signed_them_whole() -> None:
    good = tuple(a_crl(each) for each in (SUB_2, SUB_1, ROOT))
    partial = x509.IssuingDistributionPoint(None, None, True, False, None, False, False)

    assert judge(crls=good).rung is Rung.FRESH
    assert flaws(judge(crls=(a_crl(SUB_2, signed_by=p256(51)), *good[1:]))) == {Flaw.NO_EVIDENCE}
    assert flaws(judge(crls=(a_crl(SUB_2, extra=((partial, True),)), *good[1:]))) == {Flaw.NO_EVIDENCE}
    assert flaws(judge(crls=good[1:])) == {Flaw.NO_EVIDENCE}
    assert flaws(judge(crls=(a_crl(SUB_2.but(name="Other")), *good[1:]))) == {Flaw.NO_EVIDENCE}
    assert Flaw.REVOKED not in flaws(judge(crls=(a_crl(SUB_2, (LEAF,), signed_by=p256(51)), *good[1:])))


def test_an_issuer_without_the_right_to_sign_lists_proves_nothing_by_one() -> None:
    sub_2 = SUB_2.but(bits=("key_cert_sign",))
    verdict = verify_chain(
        ders(LEAF.but(issuer=sub_2), sub_2, SUB_1), claimed=EMAID, now=an_instant(),
        bundle=a_bundle(revoked_as_of=None, crls=tuple(a_crl(each) for each in (sub_2, SUB_1, ROOT))),
    )  # fmt: skip
    assert flaws(verdict) == {Flaw.NO_EVIDENCE}


def test_evidence_about_a_path_that_proves_nothing_is_worth_nothing() -> None:
    broken = LEAF.but(signed_by=p256(41))
    verdict = verify_chain(ders(broken, SUB_2, SUB_1), claimed=EMAID, bundle=a_bundle(), now=an_instant())
    assert verdict.rung is Rung.NONE


def test_without_a_clock_nobody_can_say_what_is_the_future() -> None:
    now = CLOCKS["never set"]
    assert judge(an_ocsp_response(LEAF, this_update=FLOOR + 9 * DAY), *SUBS_GOOD, now=now).rung is Rung.STALE
    leaf = LEAF.but(not_before=FLOOR + DAY)
    verdict = verify_chain(ders(leaf, SUB_2, SUB_1), claimed=EMAID, bundle=a_bundle(revoked_as_of=FLOOR), now=now)
    assert verdict.outcome is Outcome.POSSESSION_UNPROVEN
    assert Doubt.VALIDITY_UNKNOWN in {each.code for each in verdict.doubts}


def test_the_fleet_s_list_is_evidence_as_old_as_it_is() -> None:
    assert judge(bundle=a_bundle()).rung is Rung.FRESH
    assert judge(bundle=a_bundle(revoked_as_of=NOW - 20 * DAY)).rung is Rung.STALE
    assert flaws(judge(bundle=a_bundle(revoked_as_of=NOW - 31 * DAY))) == {Flaw.EVIDENCE_TOO_OLD}


# --- time -------------------------------------------------------------------------------------------------------------

FLOOR = NOW - 2 * DAY
CLOCKS = {
    "trusted": an_instant(),
    "bounded": an_instant(quality=ClockQuality.HOLDOVER),
    "never set": an_instant(datetime(1970, 1, 1, tzinfo=UTC), floor=FLOOR, quality=ClockQuality.UNKNOWN),
    "unproven but right": an_instant(floor=FLOOR, quality=ClockQuality.UNKNOWN),
    "five years ahead": an_instant(NOW + 1826 * DAY, floor=FLOOR, quality=ClockQuality.UNKNOWN),
    "behind the floor": an_instant(FLOOR - timedelta(hours=1), floor=FLOOR),
}


@pytest.mark.parametrize("name", CLOCKS)
def test_a_good_contract_is_accepted_with_every_clock_but_not_fully_without_one(name: str) -> None:
    verdict = judge(bundle=a_bundle(revoked_as_of=FLOOR), now=CLOCKS[name])
    untrusted = name not in {"trusted", "bounded"}

    assert verdict.outcome is Outcome.POSSESSION_UNPROVEN
    assert (verdict.clock is ClockState.UNTRUSTED) is untrusted
    assert verdict.rung is (Rung.STALE if untrusted else Rung.FRESH)
    assert (Doubt.VALIDITY_UNKNOWN in {each.code for each in verdict.doubts}) is untrusted


@pytest.mark.parametrize("name", CLOCKS)
def test_what_expired_before_the_floor_is_expired_with_every_clock(name: str) -> None:
    leaf = LEAF.but(not_after=FLOOR - SECOND)
    verdict = verify_chain(ders(leaf, SUB_2, SUB_1), claimed=EMAID, bundle=a_bundle(), now=CLOCKS[name])

    assert Flaw.EXPIRED in flaws(verdict)
    assert verdict.codes.iso2 == "FAILED_CertificateExpired"
    assert verdict.codes.iso20 == "WARNING_CertificateExpired"


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (LEAF.not_before - SECOND, {Flaw.NOT_YET_VALID}),
        (LEAF.not_before, set()),
        (LEAF.not_after, set()),
        (LEAF.not_after + SECOND, {Flaw.EXPIRED}),
        (datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC), {Flaw.EXPIRED}),
    ],
)
def test_the_edges_of_validity_to_the_second(moment: datetime, expected: set[Flaw]) -> None:
    leaf = LEAF.but(not_before=NOW - 5 * DAY, not_after=NOW + 5 * DAY)
    shift = moment - LEAF.not_before if moment <= LEAF.not_before else moment - LEAF.not_after
    at = (leaf.not_before if moment <= LEAF.not_before else leaf.not_after) + shift
    verdict = verify_chain(
        ders(leaf, SUB_2, SUB_1), claimed=EMAID, bundle=a_bundle(revoked_as_of=at), now=an_instant(at)
    )

    found = flaws(verdict) & {Flaw.NOT_YET_VALID, Flaw.EXPIRED}
    assert found == expected
    if Flaw.NOT_YET_VALID in expected:
        assert verdict.codes.iso20 == "WARNING_CertificateNotYetValid"


@settings(max_examples=60, deadline=None)
@given(st.integers(-800, 1200), st.integers(0, 4000), st.sampled_from(ClockQuality))
def test_setting_a_trusted_clock_back_never_turns_a_refusal_into_a_grant(
    day: int, back_days: int, quality: ClockQuality
) -> None:
    """A synchronised clock raises the floor, so what was refused as expired stays refused at any earlier time; and
    what was refused as not yet valid, unless there was no clock at all since the boot."""
    moment = NOW + day * DAY
    bundle = a_bundle(revoked_as_of=max(NOW - 3000 * DAY, moment - DAY))
    before = judge(bundle=bundle, now=an_instant(moment))
    after = judge(bundle=bundle, now=an_instant(moment - back_days * DAY, floor=moment, quality=quality))

    if Flaw.EXPIRED in flaws(before):
        assert after.outcome is Outcome.REFUSED
    if Flaw.NOT_YET_VALID in flaws(before) and quality is not ClockQuality.UNKNOWN:
        assert after.outcome is Outcome.REFUSED


# --- possession -------------------------------------------------------------------------------------------------------

CHALLENGE = bytes(range(16))


def a_proof(*, id: str = "id1", challenge: bytes = CHALLENGE, key: ec.EllipticCurvePrivateKey | None = None) -> Proof:
    digest = hashlib.sha256(authorization_request(id, challenge)).digest()
    references = (Reference(id=id, digest=digest),)
    signer = key or p256(5)
    signature = raw_signature(signer.sign(signed_info(references), ec.ECDSA(hashes.SHA256())))
    return Proof(id=id, challenge=challenge, references=references, signature=signature)


def test_a_chain_alone_never_authorises_and_the_proof_does() -> None:
    chain_only = judge(bundle=a_bundle())
    proven = prove_possession(chain_only, challenge=CHALLENGE, proof=a_proof())

    assert chain_only.outcome is Outcome.POSSESSION_UNPROVEN
    assert proven.outcome is Outcome.AUTHORISED
    assert proven.codes.iso2 == "OK"


def test_the_right_key_does_not_save_a_refused_chain() -> None:
    refused = judge()
    assert prove_possession(refused, challenge=CHALLENGE, proof=a_proof()).outcome is Outcome.REFUSED


def flipped(proof: Proof) -> Proof:
    return Proof(
        id=proof.id, challenge=proof.challenge, references=proof.references,
        signature=bytes([proof.signature[0] ^ 1]) + proof.signature[1:],
    )  # fmt: skip


def relabelled(proof: Proof) -> Proof:
    return Proof(id="id2", challenge=proof.challenge, references=proof.references, signature=proof.signature)


def doubled(proof: Proof) -> Proof:
    references = proof.references * 2
    signature = raw_signature(p256(5).sign(signed_info(references), ec.ECDSA(hashes.SHA256())))
    return Proof(id=proof.id, challenge=proof.challenge, references=references, signature=signature)


def in_der(proof: Proof) -> Proof:
    der = p256(5).sign(signed_info(proof.references), ec.ECDSA(hashes.SHA256()))
    return Proof(id=proof.id, challenge=proof.challenge, references=proof.references, signature=der)


def longer(proof: Proof) -> Proof:
    """The same r and s, the latter with a leading zero: two spellings of a signature are one too many."""
    signature = proof.signature[:32] + b"\x00" + proof.signature[32:]
    return Proof(id=proof.id, challenge=proof.challenge, references=proof.references, signature=signature)


def unsigned(proof: Proof) -> Proof:
    return Proof(id=proof.id, challenge=proof.challenge, references=(), signature=proof.signature)


@pytest.mark.parametrize(
    ("proof", "expected", "code"),
    [
        (flipped(a_proof()), {Flaw.REQUEST_SIGNATURE}, "FAILED_SignatureError"),
        (a_proof(key=p256(53)), {Flaw.REQUEST_SIGNATURE}, "FAILED_SignatureError"),
        (a_proof(challenge=bytes(16)), {Flaw.CHALLENGE}, "FAILED_ChallengeInvalid"),
        (relabelled(a_proof()), {Flaw.SIGNED_ELEMENT}, "FAILED_SignatureError"),
        (doubled(a_proof()), {Flaw.SIGNED_ELEMENT}, "FAILED_SignatureError"),
        (in_der(a_proof()), {Flaw.REQUEST_SIGNATURE}, "FAILED_SignatureError"),
        (longer(a_proof()), {Flaw.REQUEST_SIGNATURE}, "FAILED_SignatureError"),
        (unsigned(a_proof()), {Flaw.SIGNED_ELEMENT, Flaw.REQUEST_SIGNATURE}, "FAILED_SignatureError"),
    ],
)
def test_a_wrong_proof_says_what_is_wrong_with_it(proof: Proof, expected: set[Flaw], code: str) -> None:
    verdict = prove_possession(judge(bundle=a_bundle()), challenge=CHALLENGE, proof=proof)

    assert flaws(verdict) == expected
    assert verdict.codes.iso2 == code


# --- names of certificates in OCPP ------------------------------------------------------------------------------------


def test_hash_data_of_a_hundred_certificates_is_what_openssl_computes(tmp_path: Path) -> None:
    """A leading zero nibble, a byte that would be negative, all twenty bytes; and random serials of every length."""
    rng = random.Random(20261122)
    serials = [0x01, 0x0A0B, 0x80, 0x7F << 144, int.from_bytes(bytes(range(1, 21)), "big"), (1 << 159) - 1]
    serials += [rng.randrange(1, 1 << (8 * rng.randint(1, 20) - 1)) for _ in range(94)]
    leaves = [LEAF.but(serial=serial) for serial in serials]
    files = []
    for number, wish in enumerate((SUB_2, *leaves)):
        files.append(tmp_path / f"{number}.pem")
        files[-1].write_bytes(certificate_of(wish).public_bytes(Encoding.PEM))
    command: list[str | Path] = ["openssl", "ocsp", "-sha256", "-issuer", files[0], "-req_text", "-no_nonce"]
    for file in files[1:]:
        command += ["-cert", file]
    text = subprocess.run(
        [*command, "-reqout", tmp_path / "request"], check=True, capture_output=True, text=True
    ).stdout
    told = [line.strip().split(": ") for line in text.splitlines() if ": " in line]
    names, keys, numbers = (
        [value.lower() for key, value in told if key == wanted]
        for wanted in ("Issuer Name Hash", "Issuer Key Hash", "Serial Number")
    )
    data = [hash_data(each.certificate, SUB_2.certificate) for each in leaves]

    assert len(numbers) == 100
    assert [each.issuer_name_hash for each in data] == names
    assert [each.issuer_key_hash for each in data] == keys
    assert [each.serial_number for each in data] == [each.lstrip("0") for each in numbers]
    assert {each.hash_algorithm for each in data} == {"SHA256"}


def test_hash_data_names_every_certificate_below_the_root() -> None:
    verdict = judge(bundle=a_bundle())
    assert [each.serial_number for each in verdict.hash_data] == ["bcd", "4", "3"]


def test_a_signature_over_sha1_proves_nothing() -> None:
    for algorithm, holds in ((hashes.SHA1(), False), (hashes.SHA256(), True)):  # noqa: S303
        signature = p256(5).sign(b"content", ec.ECDSA(algorithm))
        assert key_signed(LEAF.certificate, signature, b"content", algorithm) is holds


def test_a_key_that_is_written_compressed_is_not_of_the_profile(tmp_path: Path) -> None:
    """Its hash in OCSP would be another than the one that everybody computes from the point."""
    commands = (
        "ecparam -name prime256v1 -genkey -noout -out long.pem",
        "ec -in long.pem -conv_form compressed -out key.pem",
        "req -x509 -new -key key.pem -subj /CN=x -outform DER -out certificate.der",
    )
    for command in commands:
        subprocess.run(["openssl", *command.split()], cwd=tmp_path, check=True, capture_output=True)
    certificate = read_certificate((tmp_path / "certificate.der").read_bytes())

    assert certificate.key is not None
    assert not certificate.is_p256


# --- untrusted bytes --------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2), st.integers(0, 600), st.integers(0, 255), st.binary(max_size=6))
def test_damaged_certificates_and_papers_are_refused_and_never_raise(
    which: int, at: int, value: int, inserted: bytes
) -> None:
    der = GOOD[which]
    at %= len(der)
    damaged = der[:at] + bytes([value]) + inserted + der[at + 1 :]
    chain = [*GOOD[:which], damaged, *GOOD[which + 1 :]]
    paper = an_ocsp_response(LEAF)
    verdict = verify_chain(
        chain, claimed=EMAID, bundle=a_bundle(), now=an_instant(), stapled=[paper[:at] + inserted + paper[at:]]
    )

    assert (verdict.outcome is Outcome.REFUSED) or damaged == der


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=7), st.text(max_size=20))
def test_noise_is_refused_and_never_raises(chain: list[bytes], claimed: str) -> None:
    verdict = verify_chain(chain, claimed=claimed, bundle=a_bundle(), now=an_instant())
    assert verdict.outcome is Outcome.REFUSED


def test_an_anchor_in_the_wrong_role_is_told_in_the_verdict() -> None:
    verdict = judge(bundle=a_bundle((ROOT, Role.MANUFACTURER)))

    assert verdict.anchor is not None
    assert verdict.anchor.role is Role.MANUFACTURER
    assert verdict.anchor.fingerprint == hashlib.sha256(ROOT.der).hexdigest()
