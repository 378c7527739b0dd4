"""Why a connection cannot be made or has ended. What the broker says of single packets is in `sync.link`."""

from __future__ import annotations


class LinkError(Exception):
    """The connection cannot be made or has ended; waiting and trying again can help.

    `alarm` is the code (see `sync.ports.Alarm`) when only people can help.
    """

    alarm: str | None = None


class LinkMisconfigured(LinkError):
    """Ours to mend: a certificate file that is missing or damaged."""

    alarm = "tls-files"


class BrokerUnreachable(LinkError):
    """No TCP or TLS connection."""


class BrokerUntrusted(BrokerUnreachable):
    """The broker's certificate does not verify: it is expired, or somebody else answers in the broker's place."""

    def __init__(self, alarm: str, text: str) -> None:
        super().__init__(text)
        self.alarm = alarm


class CertificateRefused(LinkError):
    """The broker ends the TLS connection because of our certificate, and says why."""

    alarm = "certificate-refused"


class BrokerSilent(LinkError):
    """Something accepted the connection but never answered as an MQTT broker of this protocol version."""


class BrokerRefused(LinkError):
    """CONNACK with an error."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"broker refused the connection: {text} (0x{code:02x})")
        self.code = code
        if code in NEEDS_PEOPLE:
            self.alarm = "connection-refused"


# Bad user name, not authorised, banned, bad authentication method: no patience mends these (MQTT 5.0, 3.2.2.2).
NEEDS_PEOPLE = frozenset({0x86, 0x87, 0x8A, 0x8C})


class LinkLost(LinkError):
    """The connection stood and has ended."""


class AnswerMissing(LinkError):
    """The broker stays connected but does not answer in time."""


class SubscribeRefused(LinkError):
    """SUBACK with an error for at least one topic."""

    alarm = "refused-by-broker"
