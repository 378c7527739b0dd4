"""TLS of one connection: which files, and what a failure means in words that help. MQTT is in `sync.link`.

The files are read anew for each connection, so that a renewed certificate is used without a restart.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from sync.link_errors import BrokerUntrusted, CertificateRefused, LinkError, LinkMisconfigured

# X509_V_ERR_* of OpenSSL's x509_vfy.h, as `SSLCertVerificationError.verify_code` has them.
_NOT_YET_VALID = 9
_EXPIRED = 10
_OTHER_NAMES = frozenset({62, 63, 64})  # host name, e-mail address, IP address
_OUR_CERTIFICATE = {
    # OpenSSL sends the same alert when its revocation list is out of date.
    "CERTIFICATE_EXPIRED": "it has expired, or the broker's revocation list has",
    "CERTIFICATE_REVOKED": "it is revoked",
    "UNKNOWN_CA": "the broker does not know the authority that issued it",
    "CERTIFICATE_REQUIRED": "none was sent, and the broker wants one",
    "BAD_CERTIFICATE": "it is damaged",
    "UNSUPPORTED_CERTIFICATE": "it is of a kind that the broker does not take",
    "CERTIFICATE_UNKNOWN": "the broker does not accept it",
    "ACCESS_DENIED": "the broker does not let it in",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Server certificates are always checked, against `cafile` or the system's authorities.

    Without `keyfile`, `certfile` holds the key as well: one file can be replaced at once, two cannot. `former` is the
    file of before a renewal: as long as it exists, it is tried when the broker does not take the newer one.
    """

    cafile: Path | None = None
    certfile: Path | None = None
    keyfile: Path | None = None
    former: Path | None = None

    def before_renewal(self) -> Tls | None:
        """The same with the former certificate, if there still is one."""
        if self.former is None or not self.former.exists():
            return None
        return Tls(cafile=self.cafile, certfile=self.former)


class TlsContext(ssl.SSLContext):
    """A client's context that remembers why the peer ended a connection: in TLS 1.3 a refusal of our certificate
    arrives after the handshake, where the MQTT library sees a lost connection only."""

    refusal: ssl.SSLError | None = None


def tls_context(tls: Tls) -> TlsContext:
    try:
        context = TlsContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslsocket_class = _TlsSocket
        if tls.cafile is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(tls.cafile)
        if tls.certfile is not None:
            context.load_cert_chain(tls.certfile, tls.keyfile)
    except (OSError, ValueError) as error:
        names = ", ".join(str(path) for path in (tls.cafile, tls.certfile, tls.keyfile) if path is not None)
        raise LinkMisconfigured(
            f"TLS files cannot be used ({names}): {type(error).__name__}: {error}; "
            "`roamkey enrol --status` says what there is"
        ) from error
    return context


def explained(error: Exception | None, address: str, cafile: Path | None) -> LinkError | None:
    """What a TLS failure means and what to do; None when it is not about a certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error, address, cafile)
    if isinstance(error, ssl.SSLError) and error.reason is not None and "ALERT_" in error.reason:
        alert = error.reason.partition("ALERT_")[2]
        if alert in _OUR_CERTIFICATE:
            return CertificateRefused(
                f"{address} refuses our certificate: {_OUR_CERTIFICATE[alert]}; "
                "get a new one with `roamkey enrol`, or check the broker's authorities and revocation list"
            )
    return None


def _untrusted(error: ssl.SSLCertVerificationError, address: str, cafile: Path | None) -> BrokerUntrusted:
    code = error.verify_code
    if code == _EXPIRED:
        return BrokerUntrusted(
            "broker-certificate-expired",
            f"the certificate of {address} has expired: renew it at the broker (and check this device's clock)",
        )
    if code == _NOT_YET_VALID:
        return BrokerUntrusted(
            "broker-certificate-not-yet-valid",
            f"the certificate of {address} is not valid yet: check this device's clock",
        )
    if code in _OTHER_NAMES:
        return BrokerUntrusted(
            "broker-name-wrong",
            f"the certificate of {address} is for another name ({error.verify_message}): check host in [mqtt], "
            "or somebody else answers in the broker's place",
        )
    known = "the system's authorities" if cafile is None else str(cafile)
    return BrokerUntrusted(
        "broker-untrusted",
        f"the certificate of {address} does not verify against {known} ({error.verify_message}): if the broker has a "
        "new authority, put it into that file; otherwise somebody else answers in the broker's place",
    )


class _TlsSocket(ssl.SSLSocket):
    """Closes itself when the handshake fails; the MQTT library would leave that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except ssl.SSLError as error:
            self._remember(error)
            raise

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
        try:
            return super().send(data, flags)
        except ssl.SSLError as error:
            self._remember(error)
            raise

    def _remember(self, error: ssl.SSLError) -> None:
        waits = isinstance(error, ssl.SSLWantReadError | ssl.SSLWantWriteError)
        if not waits and isinstance(self.context, TlsContext):
            self.context.refusal = error
