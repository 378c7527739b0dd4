from __future__ import annotations

import os
import random
import shutil
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import Contracts
from agent.contract_desk import inspect_keys
from agent.contracts.challenges import RECORD_BYTES, SignedChallenges
from agent.contracts.key_store import KeyStoreError
from agent.contracts.renewals import Renewals
from agent.contracts.shelf import ShelfDamaged
from agent.contracts.software_keys import SoftwareKeys, read_passphrase
from agent.contracts.wallet import (
    PROVISIONING_KEY,
    Asked,
    Authorization,
    Context,
    Installed,
    NotSigned,
    Obstruction,
    Permit,
    Wallet,
)
from agent.core.contracts.contract import Contract, State, Wanted
from agent.core.contracts.exi_fragments import MeterReading, RootId, authorization_request
from agent.core.contracts.installation import InstallationResponse, NotInstalled, Obstacle
from agent.core.contracts.key_transport import KeyTransportError, private_key, sender_key, unwrap, wrap
from agent.core.contracts.renewal import Attempts, next_attempt
from agent.core.contracts.revocation import hash_data
from agent.core.contracts.signatures import signature_holds
from agent.core.contracts.signing import MeteringReceiptRequest, Signed, Unsignable, authorization_request_of
from agent.core.contracts.verification import Outcome, Proof, prove_possession, verify_chain
from agent.core.decisions import Decision, Granted, Limits, NeedsInput, Refused
from agent.core.instants import ClockQuality, Instant
from agent.core.reasons import Reason, ReasonCode
from agent.core.terms import Prompt
from tests.contract_wallet.pki_builder import (
    CPS_LEAF,
    CPS_SUB_1,
    CPS_SUB_2,
    LEAF,
    NOW,
    SUB_1,
    SUB_2,
    V2G_ROOT,
    a_bundle,
    an_instant,
    p256,
)
from tests.contract_wallet.provisioning import (
    PASSPHRASE,
    SENDER_KEY,
    VEHICLE_KEY,
    FileHome,
    Home,
    a_response,
    point_of,
    signed_by_service,
    wrapped,
)

CHALLENGE = bytes(range(16))
DAY = timedelta(days=1)
RENEWED = LEAF.but(key=p256(6), serial=0x0BCE, not_before=NOW - DAY, not_after=NOW + 800 * DAY)
OTHER = LEAF.but(name="DE8AA0099999992", key=p256(9), serial=0x0BCF)


def permitted(asked: Asked) -> Decision:
    return Granted(limits=Limits())


def install(wallet: Wallet, response: InstallationResponse, now: Instant | None = None) -> Installed | NotInstalled:
    return wallet.install(response, bundle=a_bundle(), now=now or an_instant())


def sign(
    wallet: Wallet,
    challenge: bytes = CHALLENGE,
    *,
    permit: Permit = permitted,
    now: Instant | None = None,
    wanted: Wanted | None = None,
) -> Authorization | NotSigned:
    return wallet.sign_authorization(
        "id1", challenge, context=Context(network="DE*ABC"), permit=permit, now=now or an_instant(),
        wanted=wanted or Wanted(),
    )  # fmt: skip


@pytest.fixture
def wallet(home: Home) -> Wallet:
    wallet = home.wallet()
    assert isinstance(install(wallet, a_response()), Installed)
    return wallet


# --- signing ----------------------------------------------------------------------------------------------------------


def test_what_the_wallet_signs_the_charger_s_verifier_authorises(wallet: Wallet) -> None:
    answer = sign(wallet)

    assert isinstance(answer, Authorization)
    chain = verify_chain(
        answer.contract.chain, claimed=answer.contract.emaid.on_wire, bundle=a_bundle(), now=an_instant()
    )
    proof = Proof(id="id1", challenge=CHALLENGE, references=answer.signed.references, signature=answer.signed.signature)
    assert prove_possession(chain, challenge=CHALLENGE, proof=proof).outcome is Outcome.AUTHORISED
    assert answer.signed.fragment == authorization_request("id1", CHALLENGE)


def test_without_the_fleet_s_permission_nothing_is_signed_and_the_reasons_are_told(wallet: Wallet) -> None:
    asked: list[Asked] = []
    refusal = Refused(reasons=(Reason(code=ReasonCode.NETWORK, rule="network_allowed", observed="DE*XYZ"),))

    def refused(question: Asked) -> Decision:
        asked.append(question)
        return refusal

    answer = sign(wallet, permit=refused)

    assert isinstance(answer, NotSigned)
    assert (answer.obstruction, answer.decision) == (Obstruction.NOT_PERMITTED, refusal)
    assert asked[0].context.network == "DE*ABC"
    assert isinstance(sign(wallet), Authorization), "a refusal uses up no challenge"


def test_a_policy_that_fails_signs_nothing(wallet: Wallet) -> None:
    def failing(asked: Asked) -> Decision:
        raise RuntimeError("no policy")

    with pytest.raises(RuntimeError):
        sign(wallet, permit=failing)
    assert isinstance(sign(wallet), Authorization)


def test_each_challenge_is_signed_once_also_across_restarts(wallet: Wallet, home: Home) -> None:
    assert isinstance(sign(wallet), Authorization)
    for each in (wallet, home.wallet()):
        again = sign(each)
        assert isinstance(again, NotSigned)
        assert again.obstruction is Obstruction.CHALLENGE_USED
    assert isinstance(sign(home.wallet(), bytes(16)), Authorization)


def test_a_challenge_that_was_signed_is_put_before_no_policy(wallet: Wallet) -> None:
    """Else the journal would hold a permission with which nothing was signed."""
    assert isinstance(sign(wallet), Authorization)
    permit, asked = of_the_fleet("granted")
    answer = sign(wallet, permit=permit)
    assert isinstance(answer, NotSigned)
    assert (answer.obstruction, asked) == (Obstruction.CHALLENGE_USED, [])


def test_a_torn_record_of_a_challenge_costs_no_other_record(tmp_path: Path) -> None:
    path = tmp_path / "challenges"
    first = SignedChallenges(path)
    assert first.take(b"a")
    assert first.take(b"b")
    path.write_bytes(path.read_bytes() + b"\x00" * (RECORD_BYTES - 1))

    reopened = SignedChallenges(path)
    assert reopened.take(b"c")
    assert path.stat().st_size == 3 * RECORD_BYTES
    assert not any(SignedChallenges(path).take(each) for each in (b"a", b"b", b"c"))


def test_the_memory_of_challenges_is_bounded_and_keeps_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.contracts.challenges.MAX_RECORDS", 4)
    challenges = SignedChallenges(tmp_path / "challenges")
    assert all(challenges.take(bytes([each])) for each in range(5))
    assert not any(SignedChallenges(tmp_path / "challenges").take(bytes([each])) for each in (2, 3, 4))


def test_a_challenge_that_cannot_be_recorded_is_not_signed(wallet: Wallet, tmp_path: Path) -> None:
    (tmp_path / "wallet" / "challenges").mkdir()
    answer = sign(wallet)
    assert isinstance(answer, NotSigned)
    assert answer.obstruction is Obstruction.STORAGE


def test_a_receipt_is_signed_with_the_session_s_contract_when_the_policy_permits(wallet: Wallet) -> None:
    request = MeteringReceiptRequest(
        id="id1", session=bytes(8), schedule=1, reading=MeterReading(meter="M1", reading_wh=12_000)
    )
    mine = LEAF.certificate
    asked: list[Asked] = []

    def receipt(
        permit: Permit, fingerprint: str = mine.fingerprint, now: Instant | None = None, **more: Any
    ) -> Authorization | NotSigned:
        return wallet.sign_metering_receipt(
            request, fingerprint=fingerprint, within="d-1", context=Context(), permit=permit,
            now=now or an_instant(), **more,
        )  # fmt: skip

    def noted(question: Asked) -> Decision:
        asked.append(question)
        return Granted(limits=Limits())

    told = receipt(noted)
    assert [each.within for each in asked] == ["d-1"]

    assert isinstance(told, Authorization)
    assert signature_holds(mine.point, told.signed.references, told.signed.signature)
    refusal = Refused(reasons=(Reason(code=ReasonCode.NETWORK, rule="network_allowed"),))
    assert isinstance(receipt(lambda asked: refusal), NotSigned)
    assert isinstance(receipt(permitted, "00"), NotSigned)
    asked.clear()
    assert LEAF.issuer is not None
    revoked = hash_data(mine, LEAF.issuer.certificate).revocation_key
    for late in (
        receipt(noted, remembered=frozenset({revoked})),
        receipt(noted, now=an_instant(mine.not_after + DAY)),
    ):
        assert isinstance(late, NotSigned)
        assert late.obstruction is Obstruction.NO_CONTRACT
    assert not asked, "nobody is asked about a contract that can sign nothing any more"


@pytest.mark.parametrize(
    "wrong",
    [{"schedule": 0}, {"schedule": 256}, {"session": b""}, {"session": bytes(9)}, {"reading": MeterReading(meter="")},
     {"reading": MeterReading(meter="M", reading_wh=-1)}, {"reading": MeterReading(meter="M", status=2**15)},
     {"reading": MeterReading(meter="M", signature=bytes(65))}, {"reading": MeterReading(meter="M", time=2**63)}],
)  # fmt: skip
def test_a_receipt_beyond_the_schema_is_no_request(wrong: dict[str, Any]) -> None:
    with pytest.raises(Unsignable):
        MeteringReceiptRequest(
            **{"id": "id1", "session": bytes(8), "schedule": 1, "reading": MeterReading(meter="M"), **wrong}
        )


@pytest.mark.parametrize("challenge", [b"", bytes(15), bytes(17), bytes(32)])
def test_only_challenges_of_sixteen_bytes_are_signed(wallet: Wallet, challenge: bytes) -> None:
    answer = sign(wallet, challenge)
    assert isinstance(answer, NotSigned)
    assert answer.obstruction is Obstruction.NOT_SIGNABLE


@pytest.mark.parametrize("id", ["", "1", "id 1", "a" * 65, "ïd", "id1\n", "#id1"])
def test_only_short_names_are_ids(wallet: Wallet, id: str) -> None:
    answer = wallet.sign_authorization(id, CHALLENGE, context=Context(), permit=permitted, now=an_instant())
    assert isinstance(answer, NotSigned)


def test_ten_thousand_mutated_fragments_are_no_requests_unless_they_are_canonical() -> None:
    rng = random.Random(20260901)
    original = authorization_request("id1", CHALLENGE)
    refused = 0
    for _ in range(10_000):
        fragment = bytearray(original)
        for _ in range(rng.randint(1, 3)):
            fragment[rng.randrange(len(fragment))] = rng.randrange(256)
        if rng.random() < 0.2:
            fragment += rng.randbytes(rng.randint(1, 4))
        try:
            request = authorization_request_of(bytes(fragment))
        except Unsignable:
            refused += 1
        else:
            assert authorization_request(request.id, request.challenge) == fragment
    assert refused > 1_000


def test_the_vehicle_s_key_signs_requests_for_its_own_certificate_only(wallet: Wallet) -> None:
    mine = LEAF.but(name="WMI1234567890ABCDX", key=VEHICLE_KEY, domain=("OEM",))
    roots = (RootId(issuer="CN=V2GRootCA", serial=2),)

    signed = wallet.sign_installation_request("id1", provisioning_certificate=mine.der, roots=roots)
    assert isinstance(signed, Signed)
    refused = wallet.sign_installation_request("id1", provisioning_certificate=LEAF.der, roots=roots)
    assert isinstance(refused, NotSigned)
    assert isinstance(wallet.sign_installation_request("id1", provisioning_certificate=mine.der, roots=()), NotSigned)
    assert isinstance(wallet.sign_installation_request("id1", provisioning_certificate=b"", roots=roots), NotSigned)


# --- installing -------------------------------------------------------------------------------------------------------


def broken(response: InstallationResponse) -> InstallationResponse:
    return replace(response, signature=bytes([response.signature[0] ^ 1]) + response.signature[1:])


def swapped_key(response: InstallationResponse) -> InstallationResponse:
    """A wrapped key that the service did not sign: CBC alone would not notice."""
    return replace(response, encrypted_key=wrapped(12345))


COMPRESSED = SENDER_KEY.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
STRANGER_SUB_1 = CPS_SUB_1.but(issuer=V2G_ROOT.but(key=p256(70)))
STRANGER_SUB_2 = CPS_SUB_2.but(issuer=STRANGER_SUB_1)
STRANGER = (CPS_LEAF.but(issuer=STRANGER_SUB_2), STRANGER_SUB_2, STRANGER_SUB_1)
REFUSED: dict[str, tuple[Callable[[], InstallationResponse], Obstacle]] = {
    "service of an unknown root": (lambda: a_response(service=STRANGER), Obstacle.PROVISIONING_CHAIN),
    "service that is none": (lambda: a_response(service=(CPS_LEAF.but(domain=("CPO",)), CPS_SUB_2, CPS_SUB_1)),
                             Obstacle.PROVISIONING_CHAIN),
    "service expired": (lambda: a_response(service=(CPS_LEAF.but(not_after=NOW - DAY), CPS_SUB_2, CPS_SUB_1)),
                        Obstacle.PROVISIONING_CHAIN),
    "signature broken": (lambda: broken(a_response()), Obstacle.PROVISIONING_SIGNATURE),
    "wrapped key exchanged afterwards": (lambda: swapped_key(a_response()), Obstacle.PROVISIONING_SIGNATURE),
    "eMAID exchanged afterwards": (lambda: replace(a_response(), emaid="DE8AA0012345681"),
                                   Obstacle.PROVISIONING_SIGNATURE),
    "three of four elements signed": (
        lambda: signed_by_service(a_response(), p256(8), a_response().references[:3]), Obstacle.PROVISIONING_SIGNATURE),
    "one element signed four times": (
        lambda: signed_by_service(a_response(), p256(8), a_response().references[:1] * 4),
        Obstacle.PROVISIONING_SIGNATURE),
    "two elements with one id": (lambda: a_response(emaid_id="id1"), Obstacle.PROVISIONING_SIGNATURE),
    "no signature": (lambda: replace(a_response(), signature=b""), Obstacle.PROVISIONING_SIGNATURE),
    "contract expired": (lambda: a_response(LEAF.but(not_after=NOW - DAY)), Obstacle.CONTRACT_CHAIN),
    "contract of an unknown root": (
        lambda: a_response(LEAF.but(issuer=SUB_2.but(key=p256(71)))), Obstacle.CONTRACT_CHAIN),
    "signed eMAID of another contract": (lambda: a_response(emaid="DE8AA0012345681"), Obstacle.CONTRACT_CHAIN),
    "sub-CA first": (
        lambda: a_response(contract_leaf=SUB_2.der, contract_subs=(LEAF.der, SUB_1.der)), Obstacle.CONTRACT_CHAIN),
    "key of another certificate": (lambda: a_response(encrypted_key=wrapped(12345)), Obstacle.KEY_TRANSPORT),
    "key that is zero": (lambda: a_response(encrypted_key=wrapped(0)), Obstacle.KEY_TRANSPORT),
    "key beyond the order": (lambda: a_response(encrypted_key=wrapped(2**256 - 1)), Obstacle.KEY_TRANSPORT),
    "wrapped key too short": (lambda: a_response(encrypted_key=bytes(47)), Obstacle.KEY_TRANSPORT),
    "sender's key not on the curve": (lambda: a_response(dh_public_key=b"\x04" + bytes(64)), Obstacle.KEY_TRANSPORT),
    "sender's key compressed": (lambda: a_response(dh_public_key=COMPRESSED), Obstacle.KEY_TRANSPORT),
    "five sub-CAs": (lambda: replace(a_response(), contract_subs=(SUB_2.der,) * 5), Obstacle.PROVISIONING_SIGNATURE),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_response_that_is_not_right_in_all_changes_nothing(home: Home, tmp_path: Path, name: str) -> None:
    wallet = home.wallet()
    before = sorted(tmp_path.rglob("*"))
    make, obstacle = REFUSED[name]

    answer = install(wallet, make())

    assert isinstance(answer, NotInstalled)
    assert answer.obstacle is obstacle, answer.detail
    assert wallet.contracts == ()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_revoked_provisioning_service_installs_nothing(home: Home) -> None:
    key = hash_data(CPS_LEAF.certificate, CPS_SUB_2.certificate).revocation_key
    answer = home.wallet().install(a_response(), bundle=a_bundle(), now=an_instant(), remembered=frozenset({key}))
    assert isinstance(answer, NotInstalled)
    assert answer.obstacle is Obstacle.PROVISIONING_CHAIN


def test_without_the_vehicle_s_key_nothing_is_installed(tmp_path: Path) -> None:
    wallet = Wallet(tmp_path / "wallet", SoftwareKeys(folder=tmp_path / "keys", passphrase=PASSPHRASE))
    answer = install(wallet, a_response())
    assert isinstance(answer, NotInstalled)
    assert answer.obstacle is Obstacle.NO_PROVISIONING_KEY


def test_an_installed_contract_is_there_after_a_restart(wallet: Wallet, home: Home) -> None:
    reopened = home.wallet()

    assert reopened.contracts == wallet.contracts
    assert list(reopened.states(now=an_instant()).values()) == [State.PRESENT]
    assert isinstance(sign(reopened), Authorization)


def test_the_same_response_again_changes_nothing(wallet: Wallet) -> None:
    answer = install(wallet, a_response())
    assert isinstance(answer, Installed)
    assert answer.repeated
    assert len(wallet.contracts) == 1


def test_a_renewed_contract_supersedes_the_old_and_no_replay_brings_it_back(wallet: Wallet, home: Home) -> None:
    assert isinstance(install(wallet, a_response(RENEWED)), Installed)

    assert sorted(wallet.states(now=an_instant()).values()) == [State.PRESENT, State.SUPERSEDED]
    assert len(home.keys().names()) == 2, "the provisioning key and the new one"
    replayed = install(wallet, a_response())
    assert isinstance(replayed, NotInstalled)
    assert replayed.obstacle is Obstacle.ROLLED_BACK
    answer = sign(home.wallet())
    assert isinstance(answer, Authorization)
    assert answer.contract.fingerprint == RENEWED.certificate.fingerprint


def test_a_removed_contract_is_not_brought_back_by_a_replay(wallet: Wallet, home: Home) -> None:
    assert wallet.remove(LEAF.certificate.fingerprint)
    assert not wallet.remove(LEAF.certificate.fingerprint)

    assert home.keys().names() == {PROVISIONING_KEY}
    for each in (wallet, home.wallet()):
        answer = install(each, a_response())
        assert isinstance(answer, NotInstalled)
        assert answer.obstacle is Obstacle.ROLLED_BACK
    assert isinstance(install(wallet, a_response(RENEWED)), Installed)


def test_a_contract_that_begins_later_waits_and_the_old_one_goes_on(wallet: Wallet) -> None:
    begins = NOW + 3 * DAY
    later = RENEWED.but(not_before=begins)
    assert isinstance(install(wallet, a_response(later)), Installed)

    assert sorted(wallet.states(now=an_instant()).values()) == [State.PENDING, State.PRESENT]
    before = sign(wallet)
    assert isinstance(before, Authorization)
    assert before.contract.fingerprint == LEAF.certificate.fingerprint

    after = sign(wallet, bytes(16), now=an_instant(begins))
    assert isinstance(after, Authorization)
    assert after.contract.fingerprint == later.certificate.fingerprint
    wallet.tidy(now=an_instant(begins))
    assert [each.key is None for each in wallet.contracts].count(True) == 1


@pytest.mark.parametrize("quality", ClockQuality)
def test_a_contract_that_begins_later_is_installed_also_on_a_clock_that_was_set_back(
    wallet: Wallet, quality: ClockQuality
) -> None:
    later = RENEWED.but(not_before=NOW + 3 * DAY)
    moved = an_instant(NOW - 9 * DAY, floor=NOW, quality=quality)
    assert isinstance(install(wallet, a_response(later), moved), Installed)


def test_a_superseded_contract_does_not_come_back_when_its_successor_is_removed(wallet: Wallet) -> None:
    install(wallet, a_response(RENEWED))
    assert wallet.remove(RENEWED.certificate.fingerprint)

    assert list(wallet.states(now=an_instant()).values()) == [State.SUPERSEDED]
    assert isinstance(sign(wallet), NotSigned)


def test_a_successor_that_is_revoked_before_it_begins_supersedes_nothing(wallet: Wallet) -> None:
    begins = NOW + 3 * DAY
    later = RENEWED.but(not_before=begins)
    install(wallet, a_response(later))
    key = hash_data(later.certificate, SUB_2.certificate).revocation_key

    states = wallet.states(now=an_instant(begins), remembered=frozenset({key}))
    assert sorted(states.values()) == [State.PRESENT, State.REVOKED]


# --- states and choice ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "state"),
    [
        (LEAF.not_after - 14 * DAY - timedelta(seconds=1), State.PRESENT),
        (LEAF.not_after - 14 * DAY, State.EXPIRES_SOON),
        (LEAF.not_after, State.EXPIRES_SOON),
        (LEAF.not_after + timedelta(seconds=1), State.EXPIRED),
    ],
)
def test_states_follow_the_dates(wallet: Wallet, moment: object, state: State) -> None:
    now = replace(an_instant(), utc=moment)
    assert list(wallet.states(now=now).values()) == [state]
    assert isinstance(sign(wallet, now=now), NotSigned if state is State.EXPIRED else Authorization)


def test_a_revocation_of_the_contract_or_its_sub_ca_ends_it(wallet: Wallet) -> None:
    for about in (LEAF, SUB_2):
        assert about.issuer is not None
        key = hash_data(about.certificate, about.issuer.certificate).revocation_key
        assert list(wallet.states(now=an_instant(), remembered=frozenset({key})).values()) == [State.REVOKED]
        answer = wallet.sign_authorization(
            "id1", CHALLENGE, context=Context(), permit=permitted, now=an_instant(), remembered=frozenset({key})
        )
        assert isinstance(answer, NotSigned)
        assert answer.obstruction is Obstruction.NO_CONTRACT


def test_of_several_contracts_the_first_by_priority_is_used_and_the_choice_is_explained(wallet: Wallet) -> None:
    answer = wallet.install(a_response(OTHER), bundle=a_bundle(), now=an_instant(), priority=10)
    assert isinstance(answer, Installed)

    first = sign(wallet)
    assert isinstance(first, Authorization)
    assert first.contract.fingerprint == OTHER.certificate.fingerprint
    assert [line.split(": ")[1] for line in first.explanation] == [
        "used, priority 10",
        "usable, but comes later (priority 100)",
    ]
    assert not any("DE8AA0" in line for line in first.explanation)

    wanted = sign(wallet, bytes(16), wanted=Wanted(emaid="DE8AA001234567"))
    assert isinstance(wanted, Authorization)
    assert wanted.contract.fingerprint == LEAF.certificate.fingerprint

    nobody = sign(
        wallet, bytes(15) + b"1", wanted=Wanted(providers=frozenset({"NLTNM"}), roots=frozenset({"CN=Other"}))
    )
    assert isinstance(nobody, NotSigned)
    assert len(nobody.explanation) == 2


CODES = {"refused": ReasonCode.NETWORK, "waits": ReasonCode.PIN}


def of_the_fleet(*verdicts: str) -> tuple[Permit, list[Asked]]:
    """What the policy says of the first contract, the second, and so on."""
    asked: list[Asked] = []

    def permit(question: Asked) -> Decision:
        asked.append(question)
        verdict = verdicts[len(asked) - 1]
        reasons = (Reason(code=CODES[verdict], rule=verdict),) if verdict in CODES else ()
        if verdict == "waits":
            return NeedsInput(prompts=frozenset({Prompt.PIN}), reasons=reasons)
        return Refused(reasons=reasons) if reasons else Granted(limits=Limits(max_energy_wh=7))

    return permit, asked


def test_a_contract_that_the_fleet_refuses_makes_room_for_the_next(wallet: Wallet) -> None:
    wallet.install(a_response(OTHER), bundle=a_bundle(), now=an_instant(), priority=10)
    permit, asked = of_the_fleet("refused", "granted")
    answer = sign(wallet, permit=permit)

    assert isinstance(answer, Authorization)
    assert answer.contract.fingerprint == LEAF.certificate.fingerprint
    assert answer.limits.max_energy_wh == 7
    assert [line.split(": ", 1)[1] for line in answer.explanation] == [
        "refused by the fleet: NETWORK", "used, priority 100",
    ]  # fmt: skip
    assert [each.again for each in asked] == [False, True]


def test_the_first_contract_that_the_fleet_permits_is_the_last_that_it_is_asked_about(wallet: Wallet) -> None:
    wallet.install(a_response(OTHER), bundle=a_bundle(), now=an_instant(), priority=10)
    permit, asked = of_the_fleet("granted")
    assert isinstance(sign(wallet, permit=permit), Authorization)
    assert len(asked) == 1


def test_where_no_contract_is_permitted_the_reasons_are_the_preferred_one_s(wallet: Wallet) -> None:
    wallet.install(a_response(OTHER), bundle=a_bundle(), now=an_instant(), priority=10)
    for verdicts, reason, needs in (
        (("refused", "refused"), ReasonCode.NETWORK, Refused),
        (("refused", "waits"), ReasonCode.PIN, NeedsInput),
        (("waits",), ReasonCode.PIN, NeedsInput),
    ):
        permit, asked = of_the_fleet(*verdicts)
        answer = sign(wallet, permit=permit)
        assert isinstance(answer, NotSigned)
        assert answer.decision is not None
        assert (type(answer.decision), answer.decision.reasons[0].code) == (needs, reason)
        assert len(asked) == len(verdicts)
    assert isinstance(sign(wallet), Authorization)


# --- keys -------------------------------------------------------------------------------------------------------------


def test_keys_are_never_in_clear_on_disk_and_nobody_else_may_read_them(wallet: Wallet, home: Home) -> None:
    sign(wallet)
    scalars = [key.private_numbers().private_value.to_bytes(32, "big") for key in (p256(5), VEHICLE_KEY)]
    files = [path for folder in home.folders for path in folder.rglob("*") if path.is_file()]

    assert len(files) > 2
    for path in files:
        content = path.read_bytes()
        assert not any(scalar in content or scalar.hex().encode() in content for scalar in scalars)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert PASSPHRASE.decode() not in repr(home.keys())


def test_another_passphrase_opens_nothing(tmp_path: Path) -> None:
    install(FileHome(folder=tmp_path).wallet(), a_response())
    keys = SoftwareKeys(folder=tmp_path / "keys", passphrase=b"x" * 16)
    answer = sign(Wallet(tmp_path / "wallet", keys))
    assert isinstance(answer, NotSigned)
    assert answer.obstruction is Obstruction.KEY_UNAVAILABLE


def test_a_passphrase_is_read_from_a_file_and_must_be_long(tmp_path: Path) -> None:
    path = tmp_path / "passphrase"
    with pytest.raises(KeyStoreError, match="cannot be read"):
        read_passphrase(path)
    path.write_bytes(b"short\n")
    with pytest.raises(KeyStoreError, match="at least 16"):
        read_passphrase(path)
    path.write_bytes(PASSPHRASE + b"\n")
    assert read_passphrase(path) == PASSPHRASE


def test_a_look_at_the_keys_opens_them_all_and_makes_none(tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_bytes(PASSPHRASE)
    settings = Contracts(passphrase=tmp_path / "passphrase")
    assert "no vehicle key yet" in inspect_keys(settings, tmp_path)
    assert not (tmp_path / "keys").exists()

    install(FileHome(folder=tmp_path).wallet(), a_response())
    assert "1 of contracts" in inspect_keys(settings, tmp_path)
    (tmp_path / "passphrase").write_bytes(b"another passphrase")
    with pytest.raises(KeyStoreError, match="passphrase is another one"):
        inspect_keys(settings, tmp_path)


@pytest.mark.parametrize("name", ["", "../provisioning", "a/b", "A", "x" * 82])
def test_names_of_keys_are_no_paths(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyStoreError, match="no name of a key"):
        FileHome(folder=tmp_path).keys().destroy(name)


def test_what_is_brought_as_a_key_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(KeyStoreError, match="no private key"):
        FileHome(folder=tmp_path).keys().bring("mine", b"nonsense")


def test_a_lost_file_of_contracts_costs_no_key(wallet: Wallet, home: Home, tmp_path: Path) -> None:
    (tmp_path / "wallet" / "contracts.json").rename(tmp_path / "elsewhere")
    assert home.wallet().contracts == ()
    (tmp_path / "elsewhere").rename(tmp_path / "wallet" / "contracts.json")
    assert isinstance(sign(home.wallet()), Authorization)


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 2}', '{"schema": 1, "contracts": [{}], "marks": {}}', "[]"])
def test_a_damaged_file_of_contracts_is_told_and_not_overwritten(
    wallet: Wallet, home: Home, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "wallet" / "contracts.json"
    path.write_text(text)
    with pytest.raises(ShelfDamaged, match=r"contracts\.json"):
        home.wallet()
    assert path.read_text() == text
    assert len(home.keys().names()) == 2


# --- key transport ----------------------------------------------------------------------------------------------------


def test_the_published_vector_of_a_wrapped_key() -> None:
    vehicle = ec.derive_private_key(int("11" * 32, 16), ec.SECP256R1())
    sender = ec.derive_private_key(int("22" * 32, 16), ec.SECP256R1())
    contract = ec.derive_private_key(int("33" * 32, 16), ec.SECP256R1())
    field = bytes.fromhex(
        "000102030405060708090a0b0c0d0e0ff418f69bd6f0497a0e55fcca0d8dd0ad9b69c89071ce6f2efbbde7fed706d155"
    )
    point = bytes.fromhex(
        "04d65a93977caa3d1b081852ff57a79e465f1660577304baead505dd3a48589cf3"
        "50185e895372df6221ea3a137557e473fddb6755f05bd507c3c533fce9c91285"
    )
    agreement = vehicle.exchange(ec.ECDH(), sender_key(point))

    assert agreement.hex() == "ccfc261f58193c98ca4ad4a53bbac6f0ee29bc4d48438090446908622ca79af6"
    assert point == point_of(sender)
    assert unwrap(agreement, field) == int("33" * 32, 16)
    assert wrap(agreement, int("33" * 32, 16), bytes(range(16))) == field
    assert private_key(unwrap(agreement, field), point_of(contract)).private_numbers() == contract.private_numbers()


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.integers(1, 2**248), st.integers(2**250, 2**255)), st.binary(min_size=16, max_size=16))
def test_every_scalar_survives_the_transport_also_with_leading_zeros(scalar: int, iv: bytes) -> None:
    agreement = VEHICLE_KEY.exchange(ec.ECDH(), SENDER_KEY.public_key())
    assert unwrap(agreement, wrap(agreement, scalar, iv)) == scalar


def test_a_key_for_another_certificate_is_refused() -> None:
    with pytest.raises(KeyTransportError, match="does not belong"):
        private_key(5, point_of(p256(5)))


def test_everything_is_flushed_before_it_is_pointed_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut loses what was not flushed: so the key is on the disk, its folder too, before the pointer moves."""
    wallet, steps = FileHome(folder=tmp_path).wallet(), []
    flush, swap = os.fsync, Path.replace

    def flushed(descriptor: int) -> None:
        steps.append(("flush", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        flush(descriptor)

    def swapped(self: Path, target: Path) -> Path:
        steps.append(("swap", target.name))
        return swap(self, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", swapped)
    assert isinstance(install(wallet, a_response()), Installed)

    key = f"contract-{LEAF.certificate.fingerprint[:32]}.p8"
    assert steps[:6] == [
        ("flush", f".{key}.new"), ("swap", key), ("flush", "keys"),
        ("flush", ".contracts.json.new"), ("swap", "contracts.json"), ("flush", "wallet"),
    ]  # fmt: skip


# --- crashes ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_at_any_step_of_an_installation_exactly_one_usable_contract_remains(tmp_path: Path) -> None:
    """Each kill is between two calls into the operating system, at every one that an installation makes."""
    response, calls, kills = a_response(RENEWED), 0, 0
    assert isinstance(install(FileHome(folder=tmp_path / "before").wallet(), a_response()), Installed)
    while True:
        folder = tmp_path / str(calls)
        shutil.copytree(tmp_path / "before", folder)
        if not killed_after(calls, folder, response):
            break
        kills += 1
        survivor = FileHome(folder=folder).wallet()
        usable = [each for each, state in survivor.states(now=an_instant()).items() if state is State.PRESENT]
        assert len(usable) == 1, (calls, usable)
        answer = sign(survivor)
        assert isinstance(answer, Authorization)
        keys = FileHome(folder=folder).keys().names() - {PROVISIONING_KEY}
        assert {each.key for each in survivor.contracts if each.key} == keys
        assert isinstance(install(survivor, response), Installed)
        calls += 1
    assert kills > 15


SYSTEM_CALLS = {"open", "write", "flush", "fsync", "close", "replace", "unlink", "mkdir", "__exit__", "scandir", "stat"}


def killed_after(calls: int, folder: Path, response: InstallationResponse) -> bool:
    """Install in a child that ends itself, without any clean-up, before this call. False: it got through."""
    child = os.fork()
    if child == 0:
        left = calls

        def count(frame: object, event: str, called: object) -> None:
            nonlocal left
            if event == "c_call" and getattr(called, "__name__", "") in SYSTEM_CALLS:
                if left == 0:
                    os._exit(9)
                left -= 1

        try:
            wallet = FileHome(folder=folder).wallet()
            sys.setprofile(count)
            install(wallet, response)
            sys.setprofile(None)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


# --- renewal ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_renewal_begins_a_month_ahead_and_waits_longer_after_each_failure(wallet: Wallet, chance: float) -> None:
    [contract] = wallet.contracts
    begin = contract.not_after - 30 * DAY
    first = next_attempt(contract, Attempts(), moment=begin, chance=chance)
    waits = [
        next_attempt(contract, Attempts(failed=failed, last=begin + DAY), moment=begin + DAY, chance=chance)
        - (begin + DAY)
        for failed in range(12)
    ]

    assert begin <= first <= begin + DAY
    assert waits == sorted(waits)
    assert timedelta(minutes=30) <= waits[0] <= timedelta(hours=1)
    assert DAY / 2 <= waits[-1] <= DAY
    early = Attempts(failed=1, last=begin - 90 * DAY)
    assert next_attempt(contract, early, moment=begin, chance=chance) == begin


def test_an_attempt_dated_by_a_clock_that_was_wrong_keeps_nobody_waiting_for_years(wallet: Wallet) -> None:
    [contract] = wallet.contracts
    begin = contract.not_after - 30 * DAY
    fresh = next_attempt(contract, Attempts(), moment=begin, chance=0.5)

    wrong = Attempts(failed=3, last=begin + 3650 * DAY)
    assert next_attempt(contract, wrong, moment=begin, chance=0.5) == fresh
    a_little_ahead = Attempts(failed=3, last=begin + timedelta(hours=3))
    assert next_attempt(contract, a_little_ahead, moment=begin, chance=0.5) > a_little_ahead.last  # type: ignore[operator]


def due_contracts(wallet: Wallet, *names: str) -> list[Contract]:
    [contract] = wallet.contracts
    return [replace(contract, fingerprint=name, not_after=NOW + 10 * DAY) for name in names]


def test_attempts_to_renew_are_counted_across_restarts(tmp_path: Path, wallet: Wallet) -> None:
    path = tmp_path / "renewals.json"
    renewals = Renewals(path)
    a, b = due_contracts(wallet, "a", "b")
    renewals.asked([a, b], at=NOW)
    renewals.asked([a], at=NOW + DAY)

    for each in (renewals, Renewals(path)):
        assert each.of("a") == Attempts(failed=2, last=NOW + DAY)
        assert each.of("b") == Attempts(), "it is no longer in the wallet"


def test_only_contracts_that_are_due_count_an_attempt(tmp_path: Path, wallet: Wallet) -> None:
    renewals = Renewals(tmp_path / "renewals.json")
    due, later = due_contracts(wallet, "due", "later")
    later = replace(later, not_after=NOW + 31 * DAY)

    renewals.asked([due, later], at=NOW)
    assert (renewals.of("due").failed, renewals.of("later").failed) == (1, 0)
    renewals.asked([due, later], at=NOW + DAY)
    assert (renewals.of("due").failed, renewals.of("later").failed) == (2, 1)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": {"failed": 1, "last": "2026-01-01T00:00:00"}}'])
def test_a_damaged_count_of_renewals_is_told_and_begins_anew(
    tmp_path: Path, wallet: Wallet, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    path = tmp_path / "renewals.json"
    path.write_text(text)
    renewals = Renewals(path)
    assert renewals.of("a") == Attempts()
    assert "counted anew" in caplog.text
    renewals.asked(due_contracts(wallet, "a"), at=NOW)
    assert Renewals(path).of("a").failed == 1


def test_a_count_that_cannot_be_written_stops_no_renewal(
    tmp_path: Path, wallet: Wallet, caplog: pytest.LogCaptureFixture
) -> None:
    renewals = Renewals(tmp_path / "nowhere" / "renewals.json")
    renewals.asked(due_contracts(wallet, "a"), at=NOW)
    assert renewals.of("a").failed == 1
    assert "too soon" in caplog.text
