"""What only a PKCS#11 token does; test_wallet.py runs whole on one as well. Skipped, with the reason, where SoftHSM2 or
the extra `hsm` is missing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pkcs11: Any = pytest.importorskip("pkcs11", reason="the extra `hsm` is not installed")

from agent.config import Contracts, Pkcs11  # noqa: E402
from agent.contract_desk import inspect_keys, open_keys  # noqa: E402
from agent.contracts.key_store import KeyStoreError  # noqa: E402
from agent.contracts.pkcs11_keys import Pkcs11Keys, block_cipher  # noqa: E402
from agent.contracts.wallet import PROVISIONING_KEY, Authorization, Context, Installed, Wallet  # noqa: E402
from agent.core.contracts.contract import State  # noqa: E402
from agent.core.contracts.installation import InstallationResponse  # noqa: E402
from agent.core.contracts.key_transport import KeyTransportError  # noqa: E402
from agent.core.contracts.signatures import signature_holds  # noqa: E402
from agent.core.contracts.signing import AuthorizationRequest  # noqa: E402
from agent.core.decisions import Granted, Limits  # noqa: E402
from drivers.cards.diversification import Algorithm, diversified, with_key  # noqa: E402
from tests.contract_wallet.conftest import MODULE, PIN  # noqa: E402
from tests.contract_wallet.pki_builder import LEAF, NOW, a_bundle, an_instant, p256  # noqa: E402
from tests.contract_wallet.provisioning import (  # noqa: E402
    SENDER_KEY,
    VEHICLE_KEY,
    TokenHome,
    a_response,
    point_of,
    wrapped,
)

# The library complains in a destructor when a session is gone that it searched in.
NOISY = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def keys(token_home: TokenHome) -> Pkcs11Keys:
    """With the vehicle's provisioning key and nothing else."""
    return token_home.token


def permitted(asked: object) -> Granted:
    return Granted(limits=Limits())


def test_a_contract_is_installed_into_the_token_used_there_and_survives_a_restart(
    keys: Pkcs11Keys, tmp_path: Path
) -> None:
    wallet = Wallet(tmp_path, keys)
    assert isinstance(wallet.install(a_response(), bundle=a_bundle(), now=an_instant()), Installed)

    for number, opened in enumerate((wallet, Wallet(tmp_path, keys))):
        answer = opened.sign_authorization(
            "id1", bytes([number] * 16), context=Context(), permit=permitted, now=an_instant()
        )
        assert isinstance(answer, Authorization)
        assert signature_holds(LEAF.certificate.point, answer.signed.references, answer.signed.signature)
    assert not list(tmp_path.rglob("*.p8"))


def test_a_renewal_leaves_one_key_and_a_removal_none(keys: Pkcs11Keys, tmp_path: Path) -> None:
    wallet = Wallet(tmp_path, keys)
    wallet.install(a_response(), bundle=a_bundle(), now=an_instant())
    renewed = LEAF.but(key=p256(6), serial=0x0BCE, not_before=NOW)
    assert isinstance(wallet.install(a_response(renewed), bundle=a_bundle(), now=an_instant()), Installed)

    assert len(keys.names()) == 2
    assert wallet.remove(renewed.certificate.fingerprint)
    assert keys.names() == {PROVISIONING_KEY}


def test_no_key_can_be_read_out_of_the_token(keys: Pkcs11Keys) -> None:
    private = keys._private(PROVISIONING_KEY)
    assert private[pkcs11.Attribute.EXTRACTABLE] is False
    assert private[pkcs11.Attribute.SENSITIVE] is True
    with pytest.raises(pkcs11.AttributeSensitive):
        private[pkcs11.Attribute.VALUE]


def test_a_wrapped_key_that_is_not_the_certificate_s_is_not_kept(keys: Pkcs11Keys) -> None:
    with pytest.raises(KeyTransportError):
        keys.take_in(
            "contract-x", under=PROVISIONING_KEY, sender=point_of(SENDER_KEY), field=wrapped(5),
            point=point_of(p256(5)),
        )  # fmt: skip
    with pytest.raises(KeyTransportError):
        keys.take_in(
            "contract-x", under=PROVISIONING_KEY, sender=b"\x04" + bytes(64), field=wrapped(5), point=point_of(p256(5))
        )
    assert keys.names() == {PROVISIONING_KEY}


@NOISY
def test_a_lost_session_is_opened_again(keys: Pkcs11Keys) -> None:
    keys._session.close()
    assert keys.point(PROVISIONING_KEY) == point_of(VEHICLE_KEY)
    keys._session.close()
    request = AuthorizationRequest(id="id1", challenge=bytes(16))
    signed = keys.sign(PROVISIONING_KEY, request)
    assert signature_holds(point_of(VEHICLE_KEY), signed.references, signed.signature)


def test_a_key_that_is_not_there_is_told(keys: Pkcs11Keys) -> None:
    with pytest.raises(KeyStoreError, match="not in the token"):
        keys.point("contract-nowhere")


@NOISY
def test_a_wrong_pin_is_tried_once_and_does_not_lock_the_token(tokens: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyStoreError, match="refuses the PIN"):
            Pkcs11Keys(module=MODULE, token="wrong-pin", pin="not the pin")
    opened = Pkcs11Keys(module=MODULE, token="wrong-pin", pin=PIN)
    assert opened.names() == frozenset()
    opened._pin_refused = True
    opened._session.close()
    with pytest.raises(KeyStoreError, match="has refused the PIN"):
        opened.names()


def test_a_token_that_is_not_there_is_told_with_what_to_check(tokens: Path) -> None:
    with pytest.raises(KeyStoreError, match="cannot be opened"):
        Pkcs11Keys(module=MODULE, token="no such token", pin=PIN)


def test_the_configuration_names_the_token_and_a_file_with_its_pin(keys: Pkcs11Keys, tmp_path: Path) -> None:
    (tmp_path / "pin").write_text(f"{PIN}\n")
    settings = Contracts(pkcs11=Pkcs11(module=MODULE, token="wallet", pin=tmp_path / "pin"))

    keys.close()  # a token lets one process in once

    opened = open_keys(settings, tmp_path)

    assert isinstance(opened, Pkcs11Keys)
    assert opened.names() == {PROVISIONING_KEY}
    assert opened.point(PROVISIONING_KEY) == point_of(VEHICLE_KEY)
    opened.close()
    (tmp_path / "pin").unlink()
    with pytest.raises(KeyStoreError, match=r"contract-keys\.pin"):
        open_keys(settings, tmp_path)


def test_a_look_at_the_keys_finds_the_token_without_trying_its_pin(tokens: Path, tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("certainly wrong\n")
    settings = Contracts(pkcs11=Pkcs11(module=MODULE, token="wrong-pin", pin=tmp_path / "pin"))
    for _ in range(4):
        assert "is there" in inspect_keys(settings, tmp_path)
    Pkcs11Keys(module=MODULE, token="wrong-pin", pin=PIN).close()

    for wrong, told in (({"token": "nowhere"}, "cannot be opened"), ({"pin": tmp_path / "gone"}, "cannot be read")):
        other = settings.pkcs11.model_copy(update=wrong) if settings.pkcs11 is not None else None
        with pytest.raises(KeyStoreError, match=told):
            inspect_keys(Contracts(pkcs11=other), tmp_path)


# --- crashes ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_at_any_call_into_the_token_exactly_one_usable_contract_remains(
    keys: Pkcs11Keys, tokens: Path, tmp_path: Path
) -> None:
    response = a_response(LEAF.but(key=p256(6), serial=0x0BCE, not_before=NOW))
    calls, kills = 0, 0
    while True:
        home = TokenHome(folder=tmp_path / str(calls), token=keys, tokens=tokens)
        assert isinstance(home.wallet().install(a_response(), bundle=a_bundle(), now=an_instant()), Installed)
        if not killed_before(calls, home, response):
            break
        kills += 1
        survivor = home.wallet()
        usable = [each for each, state in survivor.states(now=an_instant()).items() if state is State.PRESENT]
        assert len(usable) == 1, (calls, usable)
        answer = survivor.sign_authorization("id1", bytes(16), context=Context(), permit=permitted, now=an_instant())
        assert isinstance(answer, Authorization)
        assert {each.key for each in survivor.contracts if each.key} == keys.names() - {PROVISIONING_KEY}
        assert isinstance(survivor.install(response, bundle=a_bundle(), now=an_instant()), Installed)
        calls += 1
    assert kills > 6


class DyingSession:
    """A session of a process that ends, without any clean-up, before its n-th call into the token."""

    def __init__(self, session: Any, left: int) -> None:
        self._session = session
        self._left = left

    def __getattr__(self, name: str) -> Any:
        if self._left == 0:
            os._exit(9)
        self._left -= 1
        return getattr(self._session, name)


def killed_before(call: int, home: TokenHome, response: InstallationResponse) -> bool:
    """Install in a child. False: it got through."""
    child = os.fork()
    if child == 0:
        try:
            home.token._session = DyingSession(home.token._session, call)
            home.wallet().install(response, bundle=a_bundle(), now=an_instant())
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@NOISY
def test_cards_keys_are_made_from_a_master_key_that_stays_in_the_token(tokens: Path) -> None:
    master, diversifier = bytes(range(16)), bytes.fromhex("04958CAA5C5E80F5123402")
    attribute = pkcs11.Attribute
    with pkcs11.lib(str(MODULE)).get_token(token_label="cards").open(rw=True, user_pin=PIN) as session:
        session.create_object(
            {
                attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
                attribute.KEY_TYPE: pkcs11.KeyType.AES,
                attribute.LABEL: "roamkey-cards",
                attribute.VALUE: master,
                attribute.TOKEN: True,
                attribute.SENSITIVE: True,
                attribute.EXTRACTABLE: False,
                attribute.ENCRYPT: True,
            }
        )

    with pytest.raises(KeyStoreError, match="no secret key named"):
        block_cipher(MODULE, token="cards", pin=PIN, label="another")
    encrypt = block_cipher(MODULE, token="cards", pin=PIN, label="roamkey-cards")

    for algorithm in Algorithm:
        assert diversified(algorithm, encrypt, diversifier) == diversified(algorithm, with_key(master), diversifier)
