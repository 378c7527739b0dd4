"""A whole exchange in JSON, as a stack in any language would have it: install, sign, verify."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent.contracts.messages import (
    MessageUnfit,
    authorization_document,
    contract_document,
    installation_document,
    read_authorization,
    read_installation,
    read_priority,
    read_request,
    read_verification,
)
from agent.contracts.wallet import Context
from agent.core.contracts.contract import USABLE, State
from agent.core.contracts.exi_fragments import RootId, certificate_installation_request
from agent.core.contracts.installation import InstallationResponse
from agent.core.contracts.verification import Outcome, prove_possession, verify_chain
from agent.core.decisions import Granted, Refused
from agent.core.limits import Limits
from agent.core.prices import CostLimit, plain_prices
from agent.core.reasons import Reason, ReasonCode
from tests.contract_wallet.pki_builder import EMAID, a_bundle, an_instant
from tests.contract_wallet.provisioning import FileHome, a_response
from tests.contract_wallet.test_wallet import permitted


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def installation(response: InstallationResponse) -> dict[str, Any]:
    return {
        "provisioning_chain": [b64(each) for each in response.provisioning_chain],
        "contract_chain": {
            "id": response.contract_chain_id,
            "certificates": [b64(each) for each in (response.contract_leaf, *response.contract_subs)],
        },
        "encrypted_private_key": {"id": response.encrypted_key_id, "value": b64(response.encrypted_key)},
        "dh_public_key": {"id": response.dh_public_key_id, "value": b64(response.dh_public_key)},
        "emaid": {"id": response.emaid_id, "value": response.emaid},
        "signature": {
            "references": [{"uri": f"#{each.id}", "digest": b64(each.digest)} for each in response.references],
            "value": b64(response.signature),
        },
    }


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_a_contract_is_installed_used_and_verified_in_json(tmp_path: Path) -> None:
    wallet = FileHome(folder=tmp_path).wallet()
    response = read_installation(through_json(installation(a_response())))
    installed = through_json(installation_document(wallet.install(response, bundle=a_bundle(), now=an_instant())))
    assert installed["installed"] is True

    challenge = b64(bytes(range(16)))
    asked = read_authorization(
        {"id": "id1", "challenge": challenge, "context": {"network": "DE*ABC", "session": "8F3A"}}
    )
    answer = through_json(
        authorization_document(
            wallet.sign_authorization(
                asked.id, asked.challenge, context=asked.context, permit=permitted, now=an_instant(),
                wanted=asked.wanted,
            )
        )
    )  # fmt: skip
    assert (answer["signed"], answer["emaid"]) == (True, EMAID)

    signature = {"references": answer["references"], "value": answer["signature"]}
    question = read_verification(
        {
            "chain": answer["chain"],
            "emaid": answer["emaid"],
            "challenge": challenge,
            "proof": {"id": "id1", "challenge": challenge, "signature": signature},
        }
    )
    assert question.challenge is not None
    assert question.proof is not None
    chain = verify_chain(question.chain, claimed=question.claimed, bundle=a_bundle(), now=an_instant())
    assert prove_possession(chain, challenge=question.challenge, proof=question.proof).outcome is Outcome.AUTHORISED


def test_a_refusal_carries_the_fleet_s_reasons_and_no_signature(tmp_path: Path) -> None:
    wallet = FileHome(folder=tmp_path).wallet()
    wallet.install(a_response(), bundle=a_bundle(), now=an_instant())
    asked = read_authorization({"id": "id1", "challenge": b64(bytes(16)), "emaid": EMAID, "roots": None})
    refusal = Refused(reasons=(Reason(code=ReasonCode.NETWORK, rule="network_allowed", observed="DE*XYZ"),))
    answer = through_json(
        authorization_document(
            wallet.sign_authorization(
                asked.id, asked.challenge, context=asked.context, permit=lambda _: refusal, now=an_instant()
            )
        )
    )

    assert answer["signed"] is False
    assert answer["reasons"][0]["code"] == "NETWORK"
    assert "signature" not in answer


def test_what_was_not_installed_says_why(tmp_path: Path) -> None:
    broken = installation(a_response())
    broken["signature"]["value"] = b64(bytes(64))
    answer = FileHome(folder=tmp_path).wallet().install(read_installation(broken), bundle=a_bundle(), now=an_instant())
    assert installation_document(answer)["obstacle"] == "PROVISIONING_SIGNATURE"


@pytest.mark.parametrize(
    "document",
    [
        None, [], {}, {"id": "id1"}, {"id": 5, "challenge": ""}, {"id": "id1", "challenge": "?"},
        {"id": "id1", "challenge": "", "extra": 1}, {"id": "id1", "challenge": "", "context": []},
        {"id": "id1", "challenge": "", "context": {"session": True}}, {"id": "x" * 300, "challenge": ""},
        {"id": "id1", "challenge": "", "context": {"latitude": 48}},
        {"id": "id1", "challenge": "", "context": {"longitude": 11}},
        {"id": "id1", "challenge": "", "context": {"operator": "ABC"}},
        {"id": "id1", "challenge": "", "emaid": "nobody"}, {"id": "id1", "challenge": "", "providers": "DE8AA"},
        {"id": "id1", "challenge": b64(bytes(9000))},
    ],
)  # fmt: skip
def test_a_wrong_question_for_a_signature_is_refused(document: object) -> None:
    with pytest.raises(MessageUnfit):
        read_authorization(document)


@pytest.mark.parametrize(
    "change",
    [
        {"signature": {}}, {"signature": {"references": [{"uri": "id1", "digest": ""}], "value": ""}},
        {"contract_chain": {"id": "id1", "certificates": []}}, {"provisioning_chain": [""] * 9}, {"emaid": "x"},
        {"dh_public_key": {"id": "id3"}},
    ],
)  # fmt: skip
def test_a_wrong_installation_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MessageUnfit):
        read_installation({**installation(a_response()), **change})


@pytest.mark.parametrize("wrong", [True, -1, 1001, "1", 1.5])
def test_a_priority_is_a_small_whole_number(wrong: object) -> None:
    with pytest.raises(MessageUnfit, match="priority"):
        read_priority(wrong)


def test_a_signature_tells_what_the_fleet_allows_with_it(tmp_path: Path) -> None:
    wallet = FileHome(folder=tmp_path).wallet()
    wallet.install(a_response(), bundle=a_bundle(), now=an_instant())
    prices = plain_prices(currency="EUR", per_kwh=Decimal("0.5"))
    limits = Limits(
        max_energy_wh=20_000, max_duration_s=7200, cost=CostLimit(prices=prices, net=None, gross=Decimal("25.00"))
    )
    answer = wallet.sign_authorization(
        "id1", bytes(16), context=Context(), permit=lambda _: Granted(limits=limits), now=an_instant()
    )
    assert through_json(authorization_document(answer))["limits"] == {
        "max_energy_wh": 20_000, "max_duration_s": 7200, "max_cost": {"currency": "EUR", "net": None, "gross": "25.00"},
    }  # fmt: skip


def test_a_proof_without_the_challenge_that_was_sent_is_refused() -> None:
    with pytest.raises(MessageUnfit, match="proof"):
        read_verification({"chain": [], "emaid": EMAID, "challenge": ""})


def a_request(roots: int) -> dict[str, Any]:
    named = [{"issuer": f"CN=Root {number}", "serial": number} for number in range(roots)]
    return {"id": "id1", "provisioning_certificate": b64(b"certificate"), "roots": named}


def test_a_request_for_a_contract_may_name_twenty_roots_as_the_schema_says() -> None:
    asked = read_request(a_request(20))

    assert asked.roots[19] == RootId(issuer="CN=Root 19", serial=19)
    assert certificate_installation_request(asked.id, asked.provisioning_certificate, asked.roots)
    with pytest.raises(MessageUnfit, match=r"roots: is no list of at most 20"):
        read_request(a_request(21))


def test_a_charger_may_know_many_providers() -> None:
    asked = {"id": "id1", "challenge": "", "providers": [f"DE{number:03}" for number in range(100)]}
    assert len(read_authorization(asked).wanted.providers or ()) == 100


@pytest.mark.parametrize("state", State)
def test_only_what_would_be_used_is_called_usable(tmp_path: Path, state: State) -> None:
    wallet = FileHome(folder=tmp_path).wallet()
    wallet.install(a_response(), bundle=a_bundle(), now=an_instant())
    [contract] = wallet.contracts

    assert contract_document(contract, state)["usable"] is (state in USABLE)
