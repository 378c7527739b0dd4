from __future__ import annotations

import argparse
import base64
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import OCSPCertStatus

from agent.cli import contract as command
from agent.cli import output
from agent.contracts.revocations import MEMORY, RememberedRevocations
from agent.contracts.trust_documents import ANCHORS, REVOCATIONS, TrustUnfit, read_trust
from agent.contracts.verifier import Verifier
from agent.core.contracts.revocation import hash_data
from agent.core.contracts.trust import RevocationKey, Role
from agent.core.contracts.verification import Outcome
from tests.contract_wallet.pki_builder import (
    EMAID,
    LEAF,
    NOW,
    ROOT,
    SUB_1,
    SUB_2,
    V2G_ROOT,
    a_bundle,
    an_instant,
    an_ocsp_response,
    certificate_of,
)
from tests.contract_wallet.provisioning import FileHome, a_response

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: object) -> tuple[int, str]:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        code = command.main(parser.parse_args([str(word) for word in words]))
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A chain in PEM and in DER, and a folder of roots."""
    wishes = (SUB_1, LEAF, SUB_2)
    (tmp_path / "chain.pem").write_bytes(b"".join(certificate_of(each).public_bytes(Encoding.PEM) for each in wishes))
    (tmp_path / "chain.der").write_bytes(b"".join(each.der for each in wishes))
    for role, wish in (("mo", ROOT), ("v2g", V2G_ROOT)):
        (tmp_path / "roots" / role).mkdir(parents=True)
        (tmp_path / "roots" / role / "root.der").write_bytes(wish.der)
    for number, wish in enumerate(wishes):
        (tmp_path / f"{number}.ocsp").write_bytes(an_ocsp_response(wish))
    return tmp_path


def asked(files: Path, *more: object, chain: str = "chain.pem") -> list[object]:
    return [
        "verify", "--chain", files / chain, "--anchors", files / "roots", "--at", NOW.isoformat(), *more,
    ]  # fmt: skip


@pytest.mark.parametrize("chain", ["chain.pem", "chain.der"])
def test_a_good_chain_with_its_evidence_is_accepted(run: Run, files: Path, chain: str) -> None:
    papers = [word for number in range(3) for word in ("--ocsp", files / f"{number}.ocsp")]
    code, told = run(*asked(files, "--emaid", EMAID, "--json", *papers, chain=chain))
    document = json.loads(told)

    assert code == output.OK
    assert document["outcome"] == "possession_unproven"
    assert document["codes"]["iso15118-2"] == "OK"
    assert (document["anchor"]["role"], document["rung"], document["clock"]) == ("mo", "fresh", "trusted")
    assert [each["serialNumber"] for each in document["certificate_hash_data"]] == ["bcd", "4", "3"]


def test_without_evidence_it_is_refused_unless_none_is_asked_for(run: Run, files: Path) -> None:
    code, told = run(*asked(files))
    assert code == output.DATA
    assert "NO_EVIDENCE" in told
    assert run(*asked(files, "--without-evidence"))[0] == output.OK


def test_another_claimed_contract_is_refused_in_words(run: Run, files: Path) -> None:
    code, told = run(*asked(files, "--without-evidence", "--emaid", "DE8AA001234568"))
    assert code == output.DATA
    assert "REFUSED" in told
    assert "EMAID_MISMATCH" in told


WRONG_CHECK = "DE-8AA-001234567-9"


def test_a_typed_contract_with_a_wrong_check_character_is_refused_before_anything_is_judged(
    run: Run, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (asked(files, "--without-evidence", "--emaid", WRONG_CHECK), ["sign-test", "--emaid", WRONG_CHECK]):
        with pytest.raises(SystemExit):
            run(*words)
        assert "does not belong to DE8AA001234567" in capsys.readouterr().err
    assert run(*asked(files, "--without-evidence", "--emaid", " de-8aa-001234567-0 "))[0] == output.OK
    assert run(*asked(files, "--without-evidence", "--emaid", "DE8AA001234567"))[0] == output.OK


def test_the_fleet_s_list_is_heeded(run: Run, files: Path) -> None:
    key = hash_data(LEAF.certificate, SUB_2.certificate).revocation_key
    (files / "revocations.json").write_text(json.dumps(revocations(key)))
    code, told = run(*asked(files, "--revocations", files / "revocations.json"))
    assert code == output.DATA
    assert "FAILED_CertificateRevoked" in told


def test_missing_and_wrong_files_are_told_with_what_is_wanted(run: Run, files: Path) -> None:
    assert run("verify", "--chain", files / "none", "--anchors", files / "roots")[0] == output.NO_INPUT
    (files / "empty").mkdir()
    code, told = run("verify", "--chain", files / "chain.pem", "--anchors", files / "empty")
    assert (code, "holds no root" in told) == (output.DATA, True)
    (files / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    assert "no certificate" in run("verify", "--chain", files / "key.pem", "--anchors", files / "roots")[1]


def test_noise_in_the_chain_file_is_refused(run: Run, files: Path) -> None:
    (files / "noise").write_bytes(b"\x30\x82\xff\xff" + bytes(100))
    code, told = run(*asked(files, chain="noise"))
    assert (code, "UNREADABLE" in told) == (output.DATA, True)


def test_the_wallet_is_listed_and_shown(run: Run, tmp_path: Path) -> None:
    wallet = FileHome(folder=tmp_path).wallet()
    wallet.install(a_response(), bundle=a_bundle(), now=an_instant())
    folder = tmp_path / "wallet"

    code, told = run("list", "--wallet", folder)
    assert code == output.OK
    assert "DE-8AA-001234567-0" in told
    document = json.loads(run("list", "--wallet", folder, "--json")[1])[0]
    assert (document["serial"], document["certificates"]) == ("bcd", 3)
    assert run("show", document["fingerprint"][:10], "--wallet", folder)[0] == output.OK
    with pytest.raises(output.Hopeless, match="no contract with a certificate ffff"):
        run("show", "ffff", "--wallet", folder)
    assert run("list", "--wallet", tmp_path / "nowhere")[0] == output.NO_INPUT


def test_what_the_verifier_beside_the_wallet_knows_to_be_revoked_is_listed_so(run: Run, tmp_path: Path) -> None:
    FileHome(folder=tmp_path).wallet().install(a_response(), bundle=a_bundle(), now=an_instant())
    listed = ("list", "--wallet", tmp_path / "wallet", "--json")
    key = hash_data(LEAF.certificate, SUB_2.certificate).revocation_key
    Verifier(tmp_path / "verifier", bundle=a_bundle())
    assert json.loads(run(*listed)[1])[0]["state"] != "revoked"
    assert not (tmp_path / MEMORY).exists(), "looking writes nothing"

    RememberedRevocations(tmp_path / MEMORY).remember(frozenset({key}))

    document = json.loads(run(*listed)[1])[0]
    assert (document["state"], document["usable"]) == ("revoked", False)


# --- the fleet's documents --------------------------------------------------------------------------------------------


def revocations(*keys: RevocationKey) -> dict[str, Any]:
    return {
        "schema": 1,
        "issued": NOW.isoformat(),
        "revoked": [{"issuer_key_hash": each.issuer_key_hash.upper(), "serial": "00" + each.serial} for each in keys],
        "ocsp": [base64.b64encode(an_ocsp_response(LEAF)).decode()],
        "cancelled": [EMAID],
    }


def anchors() -> dict[str, Any]:
    return {"schema": 1, "anchors": [{"role": "v2g", "certificate": base64.b64encode(V2G_ROOT.der).decode()}]}


def test_the_fleet_s_documents_become_trust() -> None:
    key = hash_data(LEAF.certificate, SUB_2.certificate).revocation_key
    bodies = {ANCHORS: json.dumps(anchors()).encode(), REVOCATIONS: json.dumps(revocations(key)).encode()}

    bundle = read_trust(bodies)

    assert [(each.certificate, each.role) for each in bundle.anchors] == [(V2G_ROOT.certificate, Role.V2G)]
    assert bundle.revoked == {key}
    assert bundle.revoked_as_of == NOW
    assert bundle.cancelled == {"DE8AA001234567"}
    assert bundle.allowed is None
    assert read_trust({}).anchors == ()


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2}, {"extra": 1}, {"issued": "yesterday"}, {"issued": "2027-03-01T12:00:00"}, {"issued": 5},
        {"revoked": {}}, {"revoked": [{"issuer_key_hash": "zz", "serial": "1"}]},
        {"revoked": [{"issuer_key_hash": "00", "serial": "1"}]}, {"revoked": [{"serial": "1"}]}, {"ocsp": ["?"]},
        {"ocsp": [5]}, {"cancelled": ["UKSWI123456791A"]}, {"allowed": "all"}, {"revoked": [5]},
    ],
)  # fmt: skip
def test_documents_that_are_not_right_in_all_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TrustUnfit, match=r"contracts/revocations\.json"):
        read_trust({REVOCATIONS: json.dumps({**revocations(), **change}).encode()})


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"schema": 1, "anchors": [{"role": "x", "certificate": ""}]}'])
def test_anchors_that_are_none_are_refused(body: bytes) -> None:
    with pytest.raises(TrustUnfit, match=r"contracts/anchors\.json"):
        read_trust({ANCHORS: body})


# --- the memory of revocations ----------------------------------------------------------------------------------------


def test_revocations_are_remembered_across_restarts_and_torn_lines(tmp_path: Path) -> None:
    path = tmp_path / "revocations"
    keys = frozenset(RevocationKey(issuer_key_hash="ab" * 32, serial=each) for each in ("1", "2f"))
    RememberedRevocations(path).remember(keys)
    RememberedRevocations(path).remember(keys)
    assert len(path.read_text().splitlines()) == 2

    path.write_bytes(path.read_bytes() + b"cd" * 10)
    reopened = RememberedRevocations(path)
    assert reopened.known == keys
    more = RevocationKey(issuer_key_hash="cd" * 32, serial="3")
    reopened.remember(frozenset({more}))
    assert RememberedRevocations(path).known == keys | {more}


def test_the_verifier_refuses_for_ever_what_was_once_proven_revoked(tmp_path: Path) -> None:
    chain = [each.der for each in (LEAF, SUB_2, SUB_1)]
    revoked = an_ocsp_response(LEAF, status=OCSPCertStatus.REVOKED)

    first = Verifier(tmp_path, bundle=a_bundle())
    assert first.verify(chain, claimed=EMAID, now=an_instant()).outcome is Outcome.POSSESSION_UNPROVEN
    assert first.verify(chain, claimed=EMAID, now=an_instant(), stapled=[revoked]).outcome is Outcome.REFUSED
    for verifier in (first, Verifier(tmp_path, bundle=a_bundle())):
        again = verifier.verify(chain, claimed=EMAID, now=an_instant(), stapled=[an_ocsp_response(LEAF)])
        assert again.codes.iso2 == "FAILED_CertificateRevoked"


def a_key_of(serial: str) -> frozenset[RevocationKey]:
    return frozenset({RevocationKey(issuer_key_hash="ab" * 32, serial=serial)})


def fail_to_write(monkeypatch: pytest.MonkeyPatch, how: Callable[..., int]) -> None:
    for name in ("write", "pwrite"):
        monkeypatch.setattr(os, name, how)


def writes_half(descriptor: int, content: bytes, *at: int) -> int:
    with open(os.dup(descriptor), "r+b", buffering=0) as file:
        file.seek(0, os.SEEK_END)
        return file.write(content[: len(content) // 2])


def writes_nothing(descriptor: int, content: bytes, *at: int) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("how", [writes_half, writes_nothing])
def test_a_revocation_that_could_not_be_written_counts_and_is_written_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Callable[..., int]
) -> None:
    memory = RememberedRevocations(tmp_path / "revocations")
    memory.remember(a_key_of("1"))
    with monkeypatch.context() as broken:
        fail_to_write(broken, how)
        with pytest.raises(OSError, match=r"in part|No space"):
            memory.remember(a_key_of("2"))
    assert memory.known == a_key_of("1") | a_key_of("2")
    assert RememberedRevocations(tmp_path / "revocations").known == a_key_of("1"), "half a line is no line"

    memory.remember(a_key_of("3"))
    memory.remember(frozenset())

    assert RememberedRevocations(tmp_path / "revocations").known == a_key_of("1") | a_key_of("2") | a_key_of("3")
    assert len((tmp_path / "revocations").read_text().splitlines()) == 3


def test_a_memory_that_was_taken_away_is_written_whole_again(tmp_path: Path) -> None:
    memory = RememberedRevocations(tmp_path / "revocations")
    memory.remember(a_key_of("1"))
    (tmp_path / "revocations").unlink()
    memory.remember(a_key_of("2"))

    assert RememberedRevocations(tmp_path / "revocations").known == a_key_of("1") | a_key_of("2")


@pytest.mark.parametrize("how", [writes_half, writes_nothing])
def test_on_a_full_disk_the_verifier_refuses_what_is_revoked_and_writes_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Callable[..., int]
) -> None:
    chain = [each.der for each in (LEAF, SUB_2, SUB_1)]
    good, revoked = an_ocsp_response(LEAF), an_ocsp_response(LEAF, status=OCSPCertStatus.REVOKED)
    verifier = Verifier(tmp_path, bundle=a_bundle())
    with monkeypatch.context() as broken:
        fail_to_write(broken, how)
        for paper in (revoked, good):
            verdict = verifier.verify(chain, claimed=EMAID, now=an_instant(), stapled=[paper])
            assert verdict.codes.iso2 == "FAILED_CertificateRevoked"
    assert RememberedRevocations(tmp_path / "revocations").known == frozenset()

    verifier.verify(chain, claimed=EMAID, now=an_instant(), stapled=[good])
    again = Verifier(tmp_path, bundle=a_bundle()).verify(chain, claimed=EMAID, now=an_instant(), stapled=[good])
    assert again.codes.iso2 == "FAILED_CertificateRevoked"
