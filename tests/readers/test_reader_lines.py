"""Where the key of a reader's secure channel comes from, and what `roamkey check` says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from agent.config import Charger, Reader
from agent.environment import Finding, Verdict, device, secure_channel
from agent.reader_lines import line_of
from drivers.readers.secure_line import INSTALL_KEY, KeyUnusable

KEY = bytes(range(1, 17))


def a_reader(profile: str = "readers/osdp_v2", key: Path | None = None, *, plain: bool = False) -> Reader:
    return Reader(name="gate", profile=profile, port="/dev/ttyS1", charger="left", address=3, key=key, plain=plain)


def finding(reader: Reader) -> Finding:
    (found,) = secure_channel(reader)
    return found


@pytest.mark.parametrize("content", [KEY, KEY.hex().encode(), KEY.hex().upper().encode() + b"\n"])
def test_a_key_file_holds_the_bytes_or_their_digits(content: bytes, tmp_path: Path):
    path = tmp_path / "scbk"
    path.write_bytes(content)
    line = line_of(a_reader(key=path))
    assert line.key() == KEY
    assert (line.address, line.plain) == (3, False)
    assert finding(a_reader(key=path)).verdict is Verdict.GOOD


def test_a_systemd_credential_is_taken_when_no_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "reader-gate.key").write_bytes(KEY)
    assert line_of(a_reader()).key() == KEY


def test_a_key_that_was_corrected_is_read_at_the_next_try(tmp_path: Path):
    path = tmp_path / "scbk"
    line = line_of(a_reader(key=path))
    with pytest.raises(KeyUnusable, match="cannot be read"):
        line.key()
    path.write_bytes(KEY)
    assert line.key() == KEY


@pytest.mark.parametrize(
    ("content", "told"),
    [(INSTALL_KEY, "default key"), (b"\0" * 16, "default key"), (b"short", "5 bytes"), (None, "cannot be read")],
)
def test_the_check_names_a_key_that_protects_nothing_and_never_shows_it(
    content: bytes | None, told: str, tmp_path: Path
):
    path = tmp_path / "scbk"
    if content is not None:
        path.write_bytes(content)
    found = finding(a_reader(key=path))
    assert found.verdict is Verdict.BAD
    assert told in found.detail
    assert content is None or content.hex() not in found.detail


def test_no_key_is_an_error_and_in_clear_a_warning():
    assert finding(a_reader()).verdict is Verdict.BAD
    assert finding(a_reader(plain=True)).verdict is Verdict.WORSE


def test_a_key_and_the_wish_for_none_contradict_each_other(tmp_path: Path):
    with pytest.raises(ValidationError, match="leave one out"):
        a_reader(key=tmp_path / "scbk", plain=True)


def test_other_readers_have_no_secure_channel_to_check():
    assert not list(secure_channel(a_reader(profile="readers/rdm6300")))


def test_a_reader_of_the_operator_s_own_profile_has_only_the_channel_that_it_says(tmp_path: Path):
    own = tmp_path / "readers"
    own.mkdir()
    (own / "acme.toml").write_text('extends = "readers/rdm6300"\nid = "readers/acme"\n')
    (own / "vault.toml").write_text('extends = "readers/osdp_v2"\nid = "readers/vault"\n')
    assert not list(secure_channel(a_reader(profile="readers/acme"), tmp_path))
    assert next(secure_channel(a_reader(profile="readers/vault"), tmp_path)).verdict is Verdict.BAD
    assert not list(secure_channel(a_reader(profile="readers/of_the_bundle"), tmp_path))


def test_a_profile_that_only_the_bundle_may_have_is_a_warning_and_one_that_it_cannot_have_an_error():
    (waits,) = device("reader gate", "readers/of_the_bundle", "/dev/null", None)
    assert waits.verdict is Verdict.WORSE
    assert "bundle" in waits.detail
    (wrong,) = device("charger left", "chargers/nobody", "/dev/null", None)
    assert wrong.verdict is Verdict.BAD


def test_a_profile_of_another_kind_is_refused_by_the_configuration_with_where_to_look():
    with pytest.raises(ValidationError, match=r"readers/.*roamkey profiles list"):
        a_reader(profile="chargers/line")
    with pytest.raises(ValidationError, match=r"chargers/.*roamkey profiles list"):
        Charger(name="left", profile="readers/pn532_hsu", port="/dev/ttyS1")
