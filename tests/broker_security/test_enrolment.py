"""`roamkey enrol` as an operator uses it: what it makes, what it refuses, and that no step leaves a device without."""

from __future__ import annotations

import datetime
import json
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent import enrolment as enrolment_module
from agent.cli import main
from agent.config import load
from agent.enrolment import Enrolment, tls_of
from sync.tls import tls_context
from tests.uplink.certificates import HOUR, Authority

DAY = 24 * HOUR
NAME = "van-1"


@dataclass
class Device:
    """A device's configuration and state, with the operator at its command line."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    @property
    def config(self) -> Path:
        return self.folder / "roamkey.toml"

    @property
    def files(self) -> Enrolment:
        return Enrolment.of(load(self.config))

    def enrol(self, *words: str | Path) -> int:
        self.capture.readouterr()
        return main(["enrol", "--config", str(self.config), *map(str, words)])

    def said(self) -> str:
        out, err = self.capture.readouterr()
        return out + err

    def request(self, *words: str) -> bytes:
        assert self.enrol(*words) == 0
        return self.files.next_request.read_bytes()

    def install(self, certificate: bytes, authority: Path) -> int:
        file = self.folder / "given.pem"
        file.write_bytes(certificate)
        return self.enrol("--install", file, "--ca", authority)

    def status(self) -> tuple[int, dict[str, Any]]:
        code = self.enrol("--status", "--json")
        return code, json.loads(self.capture.readouterr().out)

    def can_connect(self) -> bool:
        """Whether OpenSSL takes the files: key and certificate belong together."""
        tls = tls_of(load(self.config))
        assert tls is not None
        return tls_context(tls) is not None


@pytest.fixture
def device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Device:
    config = f'[device]\nfleet = "acme"\nname = "{NAME}"\nstate = "state"\n[mqtt]\nhost = "127.0.0.1"\n'
    (tmp_path / "roamkey.toml").write_text(config + '[time]\ntrust = "system"\n')
    return Device(tmp_path, capsys)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority", valid=400 * DAY)


def test_the_key_stays_on_the_device_for_the_service_only_and_the_request_names_the_device(device: Device) -> None:
    out = device.folder / "van.csr"
    csr = x509.load_pem_x509_csr(device.request("--out", str(out)))

    assert csr.is_signature_valid
    assert csr.subject.rfc4514_string() == f"CN={NAME}"
    assert stat.S_IMODE(device.files.next_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(device.files.folder.stat().st_mode) == 0o700
    assert device.files.folder.is_relative_to(device.folder / "state" / "vault")
    assert "PRIVATE KEY" not in device.said()
    assert out.read_bytes() == device.files.next_request.read_bytes()


def test_asked_again_it_shows_the_request_for_the_same_key(device: Device) -> None:
    first, again = (x509.load_pem_x509_csr(device.request()) for _ in range(2))
    assert first.public_key() == again.public_key()


def test_an_installed_certificate_is_in_force_and_its_key_is_with_it(device: Device, authority: Authority) -> None:
    assert device.install(authority.sign(device.request()), authority.cafile) == 0

    assert device.can_connect()
    assert stat.S_IMODE(device.files.device.stat().st_mode) == 0o600
    assert not device.files.is_waiting
    assert not device.files.former.exists()
    code, status = device.status()
    assert (code, status["state"], status["subject"], status["issuer"]) == (
        0,
        "good",
        f"CN={NAME}",
        "CN=test authority",
    )
    assert status["days_left"] == 399


REFUSED: dict[str, tuple[Callable[[Authority, Authority, bytes], bytes], str]] = {
    "for another device": (lambda ours, _, csr: ours.sign(csr, name="van-2"), "it is for 'van-2'"),
    "expired": (lambda ours, _, csr: ours.sign(csr, valid=-HOUR), "it has expired on"),
    "not yet valid": (lambda ours, _, csr: ours.sign(csr, begins=DAY, valid=2 * DAY), "it is not valid before"),
    "by another authority": (lambda _, other, csr: other.sign(csr), "is not among the authorities given"),
    "for servers": (
        lambda ours, _, csr: ours.sign(csr, usage=ExtendedKeyUsageOID.SERVER_AUTH),
        "does not allow TLS clients",
    ),
    "for another key": (
        lambda ours, _, csr: ours.issue(NAME).certfile.read_bytes(),  # type: ignore[union-attr]
        "it is for another key",
    ),
    "nonsense": (lambda *_: b"nonsense", "holds no certificate"),
    "damaged": (
        lambda *_: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "cannot be read",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_certificate_that_would_not_work_is_refused_with_the_reason(
    device: Device, authority: Authority, kind: str
) -> None:
    make, says = REFUSED[kind]
    stranger = Authority(device.folder / "stranger")

    assert device.install(make(authority, stranger, device.request()), authority.cafile) == 65

    assert says in device.said()
    assert device.files.is_waiting
    assert not device.files.is_enrolled


def test_a_certificate_from_below_an_intermediate_brings_it_along(device: Device, authority: Authority) -> None:
    below = Authority(device.folder / "below", name="intermediate", below=authority)
    certificate = below.sign(device.request())

    assert device.install(certificate, authority.cafile) == 65
    assert "is not among the authorities" in device.said()
    assert device.install(certificate + below.cafile.read_bytes(), authority.cafile) == 0
    assert device.files.device.read_bytes().count(b"BEGIN CERTIFICATE") == 2


def test_without_a_request_there_is_nothing_to_install_for(device: Device, authority: Authority) -> None:
    assert device.install(authority.sign(device.request()), authority.cafile) == 0
    fresh = authority.issue(NAME)
    assert fresh.certfile is not None
    assert device.install(fresh.certfile.read_bytes(), authority.cafile) == 65
    assert "--renew" in device.said()


@pytest.mark.parametrize(
    ("valid", "code", "state"), [(400 * DAY, 0, "good"), (20 * DAY, 1, "expiring"), (None, 1, "missing")]
)
def test_the_status_tells_how_long_and_its_exit_code_when_to_act(
    device: Device, authority: Authority, valid: datetime.timedelta | None, code: int, state: str
) -> None:
    if valid is not None:
        # Its life began long ago, so that the warning counts in days and not in thirds.
        certificate = authority.sign(device.request(), valid=valid, begins=-400 * DAY)
        assert device.install(certificate, authority.cafile) == 0
    found, status = device.status()
    assert (found, status["state"]) == (code, state)
    assert device.enrol("--status") == code
    assert state in device.said()


def test_a_certificate_of_a_few_days_is_not_always_about_to_expire(device: Device, authority: Authority) -> None:
    assert device.install(authority.sign(device.request(), valid=7 * DAY), authority.cafile) == 0
    assert device.status()[0] == 0


def test_a_renewal_begins_beside_what_is_in_force(device: Device, authority: Authority) -> None:
    device.install(authority.sign(device.request()), authority.cafile)
    before = device.files.device.read_bytes()

    assert device.enrol() == 0
    assert "--renew" in device.said()
    assert not device.files.is_waiting
    request = device.request("--renew")

    assert device.files.device.read_bytes() == before
    assert device.status()[1]["waiting"] == str(device.files.next_request)

    assert device.install(authority.sign(request), authority.cafile) == 0
    assert device.files.former.read_bytes() == before
    assert device.files.device.read_bytes() != before
    assert device.can_connect()


def test_the_certificate_that_has_worked_is_kept_over_two_renewals_that_have_not(
    device: Device, authority: Authority
) -> None:
    device.install(authority.sign(device.request()), authority.cafile)
    worked = device.files.device.read_bytes()
    for _ in range(2):
        device.install(authority.sign(device.request("--renew")), authority.cafile)
    assert device.files.former.read_bytes() == worked


def test_a_new_authority_is_kept_beside_the_one_before(device: Device, authority: Authority) -> None:
    new = Authority(device.folder / "new", name="new authority")
    device.install(authority.sign(device.request()), authority.cafile)
    device.install(new.sign(device.request("--renew")), new.cafile)
    assert device.files.authorities.read_bytes().count(b"BEGIN CERTIFICATE") == 2


@pytest.mark.parametrize("step", range(6))
def test_a_crash_between_any_two_steps_leaves_a_whole_identity_and_the_step_can_be_repeated(
    device: Device, authority: Authority, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    device.install(authority.sign(device.request()), authority.cafile)
    certificate = authority.sign(device.request("--renew"))
    steps = iter(range(100))

    def crashing(call: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **more: Any) -> Any:
            if next(steps) == step:
                raise KeyboardInterrupt
            return call(*arguments, **more)

        return act

    with monkeypatch.context() as patched:
        patched.setattr(enrolment_module, "replace_durably", crashing(enrolment_module.replace_durably))
        patched.setattr(enrolment_module, "sync_folder", crashing(enrolment_module.sync_folder))
        patched.setattr(Path, "unlink", crashing(Path.unlink))
        interrupted = device.install(certificate, authority.cafile)

    assert device.can_connect()
    if interrupted:
        assert device.enrol() == 0
        assert device.install(certificate, authority.cafile) == 0
    assert device.can_connect()
    assert device.files.former.exists()


def test_files_named_in_the_configuration_come_first_and_only_in_pairs(device: Device, authority: Authority) -> None:
    tls = authority.issue(NAME)
    text = device.config.read_text()
    device.config.write_text(text.replace('host = "127.0.0.1"', f'host = "127.0.0.1"\ncertfile = "{tls.certfile}"'))
    assert device.enrol("--status") == 78
    assert "belong together" in device.said()

    pair = f'host = "127.0.0.1"\ncertfile = "{tls.certfile}"\nkeyfile = "{tls.keyfile}"'
    device.config.write_text(text.replace('host = "127.0.0.1"', pair))
    assert device.status()[1]["file"] == str(tls.certfile)


def test_what_systemd_loaded_comes_before_what_was_enrolled(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = tmp_path / "credentials"
    loaded.mkdir()
    for name in ("mqtt-ca.pem", "mqtt.pem", "mqtt.key"):
        (loaded / name).touch()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(loaded))
    tls = tls_of(load(device.config))
    assert tls is not None
    assert (tls.cafile, tls.certfile, tls.keyfile) == tuple(
        loaded / name for name in ("mqtt-ca.pem", "mqtt.pem", "mqtt.key")
    )
