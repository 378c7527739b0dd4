"""Pack sealed records into one MQTT payload, and take it apart again. Pure.

JSON Lines: one record's exact bytes a line, so that hashes survive; optionally zlib or zstd. Whether a line is a record
that can be read is judged in `sync.backend.store`; when a batch is sent is decided in `sync.uplink`.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from typing import assert_never

from sync.ports import Sealed

MEDIA_TYPE = "application/cloudevents+jsonl"
# Level 1: on short JSON it is within a tenth of level 6 in size, at a third of the processor time.
_ZLIB_LEVEL = 1
# Measured: on batches of ours the levels to 6 differ by a tenth in size, and the first is the quickest.
_ZSTD_LEVEL = 1
# A payload may unfold to this and no further, whatever it claims: 16 of our largest batches.
MAX_UNPACKED_BYTES = 1024 * 1024
MAX_UNPACKED_RECORDS = 1000
# Fixed header, topic length, packet identifier and the properties we send, generously.
_PACKET_OVERHEAD_BYTES = 128


class Codec(StrEnum):
    """How the lines are wrapped. The value is also the topic's last level on a 3.1.1 broker."""

    PLAIN = "plain"
    ZLIB = "zlib"
    ZSTD = "zstd"


def understood() -> tuple[Codec, ...]:
    """What can be packed and taken apart here: zstd is an extra (`pip install 'roamkey[zstd]'`)."""
    return tuple(codec for codec in Codec if codec is not Codec.ZSTD or find_spec("zstandard") is not None)


def agreed(wanted: Codec, taken: Collection[str]) -> Codec:
    """What to send to a backend that named what it takes apart: every backend takes plain and zlib."""
    if wanted is Codec.ZSTD and (wanted.value not in taken or wanted not in understood()):
        return Codec.ZLIB
    return wanted


class BadBatch(ValueError):
    """The payload as a whole cannot be taken apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """How large one batch may be. `packet_bytes` is the broker's Maximum Packet Size, None when it named none."""

    records: int = 100
    size_bytes: int = 64 * 1024
    packet_bytes: int | None = None

    def payload_bytes(self, topic: str) -> int | None:
        """What is left for the payload in one packet; None when the broker named no limit."""
        if self.packet_bytes is None:
            return None
        return max(0, self.packet_bytes - _PACKET_OVERHEAD_BYTES - len(topic.encode()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A contiguous range of records, ready to publish."""

    first: int
    last: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLarge:
    """A single record that no packet of this broker can carry."""

    record: Sealed
    payload_bytes: int


def make_batch(records: Sequence[Sealed], codec: Codec, *, payload_bytes: int | None) -> Batch | TooLarge:
    """The longest prefix of `records` whose payload fits; TooLarge when not even the first does."""
    count = len(records)
    while True:
        payload = pack([record.body for record in records[:count]], codec)
        if payload_bytes is None or len(payload) <= payload_bytes:
            return Batch(first=records[0].sequence, last=records[count - 1].sequence, payload=payload)
        if count == 1:
            return TooLarge(record=records[0], payload_bytes=len(payload))
        # Scaling by the excess gets there in one or two rounds; the bound makes each round smaller.
        count = max(1, min(count - 1, count * payload_bytes // len(payload)))


def fits_a_line(body: bytes) -> bool:
    """A record with a line feed in its bytes would become two lines; JSON never needs one."""
    return bool(body) and b"\n" not in body


def pack(bodies: Sequence[bytes], codec: Codec) -> bytes:
    lines = b"\n".join(bodies) + b"\n"
    match codec:
        case Codec.PLAIN:
            return lines
        case Codec.ZLIB:
            return zlib.compress(lines, _ZLIB_LEVEL)
        case Codec.ZSTD:
            from zstandard import ZstdCompressor

            return ZstdCompressor(level=_ZSTD_LEVEL).compress(lines)
        case _:
            assert_never(codec)


def unpack(payload: bytes, codec: Codec) -> list[bytes]:
    """The lines, exactly. Bounded in bytes and lines before anything is believed."""
    match codec:
        case Codec.PLAIN:
            lines = payload
        case Codec.ZLIB:
            lines = _inflate(payload)
        case Codec.ZSTD:
            lines = _unfold_zstd(payload)
        case _:
            assert_never(codec)
    lines = lines.removesuffix(b"\n")
    if len(lines) > MAX_UNPACKED_BYTES:
        raise BadBatch(f"batch of {len(lines)} bytes is larger than {MAX_UNPACKED_BYTES}")
    if lines.count(b"\n") >= MAX_UNPACKED_RECORDS:
        raise BadBatch(f"batch has more than {MAX_UNPACKED_RECORDS} lines")
    if not lines:
        raise BadBatch("batch is empty")
    return lines.split(b"\n")


def content_type(codec: Codec) -> str:
    return MEDIA_TYPE if codec is Codec.PLAIN else f"{MEDIA_TYPE}; encoding={codec.value}"


def codec_of(content_type: str | None, last_level: str) -> Codec:
    """The codec by content type (MQTT 5), else by the topic's last level (3.1.1), else plain."""
    if content_type is not None:
        media_type, *parameters = (part.strip() for part in content_type.split(";"))
        if media_type.lower() != MEDIA_TYPE:
            raise BadBatch(f"content type {media_type[:80]!r} is not {MEDIA_TYPE}")
        named = [part.removeprefix("encoding=") for part in parameters if part.startswith("encoding=")]
        name = named[0] if named else Codec.PLAIN.value
    else:
        name = Codec.PLAIN.value if last_level == "records" else last_level
    try:
        return Codec(name)
    except ValueError:
        raise BadBatch(f"encoding {name[:80]!r} is not known: use {', '.join(Codec)}") from None


def _unfold_zstd(payload: bytes) -> bytes:
    if Codec.ZSTD not in understood():
        raise BadBatch("zstd is not installed here: pip install 'roamkey[zstd]', or send zlib")
    from zstandard import ZstdDecompressor, ZstdError, frame_content_size

    try:
        # Declared by whoever packs, and what is unfolded is checked against it: nothing grows beyond it.
        size = frame_content_size(payload)
        if not 0 <= size <= MAX_UNPACKED_BYTES:
            raise BadBatch(f"zstd: the frame must declare its content's size, at most {MAX_UNPACKED_BYTES} bytes")
        return ZstdDecompressor().decompress(payload, allow_extra_data=False)
    except ZstdError as error:
        raise BadBatch(f"zstd: {error}") from error


def _inflate(payload: bytes) -> bytes:
    unfolding = zlib.decompressobj()
    try:
        lines = unfolding.decompress(payload, MAX_UNPACKED_BYTES + 1)
    except zlib.error as error:
        raise BadBatch(f"zlib: {error}") from error
    if len(lines) > MAX_UNPACKED_BYTES:
        raise BadBatch(f"zlib unfolds beyond {MAX_UNPACKED_BYTES} bytes")
    if not unfolding.eof:
        raise BadBatch("zlib: the payload is cut short")
    if unfolding.unused_data:
        raise BadBatch("zlib: bytes follow the end")
    return lines
