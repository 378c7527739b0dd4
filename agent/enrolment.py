"""The device's TLS identity on disk: key and request, certificate, renewal without a gap. `roamkey enrol` drives it.

Everything lies in the vault's folder `tls`:
    device.pem         in use: the key and its certificates in one file, so that both change in one rename
    former.pem         the one of before a renewal, until a connection with the new one has stood
    next.key next.csr  a key that waits for its certificate
    ca.pem             authorities given at `--install --ca`
The link reads them anew for each connection (sync/tls.py), so the running service needs no restart.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import Config, credential
from agent.files import replace_durably, sync_folder
from sync.tls import Tls

if TYPE_CHECKING:
    from agent.certificates import Certificate


class EnrolmentError(Exception):
    """A step cannot be done; each line says what is wrong and what to do."""

    def __init__(self, *lines: str) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """`folder` is made at the first step. Every step can be repeated, also after a crash in its middle."""

    folder: Path

    @classmethod
    def of(cls, config: Config) -> Enrolment:
        return cls(folder=config.state_folder / "vault" / "tls")

    @property
    def device(self) -> Path:
        return self.folder / "device.pem"

    @property
    def former(self) -> Path:
        return self.folder / "former.pem"

    @property
    def authorities(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def next_key(self) -> Path:
        return self.folder / "next.key"

    @property
    def next_request(self) -> Path:
        return self.folder / "next.csr"

    @property
    def is_enrolled(self) -> bool:
        return self.device.exists()

    @property
    def is_waiting(self) -> bool:
        """A key waits for its certificate."""
        return self.next_key.exists()

    def begin(self, name: str) -> Path:
        """A key and its request; the same again while their certificate has not come. The request's path."""
        from agent import certificates

        self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if self.is_waiting and self.is_enrolled and self._waits_in_vain():
            self._forget(self.next_key, self.next_request)
        if not self.is_waiting:
            replace_durably(self.next_key, certificates.new_key())
        replace_durably(self.next_request, certificates.request(self.next_key.read_bytes(), name), mode=0o644)
        self._give_to_the_service()
        return self.next_request

    def install(self, chain: bytes, *, name: str, authorities: bytes, now: datetime, keep: bool) -> Certificate:
        """Judge the certificate, then put it in force. `keep` adds the authorities to ca.pem.

        The order, so that there is a whole identity after a crash anywhere:
         1. the one in force is kept as former.pem, unless an older one is still kept: that one has worked
         2. the authorities
         3. the new key and certificate, in one file, by one rename
         4. what waited is removed
        """
        from agent import certificates

        try:
            given, known = certificates.read_all(chain), certificates.read_all(authorities)
        except certificates.CertificateError as error:
            raise EnrolmentError(str(error)) from error
        key = self._key_of(given[0])
        if found := list(certificates.faults(given, known, name=name, now=now)):
            raise EnrolmentError(*found)
        try:
            if self.is_enrolled and not self.former.exists():
                replace_durably(self.former, self.device.read_bytes())
            if keep:
                replace_durably(self.authorities, certificates.to_pem(self._joined(known, now)), mode=0o644)
            replace_durably(self.device, key.strip() + b"\n" + certificates.to_pem(given))
            self._forget(self.next_key, self.next_request)
        finally:
            self._give_to_the_service()
        return given[0]

    def new_one_works(self) -> None:
        """A connection with device.pem stands: the former one has done its duty."""
        if self.former.exists():
            self._forget(self.former)

    def _waits_in_vain(self) -> bool:
        """Its certificate is in force already: a crash came before the last step of an installation."""
        from agent import certificates

        try:
            halves = {certificates.public_half(path.read_bytes()) for path in (self.next_key, self.device)}
        except certificates.CertificateError:
            return False
        return len(halves) == 1

    def _key_of(self, certificate: Certificate) -> bytes:
        """The key that waits, or the one in force when it was certified again."""
        from agent import certificates

        for path in (self.next_key, self.device):
            try:
                if path.exists() and certificates.public_half(path.read_bytes()) == certificate.public_key:
                    return _key_block(path.read_bytes())
            except certificates.CertificateError as error:
                raise EnrolmentError(f"{path}: {error}; remove it and enrol again") from error
        if not self.is_waiting and not self.is_enrolled:
            raise EnrolmentError("this device has no key yet: run `roamkey enrol` and have its request signed")
        raise EnrolmentError(
            f"it is for another key: the request that waits is {self.next_request}"
            if self.is_waiting
            else "it is for another key: begin a renewal with `roamkey enrol --renew`"
        )

    def _joined(self, given: tuple[Certificate, ...], now: datetime) -> list[Certificate]:
        """With those known before: the broker's certificate may come from an older authority for a while."""
        from agent import certificates

        before = certificates.read_all(self.authorities.read_bytes()) if self.authorities.exists() else ()
        new = [each for each in before if each.not_after > now and each not in given]
        return [*given, *new]

    def _forget(self, *paths: Path) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
        sync_folder(self.folder)

    def _give_to_the_service(self) -> None:
        """Run by root, the files must belong to whom the state folder belongs."""
        if os.geteuid() != 0:
            return
        owner = self.folder.parent.parent.stat()
        for path in (self.folder.parent, self.folder, *self.folder.iterdir()):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def tls_of(config: Config) -> Tls | None:
    """The files of the connection: named in [mqtt], else systemd credentials, else enrolled. None when it is plain."""
    settings = config.mqtt
    if settings is None or settings.plain:
        return None
    enrolled = Enrolment.of(config)
    cafile = settings.cafile or credential("mqtt-ca.pem") or enrolled.authorities
    if settings.certfile is not None:
        return Tls(cafile=cafile, certfile=settings.certfile, keyfile=settings.keyfile)
    certfile, keyfile = credential("mqtt.pem"), credential("mqtt.key")
    if certfile is not None and keyfile is not None:
        return Tls(cafile=cafile, certfile=certfile, keyfile=keyfile)
    return Tls(cafile=cafile, certfile=enrolled.device, former=enrolled.former)


def _key_block(pem: bytes) -> bytes:
    """Of a file with key and certificates only the key."""
    begin, end = pem.find(b"-----BEGIN PRIVATE KEY-----"), b"-----END PRIVATE KEY-----"
    return pem[begin : pem.index(end) + len(end)] if begin >= 0 else pem
