"""The vault keeps the device's keys: made once, readable by the owner only, never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.core.credentials import key_check
from agent.vault import Vault, VaultError
from sync.signing import generate, thumbprint, verify

TOKEN_KEY = bytes(range(200, 232))


@pytest.fixture
def token_key(tmp_path: Path) -> Path:
    path = tmp_path / "token.key"
    path.write_bytes(TOKEN_KEY)
    return path


def test_the_device_key_is_made_once_and_kept(tmp_path: Path, token_key: Path) -> None:
    first = Vault.open(tmp_path / "vault", token_key=token_key)
    again = Vault.open(tmp_path / "vault", token_key=token_key)
    assert first.kid == again.kid
    assert first.public == again.public
    assert (tmp_path / "vault" / "device.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "vault").stat().st_mode & 0o777 == 0o700
    assert {path.name for path in (tmp_path / "vault").iterdir()} == {"device.key", "device.jwk"}


def test_what_it_signs_verifies_with_the_public_key_beside_it(tmp_path: Path, token_key: Path) -> None:
    vault = Vault.open(tmp_path / "vault", token_key=token_key)
    token = vault.sign({"sequence": 7}, typ="test+jws")
    published = (tmp_path / "vault" / "device.jwk").read_text()
    assert "d" not in vault.public
    assert thumbprint(published) == vault.kid
    assert verify(token, {vault.kid: published}, typ="test+jws") == {"sequence": 7}
    assert verify(token, vault.keys, typ="test+jws") == {"sequence": 7}


def test_nothing_of_the_keys_is_shown(tmp_path: Path, token_key: Path) -> None:
    vault = Vault.open(tmp_path / "vault", token_key=token_key)
    shown = repr(vault) + str(vault)
    assert vault.kid in shown
    assert TOKEN_KEY.hex() not in shown
    assert repr(TOKEN_KEY) not in shown
    assert "PRIVATE" not in shown
    assert '"d"' not in shown


def test_a_key_that_systemd_hands_over_is_taken(
    tmp_path: Path, token_key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = generate()
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "device.key").write_bytes(given.private_pem)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    assert Vault.open(tmp_path / "vault", token_key=token_key).kid == given.kid
    assert not (tmp_path / "vault" / "device.key").exists()


@pytest.mark.parametrize("content", [TOKEN_KEY, TOKEN_KEY.hex().encode(), TOKEN_KEY.hex().upper().encode() + b"\n"])
def test_the_token_key_is_bytes_or_hexadecimal(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token.key").write_bytes(content)
    vault = Vault.open(tmp_path / "vault", token_key=tmp_path / "token.key")
    assert vault.token_key == TOKEN_KEY
    assert vault.token_key_check == key_check(TOKEN_KEY)


@pytest.mark.parametrize("content", [b"", b"short", TOKEN_KEY * 2, TOKEN_KEY.hex()[:32].encode(), b"g" * 64])
def test_a_token_key_of_another_shape_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token.key").write_bytes(content)
    with pytest.raises(VaultError, match="32 bytes or 64 hexadecimal digits") as caught:
        Vault.open(tmp_path / "vault", token_key=tmp_path / "token.key")
    assert not content or content.decode("latin-1") not in str(caught.value)


def test_a_missing_token_key_says_where_it_belongs(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match=r"token\.key.*put the fleet's key there"):
        Vault.open(tmp_path / "vault", token_key=tmp_path / "token.key")


def test_a_damaged_device_key_is_named_and_not_replaced(tmp_path: Path, token_key: Path) -> None:
    Vault.open(tmp_path / "vault", token_key=token_key)
    (tmp_path / "vault" / "device.key").write_bytes(b"-----BEGIN PRIVATE KEY-----\nnonsense\n")
    with pytest.raises(VaultError, match=r"device\.key cannot be used"):
        Vault.open(tmp_path / "vault", token_key=token_key)


def test_a_stand_in_signs_for_a_damaged_device_key_until_it_is_restored(tmp_path: Path, token_key: Path) -> None:
    folder = tmp_path / "vault"
    whole = Vault.open(folder, token_key=token_key, stand_in=True)
    good, published = (folder / "device.key").read_bytes(), (folder / "device.jwk").read_bytes()
    assert whole.fault is None
    (folder / "device.key").write_bytes(b"\x00" * len(good))

    first = Vault.open(folder, token_key=token_key, stand_in=True)
    again = Vault.open(folder, token_key=token_key, stand_in=True)
    assert first.kid == again.kid != whole.kid
    assert first.fault is not None
    assert "restore it" in first.fault
    assert (folder / "device.key").read_bytes() == b"\x00" * len(good), "what is left of it may still be saved"
    assert (folder / "device.jwk").read_bytes() == published
    assert thumbprint((folder / "stand-in.jwk").read_text()) == first.kid

    (folder / "device.key").write_bytes(good)
    restored = Vault.open(folder, token_key=token_key, stand_in=True)
    assert (restored.kid, restored.fault) == (whole.kid, None)


def test_no_stand_in_signs_for_a_key_that_was_given(tmp_path: Path, token_key: Path) -> None:
    (tmp_path / "given").write_bytes(b"nonsense")
    with pytest.raises(VaultError, match="cannot be used"):
        Vault.open(tmp_path / "vault", token_key=token_key, device_key=tmp_path / "given", stand_in=True)


def test_a_left_over_of_a_crash_while_the_key_was_made_is_harmless(tmp_path: Path, token_key: Path) -> None:
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault" / ".device.key.new").write_bytes(b"half a k")
    vault = Vault.open(tmp_path / "vault", token_key=token_key)
    assert Vault.open(tmp_path / "vault", token_key=token_key).kid == vault.kid
