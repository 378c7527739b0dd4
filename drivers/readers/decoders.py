"""From a profile to the codec that understands its device: bytes in, sightings out. Pure; the codecs are elsewhere.

Profile vectors are replayed through this, and the serial readers read through it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from drivers.readers import pcsc_answers, text_forms
from drivers.readers.ascii_frames import AsciiFrames
from drivers.readers.dialects import Codec, open_dialect
from drivers.readers.key_lines import KeyLines
from drivers.readers.modbus_frames import READ_HOLDING, READ_INPUT, ModbusFrames
from drivers.readers.osdp_frames import OsdpReplies
from drivers.readers.pn532_frames import TARGETS_ANSWER, Frame, Kind, Pn532Frames, targets
from drivers.readers.reader import Assurance, Card, Form, Technology, card_of
from drivers.readers.rejects import Reason, Rejected
from drivers.readers.uid_lines import UidLines
from drivers.readers.wiegand_lines import WiegandLines

if TYPE_CHECKING:
    from firmware_profiles.profile import Framing, Profile, Uid

Sighting = tuple[Card, ...]  # what one complete answer of the device says is in the field


class Decoder(Protocol):
    def feed(self, chunk: bytes) -> list[Sighting | Rejected]: ...


class _Frames(Protocol):
    def feed(self, chunk: bytes) -> list[Card | Rejected]: ...


def open_decoder(profile: Profile) -> Decoder:
    if profile.uid is None:
        raise ValueError(f"{profile.id} is not a reader")
    match profile.driver:
        case "em4100_ascii":
            return _CardByCard(AsciiFrames(trailer=profile.framing.trailer), profile.uid)
        case "pn532_hsu" | "pn53x_usb":
            return _TargetLists(profile.uid)
        case "stronglink" | "twn4_simple":
            return _Answers(open_dialect(profile), profile.uid)
        case "wiegand_lines" if profile.framing.wiegand is not None:
            return _CardByCard(WiegandLines(profile.framing.wiegand, profile.uid.technologies[0]), profile.uid)
        case "pcsc":
            return _Transcripts(profile.uid)
        case "hid_keys":
            return TypedUids(profile.uid)
        case "charger_register":
            return _RegisterUids(profile.framing, profile.uid)
        case "osdp":
            return _Answers(OsdpReplies(profile.uid.technologies[0]), profile.uid)
        case "simulated":
            return _CardByCard(UidLines(), profile.uid)
        case driver:
            raise ValueError(f"{profile.id}: driver {driver} does not read cards")


class _CardByCard:
    """A device that tells one card a frame."""

    def __init__(self, frames: _Frames, uid: Uid) -> None:
        self._frames = frames
        self._uid = uid

    def feed(self, chunk: bytes) -> list[Sighting | Rejected]:
        return [
            result if isinstance(result, Rejected) else as_on_air((result,), self._uid)
            for result in self._frames.feed(chunk)
        ]


class _Dialect(Protocol):
    def codec(self) -> Codec: ...

    def sighting(self, answer: Any) -> Sighting | Rejected: ...


class _Answers:
    """A device that is asked who is there."""

    def __init__(self, dialect: _Dialect, uid: Uid) -> None:
        self._dialect = dialect
        self._codec = dialect.codec()
        self._uid = uid

    def feed(self, chunk: bytes) -> list[Sighting | Rejected]:
        results: list[Sighting | Rejected] = []
        for answer in self._codec.feed(chunk):
            said = answer if isinstance(answer, Rejected) else self._dialect.sighting(answer)
            results.append(said if isinstance(said, Rejected) else as_on_air(said, self._uid))
        return results


class _Transcripts:
    """A PC/SC reader, in vectors: a card's ATR and behind it the answer to FF CA. Each chunk is one card."""

    def __init__(self, uid: Uid) -> None:
        self._uid = uid

    def feed(self, chunk: bytes) -> list[Sighting | Rejected]:
        parts = pcsc_answers.split(chunk)
        if parts is None:
            return [Rejected(reason=Reason.FRAMING)]
        card = pcsc_answers.card(*parts)
        return [card if isinstance(card, Rejected) else as_on_air((card,), self._uid)]


class TypedUids:
    """A reader that types."""

    def __init__(self, uid: Uid) -> None:
        self._lines = KeyLines()
        self._uid = uid

    @property
    def pending(self) -> bool:
        return self._lines.pending

    def forget(self) -> None:
        self._lines.forget()

    def feed(self, chunk: bytes) -> list[Sighting | Rejected]:
        return [
            line if isinstance(line, Rejected) else told_as_text(line.encode("ascii"), self._uid)
            for line in self._lines.feed(chunk)
        ]


class _RegisterUids:
    """A charger that was asked for its registers."""

    def __init__(self, framing: Framing, uid: Uid) -> None:
        self._frames = ModbusFrames(
            function=READ_INPUT if framing.function == "input" else READ_HOLDING, count=framing.register_count or 0
        )
        self._uid = uid

    def feed(self, chunk: bytes) -> list[Sighting | Rejected]:
        return [
            answer if isinstance(answer, Rejected) else told_as_text(answer.content, self._uid)
            for answer in self._frames.feed(chunk)
        ]


def told_as_text(raw: bytes, uid: Uid) -> Sighting | Rejected:
    """What a device writes instead of sending a UID's bytes."""
    if uid.text is None:
        raise ValueError("the profile does not say how the device writes a UID")
    read = text_forms.read(raw, uid.text, uid.lengths)
    if isinstance(read, Rejected):
        return read
    return () if read is None else as_on_air((card_of(read, Technology(uid.technologies[0])),), uid)


class _TargetLists:
    """A PN532 that was asked for its targets. Other frames of the conversation say nothing about cards."""

    def __init__(self, uid: Uid) -> None:
        self._frames = Pn532Frames()
        self._uid = uid

    def feed(self, chunk: bytes) -> list[Sighting | Rejected]:
        results: list[Sighting | Rejected] = []
        for frame in self._frames.feed(chunk):
            match frame:
                case Rejected():
                    results.append(frame)
                case Frame(kind=Kind.DATA, payload=payload) if payload.startswith(TARGETS_ANSWER):
                    listed = targets(payload)
                    results.append(listed if isinstance(listed, Rejected) else as_on_air(listed, self._uid))
                case Frame():
                    pass
        return results


def as_on_air(cards: Sighting, uid: Uid) -> Sighting | Rejected:
    """Undo what the profile says that the device does to UIDs; what it threw away stays lost and is marked so."""
    if any(card.technology.value not in uid.technologies for card in cards):
        return Rejected(reason=Reason.IDENTIFIER)
    if any(len(card.uid) not in uid.lengths for card in cards):
        return Rejected(reason=Reason.LENGTH)
    if uid.byte_order == "reversed":  # what a UID proves is judged again: a random ID shows in the first byte on air
        cards = tuple(card_of(card.uid[::-1], card.technology) for card in cards)
    if uid.loss != "none":
        cards = tuple(
            card if card.assurance is Assurance.RANDOM else replace(card, assurance=Assurance.LOSSY) for card in cards
        )
    if forms := forms_of(uid):
        cards = tuple(replace(card, forms=forms) for card in cards)
    return cards


def forms_of(uid: Uid) -> tuple[Form, ...]:
    """What is lost is itself a form in which the card is told; which bits "unknown" lost nobody knows."""
    lost = (uid.loss,) if uid.loss in set(Form) else ()
    return tuple(map(Form, dict.fromkeys((*lost, *uid.aliases))))
