"""What the core knows of a card or a contract: a keyed reference and how far it can be trusted, never its number.

Reading cards is drivers/readers; the key lives with the vault and is handed in by the shell.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from enum import StrEnum

_DOMAIN = b"roamkey/token/v1\x00"
_CONTRACT_DOMAIN = b"roamkey/contract/v1\x00"
_ALIAS_DOMAIN = b"roamkey/alias/v1\x00"
_WALLET_DOMAIN = b"roamkey/wallet/v1\x00"
_KEY_CHECK_DOMAIN = b"roamkey/token-key-check/v1"


class Assurance(StrEnum):
    """What the reading proves, weakest first. A UID is an identifier, never a proof."""

    LOSSY = "lossy"
    RANDOM = "random"
    STATIC = "static"
    AUTHENTICATED = "authenticated"


class CardDoubt(StrEnum):
    """Why what was presented names nobody here, whatever its number. With one of these nobody charges."""

    NOT_GENUINE = "not_genuine"  # the card should have proven a key and could not: a clone, until shown otherwise
    TORN = "torn"  # it was taken away before it had proven it
    PHONE = "phone"  # a phone or a watch: no card
    AMBIGUOUS = "ambiguous"  # what the reader tells of it fits more than one of the fleet's cards


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A presented token. `reference` is empty for a random UID, which names nobody."""

    reference: str
    assurance: Assurance

    @property
    def is_identity(self) -> bool:
        return bool(self.reference)


RANDOM = Credential(reference="", assurance=Assurance.RANDOM)


def reference(key: bytes, canonical: str) -> str:
    """Keyed reference of a canonical UID (upper-case hex of the on-air bytes), 64 hex characters.

    HMAC, since a plain hash of a 4-byte UID is searched through in minutes (EDPB guidelines 1/2020, 78).
    """
    return hmac.new(key, _DOMAIN + canonical.upper().encode("ascii"), hashlib.sha256).hexdigest()


def alias_reference(key: bytes, form: str, part: str) -> str:
    """Keyed reference of a part of a UID, upper-case hex, told in this form; a domain of its own: no UID is a part."""
    told = f"{form}\0{part.upper()}".encode("ascii")
    return hmac.new(key, _ALIAS_DOMAIN + told, hashlib.sha256).hexdigest()


def wallet_reference(key: bytes, payload: bytes) -> str:
    """Keyed reference of what a certified reader verified in a phone's wallet."""
    return hmac.new(key, _WALLET_DOMAIN + payload, hashlib.sha256).hexdigest()


def contract_reference(key: bytes, canonical: str) -> str:
    """Keyed reference of a contract, by its canonical eMAID (14 characters, no check character).

    A domain of its own: DE8AA001234567 is an eMAID and could be a card of seven bytes.
    """
    return hmac.new(key, _CONTRACT_DOMAIN + canonical.encode("ascii"), hashlib.sha256).hexdigest()


def key_check(key: bytes) -> str:
    """Short public fingerprint of a reference key: tells a wrong key from an unknown card."""
    return hmac.new(key, _KEY_CHECK_DOMAIN, hashlib.sha256).hexdigest()[:16]
