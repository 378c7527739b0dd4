"""Contracts over the service's real socket: installed, refused, used, killed, verified, and never in clear."""

from __future__ import annotations

import base64
import json
import subprocess
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent.cli.client import Refused
from agent.core.contracts.certificates import read_certificate
from agent.core.contracts.exi_fragments import Reference
from agent.core.contracts.installation import InstallationResponse
from agent.core.contracts.revocation import hash_data
from agent.core.contracts.signatures import signature_holds
from agent.demo.fleet import DORA
from tests.contract_wallet.pki_builder import CPS_LEAF, LEAF, ROOT, V2G_ROOT, Wish, p256
from tests.contract_wallet.provisioning import PASSPHRASE, VEHICLE_KEY, a_response
from tests.end_to_end.premises import FleetOffice, Premises, built_premises, good, roamkey, until

pytestmark = pytest.mark.slow

NOW = datetime.now(UTC).replace(microsecond=0)
EMAID, TYPED = "DE8AA001234567", "DE-8AA-001234567-0"
STRANGER = "DE8AA0076543210"
HOME = {"evse": "DE*ABC*E1001*1", "network": "DE*ABC", "country": "DE"}
SETTINGS = '[contracts]\npassphrase = "contracts.pass"\n'


LIMITED = """
[groups.limited]
parent = "vans"
max_energy_wh = 60_000
"""


@cache
def dated(wish: Wish) -> Wish:
    """The same certificate, valid today."""
    issuer = dated(wish.issuer) if wish.issuer is not None else None
    return replace(wish, issuer=issuer, not_before=NOW - timedelta(days=30), not_after=NOW + timedelta(days=59))


def chain_of(wish: Wish) -> list[Wish]:
    """Below the root, the leaf first."""
    found = []
    while wish.issuer is not None:
        found.append(wish)
        wish = wish.issuer
    return found


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def installation(leaf: Wish) -> dict[str, Any]:
    service = chain_of(dated(CPS_LEAF))
    subs = tuple(each.der for each in chain_of(leaf)[1:])
    return document_of(a_response(leaf, service=service, contract_subs=subs, emaid=leaf.name))


def document_of(response: InstallationResponse) -> dict[str, Any]:
    certificates = (response.contract_leaf, *response.contract_subs)
    return {
        "provisioning_chain": [text(each) for each in response.provisioning_chain],
        "contract_chain": {"id": response.contract_chain_id, "certificates": [text(each) for each in certificates]},
        "encrypted_private_key": {"id": response.encrypted_key_id, "value": text(response.encrypted_key)},
        "dh_public_key": {"id": response.dh_public_key_id, "value": text(response.dh_public_key)},
        "emaid": {"id": response.emaid_id, "value": response.emaid},
        "signature": {
            "references": [{"uri": f"#{each.id}", "digest": text(each.digest)} for each in response.references],
            "value": text(response.signature),
        },
    }


def trust(office: FleetOffice, **revocations: Any) -> None:
    publish_trust(office, [("mo", dated(ROOT)), ("v2g", dated(V2G_ROOT))], **revocations)


def publish_trust(office: FleetOffice, roots: list[tuple[str, Wish]], **revocations: Any) -> None:
    folder = office.source / "contracts"
    folder.mkdir(exist_ok=True)
    anchors = [{"role": role, "certificate": text(wish.der)} for role, wish in roots]
    (folder / "anchors.json").write_text(json.dumps({"schema": 1, "anchors": anchors}))
    issued = datetime.now(UTC).isoformat()
    (folder / "revocations.json").write_text(json.dumps({"schema": 1, "issued": issued, **revocations}))
    office.publish()


@pytest.fixture
def van(tmp_path: Path, office: FleetOffice) -> Iterator[Premises]:
    with built_premises(tmp_path / "van", office, bays=(), readers=(), settings=SETTINGS) as here:
        policy = here.office.source / "policy.toml"
        policy.write_text(policy.read_text() + LIMITED)
        (here.office.source / "tokens.toml").write_text(
            f'[[tokens]]\nemaid = "{TYPED}"\nlabel = "contract of van 7"\ngroup = "limited"\n'
        )
        trust(here.office)
        (here.root / "contracts.pass").write_bytes(PASSPHRASE + b"\n")
        key = VEHICLE_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / "vehicle.pem").write_bytes(key)
        good(roamkey("contract", "provision", tmp_path / "vehicle.pem", "--config", here.config))
        here.start_ready()
        yield here


def sign(van: Premises, challenge: bytes, **more: Any) -> dict[str, Any]:
    asked = {"id": "id1", "challenge": text(challenge), "context": HOME, **more}
    return van.api.post("/v1/contracts/sign-authorization", asked)


def session_ended(van: Premises, granted: dict[str, Any]) -> None:
    assert van.api.post("/v1/contracts/session-ended", {"decision": granted["decision"]})["ended"]


def codes(answer: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(each["code"] for each in answer["reasons"]))


def install(van: Premises, leaf: Wish) -> dict[str, Any]:
    return van.api.post("/v1/contracts/install", installation(leaf))


def holds(answer: dict[str, Any]) -> bool:
    references = tuple(
        Reference(id=each["uri"][1:], digest=base64.b64decode(each["digest"])) for each in answer["references"]
    )
    point = read_certificate(base64.b64decode(answer["chain"][0])).point
    return signature_holds(point, references, base64.b64decode(answer["signature"]))


def decisions(van: Premises) -> list[dict[str, Any]]:
    return [each["data"] for each in van.events("decision.made")]


def challenges_used(van: Premises) -> int:
    path = van.state / "contracts" / "wallet" / "challenges"
    return path.stat().st_size // 32 if path.exists() else 0


def test_a_contract_is_installed_refused_elsewhere_and_used_at_home_once(van: Premises) -> None:
    assert install(van, dated(LEAF)) == {
        "installed": True, "fingerprint": dated(LEAF).certificate.fingerprint, "repeated": False,
    }  # fmt: skip
    assert install(van, dated(LEAF))["repeated"]
    (listed,) = van.api.get("/v1/contracts")["contracts"]
    assert (listed["emaid"], listed["state"], listed["usable"]) == (TYPED, "present", True)

    refused = sign(van, bytes(16), context=HOME | {"network": "NL*XYZ"})
    assert (refused["signed"], refused["obstruction"]) == (False, "NOT_PERMITTED")
    assert [each["code"] for each in refused["reasons"]] == ["NETWORK"]
    assert not {"signature", "chain", "emaid"} & refused.keys()
    assert challenges_used(van) == 0, "a refusal uses up nothing, and nothing was signed"
    recorded = decisions(van)[-1]
    assert (recorded["decision"], recorded["outcome"]) == (refused["decision"], "refused")
    assert (recorded["place"]["network"], recorded["reasons"][0]["code"]) == ("NL*XYZ", "NETWORK")
    assert recorded["holder"]["label"] == "contract of van 7"

    granted = sign(van, bytes(16))
    assert granted["signed"]
    assert holds(granted)
    assert decisions(van)[-1]["decision"] == granted["decision"]
    assert decisions(van)[-1]["outcome"] == "granted"

    assert sign(van, bytes(16))["obstruction"] == "CHALLENGE_USED"
    van.service.kill()
    van.start_ready()
    assert sign(van, bytes(16))["obstruction"] == "CHALLENGE_USED"
    assert decisions(van)[-1]["decision"] == granted["decision"], "nothing is granted that will not be signed"
    session_ended(van, granted)
    assert holds(sign(van, bytes(15) + b"\1"))


def test_of_two_signatures_at_once_one_is_refused_also_after_a_kill_until_its_session_has_ended(van: Premises) -> None:
    install(van, dated(LEAF))
    there = [HOME | {"session": "8F3A"}, HOME | {"evse": "DE*ABC*E2002*1"}]
    with ThreadPoolExecutor(max_workers=2) as both:
        answers = list(both.map(lambda at: sign(van, bytes(15) + bytes([at]), context=there[at]), range(2)))
    (granted,) = (each for each in answers if each["signed"])
    (refused,) = (each for each in answers if not each["signed"])
    assert holds(granted)
    assert granted["limits"] == {"max_energy_wh": 60_000}
    assert (refused["obstruction"], codes(refused)) == ("NOT_PERMITTED", ["CONCURRENT_SESSION"])
    assert challenges_used(van) == 1
    (opened,) = (each["data"] for each in van.events("contract.opened"))
    assert (opened["decision"], opened["lasts_s"]) == (granted["decision"], 86_400)

    van.service.kill()
    van.start_ready()
    assert codes(sign(van, bytes(15) + b"\3")) == ["CONCURRENT_SESSION"]
    session_ended(van, granted)
    session_ended(van, granted)
    (closed,) = (each["data"] for each in van.events("contract.closed"))
    assert closed == {"decision": granted["decision"], "reason": "ended"}
    van.service.kill()
    van.start_ready()
    assert holds(sign(van, bytes(15) + b"\4"))
    with pytest.raises(Refused, match="no contract signed"):
        session_ended(van, refused)


def test_a_permission_with_which_nothing_could_be_signed_is_told_and_counts_no_longer(van: Premises) -> None:
    install(van, dated(LEAF))
    file = van.state / "contracts" / "wallet" / "challenges"
    file.mkdir()
    failed = sign(van, bytes(16))
    assert (failed["signed"], failed["obstruction"]) == (False, "STORAGE")
    until("the record", lambda: list(van.events("contract.closed")))
    (closed,) = (each["data"] for each in van.events("contract.closed"))
    assert closed == {"decision": failed["decision"], "reason": "storage"}
    file.rmdir()
    assert holds(sign(van, bytes(16)))


def test_a_receipt_is_signed_while_the_session_goes_on_and_the_fleet_permits_it(van: Premises) -> None:
    install(van, dated(LEAF))
    granted = sign(van, bytes(16))
    asked = {
        "decision": granted["decision"], "fingerprint": granted["fingerprint"], "id": "id1", "session": text(bytes(8)),
        "schedule": 1, "meter": {"id": "M1", "reading_wh": 12_000}, "context": HOME,
    }  # fmt: skip

    def receipt(**more: Any) -> dict[str, Any]:
        return van.api.post("/v1/contracts/sign-receipt", asked | more)

    signed = receipt()
    assert signed["signed"]
    assert holds(signed)
    assert signed["chain"] == granted["chain"]
    assert len(list(van.events("contract.opened"))) == 1, "it goes on, and begins nothing"
    assert codes(receipt(context=HOME | {"network": "NL*XYZ"})) == ["NETWORK"]
    for wrong in ({"schedule": 0}, {"schedule": True}, {"meter": {"id": ""}}, {"session": ""}, {"bytes": ""}):
        with pytest.raises(Refused) as refused:
            receipt(**wrong)
        assert refused.value.status == 422, wrong
    session_ended(van, granted)
    with pytest.raises(Refused, match="no session is open"):
        receipt()


def test_a_contract_that_the_fleet_does_not_know_makes_room_for_one_that_it_does(van: Premises) -> None:
    stranger = installation(dated(LEAF).but(name=STRANGER, key=p256(55), serial=77)) | {"priority": 1}
    assert van.api.post("/v1/contracts/install", stranger)["installed"]
    install(van, dated(LEAF))
    assert [each["priority"] for each in van.api.get("/v1/contracts")["contracts"]] == [1, 100]
    answer = sign(van, bytes(16))
    assert holds(answer)
    assert [each["outcome"] for each in decisions(van)] == ["refused", "granted"]
    assert answer["decision"] == decisions(van)[-1]["decision"]
    assert "refused by the fleet: TOKEN_UNKNOWN" in answer["explanation"][0]


def test_a_contract_that_the_fleet_does_not_know_signs_nothing(van: Premises) -> None:
    assert install(van, dated(LEAF).but(name=STRANGER, key=p256(55), serial=77))["installed"]
    refused = sign(van, bytes(16))
    assert [each["code"] for each in refused["reasons"]] == ["TOKEN_UNKNOWN"]
    assert challenges_used(van) == 0
    assert decisions(van)[-1]["outcome"] == "refused"


def test_a_running_session_of_the_vehicle_keeps_its_contract_from_another(van: Premises) -> None:
    before = van.status()["policy"]["revision"]
    van.stop()
    van.settings += '[[charger]]\nname = "yard"\nnetwork = "DE*ABC"\ncountry = "DE"\n'
    van.settings += '[[reader]]\nname = "door"\nprofile = "readers/simulated"\nport = "none"\ncharger = "yard"\n'
    (van.office.source / "tokens.toml").write_text(
        f'[[tokens]]\nemaid = "{TYPED}"\nlabel = "contract"\ngroup = "vans"\nvehicle = "VAN-9"\n'
    )
    van.office.publish()
    van.write_config()
    van.start_ready()
    until("the new table", lambda: van.status()["policy"]["revision"] > before)
    install(van, dated(LEAF))
    van.report("yard", "found", state="available", meter_wh=0)
    until("the yard's charger", lambda: van.reachable("yard"))
    assert van.tap("door", DORA)["outcome"] == "granted"
    refused = sign(van, bytes(16))
    assert [each["code"] for each in refused["reasons"]] == ["CONCURRENT_SESSION"]


def test_what_we_sign_our_verifier_authorises_until_the_fleet_revokes_it(van: Premises) -> None:
    leaf = dated(LEAF)
    install(van, leaf)
    challenge = bytes(range(16))
    signed = sign(van, challenge)
    proof = {
        "id": "id1",
        "challenge": text(challenge),
        "signature": {"references": signed["references"], "value": signed["signature"]},
    }
    asked = {"chain": signed["chain"], "emaid": signed["emaid"], "challenge": text(challenge), "proof": proof}

    verdict = van.api.post("/v1/contracts/verify", asked)
    assert (verdict["outcome"], verdict["codes"]["iso15118-2"]) == ("authorised", "OK"), verdict["flaws"]
    swapped = van.api.post("/v1/contracts/verify", asked | {"emaid": STRANGER})
    assert (swapped["outcome"], "EMAID_MISMATCH" in {each["code"] for each in swapped["flaws"]}) == ("refused", True)
    stale = van.api.post("/v1/contracts/verify", asked | {"challenge": text(bytes(16))})
    assert "CHALLENGE" in {each["code"] for each in stale["flaws"]}

    assert leaf.issuer is not None
    revoked = hash_data(leaf.certificate, leaf.issuer.certificate).revocation_key
    trust(van.office, revoked=[{"issuer_key_hash": revoked.issuer_key_hash, "serial": revoked.serial}])

    def code() -> str:
        return str(van.api.post("/v1/contracts/verify", asked)["codes"]["iso15118-2"])

    until("the revocation is here", lambda: code() == "FAILED_CertificateRevoked")
    assert sign(van, bytes(16))["obstruction"] == "NO_CONTRACT"
    assert van.api.get("/v1/contracts")["contracts"][0]["state"] == "revoked"
    trust(van.office)
    van.service.kill()
    van.start_ready()
    assert code() == "FAILED_CertificateRevoked", "a known revocation never lapses"


def test_nobody_s_contract_and_no_key_is_written_in_clear(van: Premises) -> None:
    install(van, dated(LEAF))
    sign(van, bytes(16))
    sign(van, bytes(16), context=HOME | {"network": "NL*XYZ"})
    answers = json.dumps(van.api.get("/v1/contracts"))
    assert "PRIVATE" not in answers
    assert PASSPHRASE.decode() not in answers
    van.stop()

    written = b"".join(van.sealed()) + van.service.said().encode()
    for clear in (EMAID.encode(), TYPED.encode(), b"1234567-0", PASSPHRASE):
        assert clear not in written
    assert (van.state / "contracts" / "keys").stat().st_mode & 0o077 == 0


def test_the_verbs_speak_to_the_running_service(van: Premises, tmp_path: Path) -> None:
    here = ("--config", van.config)
    file = tmp_path / "response.json"
    file.write_text(json.dumps(installation(dated(LEAF))))
    fingerprint = dated(LEAF).certificate.fingerprint

    again = roamkey("contract", "provision", tmp_path / "vehicle.pem", *here)
    assert (again.returncode, "already" in again.stderr) == (65, True)
    assert "is installed" in good(roamkey("contract", "install", file, *here))
    assert TYPED in good(roamkey("contract", "list", *here))
    assert json.loads(good(roamkey("contract", "show", fingerprint[:12], "--json", *here)))["state"] == "present"
    assert "the signature holds" in good(
        roamkey("contract", "sign-test", "--network", "DE*ABC", "--country", "DE", *here)
    )
    refused = roamkey("contract", "sign-test", "--network", "NL*XYZ", "--country", "DE", *here)
    assert (refused.returncode, "NETWORK" in refused.stdout) == (1, True)
    vehicle = dated(Wish(name="WMIV1234567890ABCDEX", key=VEHICLE_KEY, issuer=V2G_ROOT, ca=False, serial=99))
    (tmp_path / "vehicle.der").write_bytes(vehicle.der)
    renewal = ("contract", "renew", "--certificate", tmp_path / "vehicle.der", "--root", "1:CN=MORootCA")
    assert json.loads(good(roamkey(*renewal, "--json", *here)))["signed"]
    waits_until = van.api.get("/v1/contracts")["contracts"][0]["renew_from"]
    van.stop()
    van.start_ready()
    assert van.api.get("/v1/contracts")["contracts"][0]["renew_from"] == waits_until, "a restart asks no sooner"
    assert "removed" in good(roamkey("contract", "remove", fingerprint[:12], *here))
    assert json.loads(good(roamkey("contract", "list", "--json", *here))) == []
    assert roamkey("contract", "show", fingerprint, *here).returncode == 66
    assert "ROLLED_BACK" in roamkey("contract", "install", file, *here).stdout


YARD = {"latitude": "52.52", "longitude": "13.40", "accuracy_m": 8, "age_s": 1}
FENCED = """
[groups.fenced]
parent = "vans"
prompts = ["odometer"]
fence = { polygons = [[["52.4", "13.3"], ["52.6", "13.3"], ["52.6", "13.5"], ["52.4", "13.5"]]] }
"""


def test_a_fence_and_a_question_to_the_driver_stand_before_a_signature_and_no_topic_names_the_contract(
    tmp_path: Path, office: FleetOffice
) -> None:
    """All that the broker hears is read: the eMAID is in no topic and no message, also where records tell of it."""
    capture = tmp_path / "capture"
    with (
        built_premises(tmp_path / "van", office, bays=(), readers=(), settings=SETTINGS, broker=True) as here,
        capture.open("wb") as file,
    ):
        policy = here.office.source / "policy.toml"
        policy.write_text(policy.read_text() + FENCED)
        (here.office.source / "tokens.toml").write_text(
            f'[[tokens]]\nemaid = "{TYPED}"\nlabel = "contract of van 7"\ngroup = "fenced"\n'
        )
        trust(here.office)
        (here.root / "contracts.pass").write_bytes(PASSPHRASE + b"\n")
        (tmp_path / "vehicle.pem").write_bytes(
            VEHICLE_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        good(roamkey("contract", "provision", tmp_path / "vehicle.pem", "--config", here.config))
        assert here.broker is not None
        command = ["mosquitto_sub", "-p", str(here.broker.port), "-t", "#", "-F", "%t %x"]
        with subprocess.Popen(command, stdout=file) as listener:
            try:
                here.start_ready()
                here.office.publish(port=here.broker.port)
                until("the anchors", lambda: install(here, dated(LEAF))["installed"])

                def codes(**more: Any) -> set[str]:
                    return {each["code"] for each in sign(here, bytes(16), **more)["reasons"]}

                told = {"odometer_km": 10_000}
                until("the policy, and no position", lambda: codes(input=told) == {"GEOFENCE"})
                assert codes(input=told, position=YARD | {"latitude": "48.1"}) == {"GEOFENCE"}
                assert codes(input=told, position=YARD | {"age_s": 4000}) == {"GEOFENCE"}
                assert codes(position=YARD) == {"ODOMETER"}
                assert challenges_used(here) == 0
                assert holds(sign(here, bytes(16), input=told, position=YARD))
                here.until_delivered()
            finally:
                listener.terminate()
    heard: dict[bytes, bytes] = {}
    for line in capture.read_bytes().splitlines():
        topic, _, payload = line.partition(b" ")
        heard[topic] = heard.get(topic, b"") + (unfolded(payload) if payload != b"(null)" else b"")
    assert any(topic.endswith(b"up/records") for topic in heard)
    assert b"contract of van 7" in b"".join(heard.values()), "the records were read"
    for clear in (EMAID.encode(), TYPED.encode(), b"1234567-0", b"DE*8AA"):
        assert not [topic for topic, content in heard.items() if clear in topic + content]


def unfolded(payload: bytes) -> bytes:
    body = bytes.fromhex(payload.decode())
    try:
        return zlib.decompress(body)
    except zlib.error:
        return body


WRONG = {
    "no JSON": ("sign-authorization", "nothing", 422, "JSON"),
    "a list": ("install", [], 422, "object"),
    "a challenge of 15 bytes": ("sign-authorization", {"id": "a", "challenge": text(bytes(15))}, 200, "16 bytes"),
    "bytes to sign": ("sign-authorization", {"id": "a", "challenge": "", "bytes": "AA=="}, 422, "unknown bytes"),
    "what would decide nothing": (
        "sign-authorization",
        {"id": "a", "challenge": "", "context": {"operator": "ABC"}},
        422,
        "unknown operator",
    ),
    "a priority that is none": ("install", {"priority": -1}, 422, "priority"),
    "the end of no session": ("session-ended", {"decision": "d"}, 404, "no contract signed"),
    "a PIN that is none": (
        "sign-authorization",
        {"id": "a", "challenge": text(bytes(16)), "input": {"pin": "not a pin"}},
        422,
        "input.pin",
    ),
    "a fingerprint that is none": ("remove", {"fingerprint": "abc"}, 422, "SHA-256"),
    "a contract that is not here": ("remove", {"fingerprint": "ab" * 32}, 404, "contract list"),
    "a proof without its challenge": ("verify", {"chain": [], "emaid": "", "proof": {}}, 422, "challenge"),
    "an empty chain": ("verify", {"chain": [], "emaid": TYPED}, 200, "NO_CERTIFICATE"),
}


def test_wrong_questions_get_clear_answers(van: Premises) -> None:
    for what, (path, body, status, told) in WRONG.items():
        try:
            answer, code = van.api.post(f"/v1/contracts/{path}", body), 200  # type: ignore[arg-type]
        except Refused as error:
            answer, code = {"error": str(error)}, error.status
        assert code == status, (what, answer)
        assert told in json.dumps(answer), (what, answer)
        assert "not a pin" not in json.dumps(answer)
    assert challenges_used(van) == 0


def test_without_a_wallet_or_its_passphrase_cards_are_decided_and_contracts_are_not(van: Premises) -> None:
    van.stop()
    (van.root / "contracts.pass").write_bytes(b"another passphrase than before")
    van.start_ready()
    answer = install(van, dated(LEAF))
    assert (answer["obstacle"], "passphrase is another one" in answer["detail"]) == ("STORAGE", True)
    van.stop()
    (van.root / "contracts.pass").unlink()
    van.start_ready()
    with pytest.raises(Refused, match=r"contract-keys\.passphrase"):
        install(van, dated(LEAF))
    assert van.api.post("/v1/decisions", {"uid": "04998877665544"})["outcome"] == "refused"
    van.stop()
    van.settings = ""
    van.write_config()
    van.start_ready()
    with pytest.raises(Refused, match=r"\[contracts\]"):
        van.api.get("/v1/contracts")
    assert van.api.post("/v1/contracts/verify", {"chain": [], "emaid": TYPED})["outcome"] == "refused"
