"""Certificates as people keep them: PEM or DER files, several in one, and folders of roots by what they vouch for."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

from agent.core.contracts.certificates import Certificate, Unreadable, read_certificate
from agent.core.contracts.trust import Anchor, Role

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_SUFFIXES = frozenset({".pem", ".crt", ".cer", ".der"})


class FilesUnfit(Exception):
    """A file or folder does not hold what it must; the text says which and what is wanted."""


def read_chain_file(path: Path) -> list[bytes]:
    """The certificates in DER, as they stand in the file: one PEM block each, or one DER after the other."""
    content = path.read_bytes()
    if b"-----BEGIN" not in content:
        return list(_der_values(content))
    try:
        found = [base64.b64decode(b"".join(each.split()), validate=True) for each in _PEM.findall(content)]
    except ValueError as error:
        raise FilesUnfit(f"{path}: a PEM block is damaged") from error
    if not found:
        raise FilesUnfit(f"{path}: holds PEM, but no certificate")
    return found


def read_anchor_folder(folder: Path) -> tuple[Anchor, ...]:
    """Roots below mo/, v2g/, cpo/, oem/ have that role; what lies in the folder itself is a mobility operator's."""
    if not folder.is_dir():
        raise FilesUnfit(f"{folder} is no folder of roots")
    places = [(folder, Role.MOBILITY_OPERATOR), *((folder / role, role) for role in Role)]
    anchors = tuple(
        Anchor(certificate=_root(path, der), role=role)
        for place, role in places
        if place.is_dir()
        for path in sorted(place.iterdir())
        if path.suffix.lower() in _SUFFIXES and path.is_file()
        for der in read_chain_file(path)
    )
    if not anchors:
        raise FilesUnfit(f"{folder} holds no root: put PEM or DER files there, or below mo/, v2g/, cpo/, oem/")
    return anchors


def _root(path: Path, der: bytes) -> Certificate:
    try:
        return read_certificate(der)
    except Unreadable as error:
        raise FilesUnfit(f"{path}: {error}") from error


def _der_values(content: bytes) -> Iterator[bytes]:
    """Each by the length that it declares; the last is whatever is left, for the reader to refuse."""
    while content:
        end = len(content)
        if len(content) > 4 and content[1] == 0x82:
            end = 4 + int.from_bytes(content[2:4], "big")
        yield content[:end]
        content = content[end:]
