"""A small certificate authority for tests: one broker, and clients whose common name is their device name."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sync.link import Tls

HOUR = datetime.timedelta(hours=1)


class Authority:
    """`valid` is how long from now its certificates are good, unless told otherwise at `issue` or `sign`."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "test authority",
        valid: datetime.timedelta = 24 * HOUR,
        below: Authority | None = None,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.valid = valid
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _common_name(name)
        self._revoked: list[int] = []
        issuer = below or self
        self.certificate = issuer._certificate(self.name, self.key.public_key(), is_ca=True, valid=valid)
        self.cafile = self._write("ca.crt", self.certificate)

    def issue(
        self,
        common_name: str,
        *,
        valid: datetime.timedelta | None = None,
        host: str = "127.0.0.1",
        file: str | None = None,
    ) -> Tls:
        """A certificate for `host` as well as for a client of this name; a negative `valid` has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        file = file or common_name
        keyfile = self.folder / f"{file}.key"
        keyfile.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        name = _common_name(common_name)
        certificate = self._certificate(name, key.public_key(), is_ca=False, valid=valid or self.valid, host=host)
        return Tls(cafile=self.cafile, certfile=self._write(f"{file}.crt", certificate), keyfile=keyfile)

    def sign(
        self,
        csr: bytes,
        *,
        valid: datetime.timedelta | None = None,
        name: str | None = None,
        begins: datetime.timedelta | None = None,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    ) -> bytes:
        """The certificate (PEM) that a request asks for, or another one on purpose."""
        request = x509.load_pem_x509_csr(csr)
        assert request.is_signature_valid
        subject = request.subject if name is None else _common_name(name)
        public_key = request.public_key()
        assert isinstance(public_key, ec.EllipticCurvePublicKey)
        certificate = self._certificate(
            subject, public_key, is_ca=False, valid=valid or self.valid, usage=usage, begins=begins
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def revoke(self, tls: Tls) -> None:
        assert tls.certfile is not None
        self._revoked.append(x509.load_pem_x509_certificate(tls.certfile.read_bytes()).serial_number)

    def revocation_list(self, *, valid: datetime.timedelta = 24 * HOUR) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(now + min(valid, datetime.timedelta(0)) - HOUR)
            .next_update(now + valid)
        )
        for serial in self._revoked:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - HOUR).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self.folder / name
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def _certificate(
        self,
        subject: x509.Name,
        public_key: ec.EllipticCurvePublicKey,
        *,
        is_ca: bool,
        valid: datetime.timedelta,
        host: str = "127.0.0.1",
        usage: x509.ObjectIdentifier | None = None,
        begins: datetime.timedelta | None = None,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + (begins or min(valid, datetime.timedelta(0)) - HOUR))
            .not_valid_after(now + valid)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([_address(host)]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _address(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
