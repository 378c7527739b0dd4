"""Which stored records a device has signed for. A broker can invent records that continue a chain, but no signature.

A checkpoint is a record whose data holds a JWS of the device's key over the record before it, and with that, by the
chain, over all before (docs/wire.md). Only whoever knows the devices' public keys can judge: they are told in a folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from sync import signing

CHECKPOINT_TYPE = "io.roamkey.checkpoint"
CHECKPOINT_TYP = "roamkey-checkpoint+jws"
# Looked for before a body is parsed: one record in hundreds is a checkpoint.
_MARK = f'"{CHECKPOINT_TYPE}"'.encode()
_MOST_KEY_BYTES = 256 * 1024

Keys = Mapping[str, str]


class Word(Enum):
    """What one record says. BAD: it claims to be a checkpoint, and none of the device's keys has signed it."""

    NO_CHECKPOINT = auto()
    GOOD = auto()
    BAD = auto()


def word_of(body: bytes, keys: Keys) -> Word:
    if _MARK not in body:
        return Word.NO_CHECKPOINT
    try:
        event = json.loads(body)
        if not isinstance(event, dict) or event.get("type") != CHECKPOINT_TYPE:
            return Word.NO_CHECKPOINT
        _, _, fleet, _, device = str(event["source"]).split("/")
        due = {
            "fleet": fleet,
            "device": device,
            "journal": event["journal"],
            "sequence": int(event["sequence"]) - 1,
            "hash": event["previous"],
        }
        claims = signing.verify(str(event["data"]["jws"]), keys, typ=CHECKPOINT_TYP)
    except (ValueError, KeyError, TypeError, RecursionError, signing.SigningError):
        return Word.BAD
    return Word.GOOD if {name: claims.get(name) for name in due} == due else Word.BAD


@dataclass(slots=True, kw_only=True)
class Coverage:
    """Told one journal's records in order, it knows which of them no good checkpoint reaches."""

    keys: Keys
    unsigned: list[tuple[int, int]] = field(default_factory=list)
    bad: list[int] = field(default_factory=list)
    _open: tuple[int, int] | None = None

    def take(self, sequence: int, body: bytes | None, *, continues: bool) -> None:
        """`continues`: it is chained to the record before it, so that a later signature reaches over it."""
        if not continues and self._open is not None:
            self.unsigned.append(self._open)
            self._open = None
        word = Word.NO_CHECKPOINT if body is None else word_of(body, self.keys)
        if word is Word.BAD:
            self.bad.append(sequence)
        if word is Word.GOOD and continues:
            # The checkpoint's own bytes are covered by the next one only.
            self._open = (sequence, sequence)
        else:
            self._open = (self._open[0] if self._open else sequence, sequence)

    def ranges(self) -> tuple[tuple[int, int], ...]:
        return (*self.unsigned, *([self._open] if self._open is not None else []))


class DeviceKeys:
    """A folder of NAME.jwk: the public key that a device shows as vault/device.jwk, or a JWK Set of all it ever had.

    Read again when a file changes, so that a new device needs no restart.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, tuple[int, Keys]] = {}

    def of(self, device: str) -> Keys | None:
        """None when the device's key is not known. A damaged file is as good as none."""
        path = self._folder / f"{device}.jwk"
        try:
            changed = path.stat().st_mtime_ns
            if device not in self._read or self._read[device][0] != changed:
                self._read[device] = (changed, _keys(path.read_bytes()[:_MOST_KEY_BYTES]))
        except (OSError, ValueError, signing.SigningError):
            self._read.pop(device, None)
            return None
        return self._read[device][1]


def _keys(text: bytes) -> Keys:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise signing.KeyUnusable("a JSON Web Key must be an object")
    entries = document["keys"] if isinstance(document.get("keys"), list) else [document]
    return {signing.thumbprint(json.dumps(entry)): json.dumps(entry) for entry in entries}
