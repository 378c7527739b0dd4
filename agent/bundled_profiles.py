"""Profiles of readers that come in the fleet's signed bundle: judged before it is taken, fitted while the service runs.

A bundle brings them as profiles/readers/NAME.toml. One with a shipped profile's id takes its place on every device of
the fleet; that is the only way in which a profile in the field changes. Signatures, versions and roll-back are the
bundle's; what a profile may say is firmware_profiles/.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from drivers.readers.reader import Emit, Feedback, Reader, ReaderLost
from firmware_profiles import available, load, load_text
from firmware_profiles.profile import ProfileError, ProfileUnknown

if TYPE_CHECKING:
    from firmware_profiles.profile import Profile

FOLDER = "profiles/"
LIKE_A_UID = re.compile(r"(?:[0-9A-Fa-f]{2}[:-]?){4,}")  # names of vectors are an integrator's to choose
NAME = re.compile(r"profiles/(readers/[a-z0-9][a-z0-9_]*)\.toml")

A_SLIP = 0.92  # one wrong, missing or doubled character in an id of ordinary length; a suffix is more

log = logging.getLogger("roamkey")


def can_come(profile_id: str) -> bool:
    """Whether a bundle may have such a profile. An id that is a slip of the pen from one that is here is mistyped."""
    import difflib  # rarely needed

    mistyped = difflib.get_close_matches(profile_id, available(), n=1, cutoff=A_SLIP)
    return NAME.fullmatch(f"{FOLDER}{profile_id}.toml") is not None and not mistyped


def judge(name: str, body: bytes) -> Profile:
    """The profile, if it has the id of its name and its vectors pass. ProfileError says why not, and no UID."""
    try:
        return _judged(name, body)
    except ProfileError as error:
        raise ProfileError(LIKE_A_UID.sub("...", str(error))) from None


def _judged(name: str, body: bytes) -> Profile:
    from drivers.readers.replay import faults

    if (named := NAME.fullmatch(name)) is None:
        raise ProfileError("is no profile's name; they are profiles/readers/NAME.toml")
    profile = load_text(body, source=name)
    if profile.id != named[1]:
        raise ProfileError(f"its id is {profile.id!r} and not {named[1]!r}")
    if fault := next(faults(profile), None):
        raise ProfileError(f"does not do what it says: {fault}")
    return profile


class ReaderProfiles:
    """`parts` are the profiles of the bundle in force, by their names in it."""

    def __init__(self, parts: Callable[[], Mapping[str, bytes]], *, folder: Path | None) -> None:
        self._parts = parts
        self._folder = folder

    def of(self, profile_id: str) -> Profile:
        """The fleet's word first, then what is shipped, then the operator's own. Raises ProfileError."""
        name = f"{FOLDER}{profile_id}.toml"
        body = self._parts().get(name)
        return load(profile_id, folder=self._folder) if body is None else load_text(body, source=name)

    def at_hand(self, profile_id: str) -> Profile | Awaited:
        """As `of`; a reader's that nobody knows yet may come in the fleet's bundle."""
        try:
            return self.of(profile_id)
        except ProfileUnknown as unknown:
            if not can_come(profile_id):
                raise
            return Awaited(cause=str(unknown))


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """A profile that is not here yet."""

    cause: str


class UnknownReader:
    """Stands for a reader until its profile has come: lost, with the reason, and in nobody's way."""

    def __init__(self, name: str, awaited: Awaited) -> None:
        self.name = name
        self._cause = awaited.cause

    async def run(self, emit: Emit) -> None:
        hint = "the fleet's bundle may bring it, and the reader is opened then; if not, correct the configuration"
        emit(ReaderLost(reader=self.name, cause=self._cause, hint=hint))
        await asyncio.Event().wait()

    async def signal(self, feedback: Feedback, text: str) -> None: ...


class FittedReader:
    """A reader that is opened anew, with the new profile, when it was given another one, or its first."""

    def __init__(self, name: str, *, profile: Profile | Awaited, fit: Callable[[Profile], Reader]) -> None:
        self.name = name
        self._profile = profile
        self._fit = fit
        self._reader = self._fitted()
        self._refitted = asyncio.Event()

    def refit(self, profile: Profile) -> None:
        """From the loop. The same profile again changes nothing."""
        if profile != self._profile:
            log.info("reader %s: the fleet changed profile %s; it is opened anew", self.name, profile.id)
            self._profile = profile
            self._refitted.set()

    async def run(self, emit: Emit) -> None:
        while True:
            self._refitted.clear()
            running = asyncio.create_task(self._reader.run(emit))
            refitted = asyncio.create_task(self._refitted.wait())
            try:
                await asyncio.wait({running, refitted}, return_when=asyncio.FIRST_COMPLETED)
                if running.done():
                    running.result()  # a driver's fault ends the service, as without us
                    raise RuntimeError(f"reader {self.name} ended by itself")
            finally:
                for task in (running, refitted):
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task
            self._reader = self._fitted()

    async def signal(self, feedback: Feedback, text: str) -> None:
        await self._reader.signal(feedback, text)

    def _fitted(self) -> Reader:
        if isinstance(self._profile, Awaited):
            return UnknownReader(self.name, self._profile)
        return self._fit(self._profile)
