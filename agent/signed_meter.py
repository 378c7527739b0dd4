"""Signed meter records on their way into the journal and out of it again, byte for byte. Uses `cryptography`.

Such a record may hold the card's number in clear (OCMF: IT and ID), and its bytes cannot be changed without breaking
its signature. A journal holds no card numbers, so a record that names a user, or that cannot be read, is kept in a box
that only the fleet's token key opens. What a record says is agent/core/ocmf.py, who signed it agent/ocmf_signatures.py.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from agent.core.facts import SessionSigned
from agent.core.observations import MeterSigned

OCMF = "OCMF"
MAX_BYTES = 256 * 1024
_INFO = b"roamkey/signed-meter/v1"
_NONCE_BYTES = 12


class Unopened(Exception):
    """The bytes cannot be had back; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRecord:
    """`document` is None while it lies in a box and no key was given."""

    format: str
    sha256: str
    document: bytes | None = field(repr=False)
    public_key: str | None = None


def seen(
    charger: str, session: str | None, document: bytes, *, format: str, public_key: str | None, key: bytes
) -> MeterSigned:
    """ValueError when it is empty or far too long."""
    if not 0 < len(document) <= MAX_BYTES:
        raise ValueError(f"a signed meter record of {len(document)} bytes; 1 to {MAX_BYTES} are kept")
    text = None if names_a_user(document, format) else _text(document)
    return MeterSigned(
        charger=charger,
        session=session,
        format=format,
        sha256=hashlib.sha256(document).hexdigest(),
        content=text if text is not None else boxed(document, key),
        boxed=text is None,
        public_key=public_key,
    )


def names_a_user(document: bytes, format: str) -> bool:
    """Also when it cannot be told: an unknown format, or what is no JSON."""
    if format.upper() != OCMF:
        return True
    sections = document.split(b"|")
    try:
        payload = json.loads(sections[1])
        return bool(payload.get("ID"))
    except (IndexError, ValueError, AttributeError, RecursionError):
        return True


def boxed(document: bytes, key: bytes) -> str:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(_NONCE_BYTES)
    return base64.b64encode(nonce + AESGCM(_box_key(key)).encrypt(nonce, document, _INFO)).decode()


def opened(box: str, key: bytes) -> bytes:
    """Raises Unopened."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        content = base64.b64decode(box, validate=True)
        return AESGCM(_box_key(key)).decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], _INFO)
    except (InvalidTag, ValueError, binascii.Error):
        raise Unopened("a signed meter record lies in a box that this token key does not open") from None


def records_of(facts: Iterable[SessionSigned], key: bytes | None = None) -> Iterator[SignedRecord]:
    """Each record whole again, in the order in which they came. Raises Unopened when one is not what it was."""
    parts: dict[str, list[SessionSigned]] = {}
    for fact in facts:
        parts.setdefault(fact.sha256, []).append(fact)
    for sha256, pieces in parts.items():
        first = pieces[0]
        if [each.part for each in pieces] != list(range(1, first.parts + 1)):
            raise Unopened(f"signed meter record {sha256[:12]}: a part is missing")
        text, box = "".join(each.text or "" for each in pieces), "".join(each.box or "" for each in pieces)
        document = None if box and key is None else opened(box, key) if box and key is not None else text.encode()
        if document is not None and hashlib.sha256(document).hexdigest() != sha256:
            raise Unopened(f"signed meter record {sha256[:12]}: its bytes are not those that came")
        yield SignedRecord(format=first.format, sha256=sha256, document=document, public_key=first.public_key)


def _text(document: bytes) -> str | None:
    try:
        return document.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _box_key(key: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=32, salt=None, info=_INFO).derive(key)
