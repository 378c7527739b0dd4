"""What a dispatcher may give a stranded driver: a signed one-time override, or a break-glass code over the phone.

    overrides/DEVICE.jws     the overrides that were issued for this device and may still be used, one a line: the
                             retained message of its topic
    break-glass.json         the last counter that was read out, by device; it is written before the code is shown
    dispatch.jsonl           who was given what, when and why, for ever

What an override may outweigh is judged on the device (agent/core/overrides.py).
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.config import NAME
from agent.core.break_glass import code_of, secret_of
from agent.core.overrides import EVERYTHING
from agent.core.rules import waivable
from agent.files import replace_durably
from agent.fleet.folder import FleetFolder
from sync import signing
from sync.messages import BadMessage
from sync.overrides import MAX_OVERRIDES, OVERRIDE_TYP, SignedOverride, parse_override


class DispatchUnfit(Exception):
    """What was asked for cannot be given; the text says why."""


class Dispatch:
    def __init__(self, folder: FleetFolder, *, now: datetime) -> None:
        self._folder = folder
        self._now = now.astimezone(UTC).replace(microsecond=0)

    def override(
        self,
        *,
        device: str,
        token: str,
        by: str,
        why: str,
        waives: Sequence[str] = (),
        valid: timedelta,
        max_energy_wh: int | None,
        max_duration_s: int | None,
        max_cost: tuple[str, str] | None,
    ) -> tuple[SignedOverride, bytes]:
        """(what was signed, everything that this device may still use). Raises DispatchUnfit."""
        _known_device(device)
        unknown = sorted(set(waives) - waivable())
        if unknown:
            raise DispatchUnfit(
                f"{unknown[0]!r} is no rule that can be waived; these can: {', '.join(sorted(waivable()))}"
            )
        made = SignedOverride(
            fleet=self._folder.publisher.fleet,
            device=device,
            id=str(uuid.uuid4()),
            token=token,
            waives=tuple(sorted(waives)) or (EVERYTHING,),
            why=why,
            by=by,
            issued=self._now,
            not_after=self._now + valid,
            max_energy_wh=max_energy_wh,
            max_duration_s=max_duration_s,
            max_cost=max_cost,
        )
        try:
            parse_override(made.to_claims())  # by the same reader as on the device
        except BadMessage as error:
            raise DispatchUnfit(str(error)) from error
        jws = signing.sign(made.to_claims(), self._folder.signing_key("override"), typ=OVERRIDE_TYP)
        lines = [*self._still_good(device), jws.encode()][-MAX_OVERRIDES:]
        body = b"\n".join(lines) + b"\n"
        self._note(kind="override", device=device, id=made.id, token=token, by=by, why=why)
        self._outstanding(device).parent.mkdir(exist_ok=True, mode=0o700)
        replace_durably(self._outstanding(device), body)
        return made, body

    def break_glass(self, *, device: str, token: str, by: str, why: str) -> tuple[int, str]:
        """(counter, code): good once, for this card at this device. The counter is spent before the code is known."""
        _known_device(device)
        path = self._folder.path / "break-glass.json"
        counters: dict[str, int] = json.loads(path.read_bytes()) if path.exists() else {}
        counter = counters.get(device, 0) + 1
        self._note(kind="break-glass", device=device, id=f"break-glass-{counter}", token=token, by=by, why=why)
        replace_durably(path, json.dumps({**counters, device: counter}, sort_keys=True).encode())
        return counter, code_of(secret_of(self._folder.break_glass_key, device), counter, token)

    def _outstanding(self, device: str) -> Path:
        return self._folder.path / "overrides" / f"{device}.jws"

    def _still_good(self, device: str) -> list[bytes]:
        path, key = self._outstanding(device), self._folder.signing_key("override")
        lines = path.read_bytes().split() if path.exists() else []
        trusted = {key.kid: key.public_jwk}
        good = []
        for line in lines:
            try:
                if parse_override(signing.verify(line, trusted, typ=OVERRIDE_TYP)).not_after > self._now:
                    good.append(line)
            except (signing.SigningError, BadMessage):
                continue  # of a key that was replaced: no device believes it any more
        return good

    def _note(self, **told: Any) -> None:
        line = json.dumps({"at": f"{self._now:%Y-%m-%dT%H:%M:%SZ}", **told}, ensure_ascii=False)
        path = self._folder.path / "dispatch.jsonl"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())


def cost_of(text: str) -> tuple[str, str]:
    """`25.00 EUR` or `EUR25.00`. Raises DispatchUnfit."""
    found = re.fullmatch(r"([0-9]{1,8}(?:\.[0-9]{1,6})?) ?([A-Z]{3})", text)
    if found is None:
        raise DispatchUnfit(f"a cost is written as 25.00EUR, not {text[:20]!r}")
    return found[2], found[1]


def _known_device(device: str) -> None:
    if re.fullmatch(NAME, device) is None:
        raise DispatchUnfit(f"device {device!r}: use its name, as in its configuration")
