"""Batches: exact bytes both ways, and nothing hostile gets through."""

from __future__ import annotations

import contextlib
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sync.batch import (
    MAX_UNPACKED_BYTES,
    BadBatch,
    Batch,
    BatchLimits,
    Codec,
    TooLarge,
    agreed,
    codec_of,
    content_type,
    fits_a_line,
    make_batch,
    pack,
    understood,
    unpack,
)
from sync.ports import Sealed

LINES = st.lists(st.binary(min_size=1).filter(lambda line: b"\n" not in line), min_size=1, max_size=20)


@given(LINES, st.sampled_from(Codec))
def test_what_is_packed_comes_out_byte_for_byte(lines: list[bytes], codec: Codec) -> None:
    assert unpack(pack(lines, codec), codec) == lines


@given(st.binary(max_size=400), st.sampled_from(Codec))
def test_junk_is_refused_as_a_bad_batch_or_read_as_lines(payload: bytes, codec: Codec) -> None:
    with contextlib.suppress(BadBatch):
        assert unpack(payload, codec)


def test_a_decompression_bomb_is_stopped_before_it_unfolds() -> None:
    bomb = zlib.compress(b"x" * (50 * MAX_UNPACKED_BYTES), 9)
    with pytest.raises(BadBatch, match="unfolds beyond"):
        unpack(bomb, Codec.ZLIB)


def test_a_cut_payload_and_a_trailing_one_are_refused() -> None:
    payload = pack([b'{"a":1}'], Codec.ZLIB)
    for at in range(len(payload)):
        with pytest.raises(BadBatch):
            unpack(payload[:at], Codec.ZLIB)
    with pytest.raises(BadBatch, match="follow"):
        unpack(payload + b"x", Codec.ZLIB)


def test_a_zstd_frame_that_hides_its_size_or_boasts_is_refused_unread() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(b"x" * (50 * MAX_UNPACKED_BYTES))
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(b"x\n")
    for payload in (bomb, silent):
        with pytest.raises(BadBatch, match="declare"):
            unpack(payload, Codec.ZSTD)


def test_a_cut_zstd_payload_and_a_trailing_one_are_refused() -> None:
    payload = pack([b'{"a":1}'], Codec.ZSTD)
    for other in (*(payload[:at] for at in range(len(payload))), payload + b"x", payload + payload):
        with pytest.raises(BadBatch):
            unpack(other, Codec.ZSTD)


def test_zstd_is_sent_only_to_a_backend_that_names_it() -> None:
    assert agreed(Codec.ZSTD, ()) is Codec.ZLIB
    assert agreed(Codec.ZSTD, ("br", "zstd")) is Codec.ZSTD
    assert agreed(Codec.ZLIB, ("zstd",)) is Codec.ZLIB
    assert agreed(Codec.PLAIN, ()) is Codec.PLAIN


def test_without_its_package_zstd_is_neither_sent_nor_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = pack([b"{}"], Codec.ZSTD)
    monkeypatch.setattr("sync.batch.find_spec", lambda name: None)

    assert understood() == (Codec.PLAIN, Codec.ZLIB)
    assert agreed(Codec.ZSTD, ("zstd",)) is Codec.ZLIB
    with pytest.raises(BadBatch, match="not installed"):
        unpack(payload, Codec.ZSTD)


def test_too_many_lines_are_refused() -> None:
    with pytest.raises(BadBatch, match="lines"):
        unpack(b"1\n" * 2000, Codec.PLAIN)


@pytest.mark.parametrize("codec", list(Codec))
def test_the_codec_is_named_by_content_type_or_by_topic(codec: Codec) -> None:
    assert codec_of(content_type(codec), "records") is codec
    assert codec_of(None, codec.value) is codec
    assert codec_of(None, "records") is Codec.PLAIN


def test_unknown_codecs_are_refused_by_name() -> None:
    with pytest.raises(BadBatch, match="'br'"):
        codec_of("application/cloudevents+jsonl; encoding=br", "records")
    with pytest.raises(BadBatch, match="'text/html'"):
        codec_of("text/html", "records")
    with pytest.raises(BadBatch, match="'gzip'"):
        codec_of(None, "gzip")


def _records(*sizes: int) -> list[Sealed]:
    return [Sealed(sequence=at, body=b"x" * size) for at, size in enumerate(sizes, start=1)]


def test_a_batch_is_the_longest_prefix_that_fits() -> None:
    match make_batch(_records(100, 100, 100), Codec.PLAIN, payload_bytes=250):
        case Batch(first=first, last=last, payload=payload):
            assert (first, last, len(payload)) == (1, 2, 202)
        case other:
            pytest.fail(repr(other))


def test_a_record_that_fits_no_packet_is_named_alone() -> None:
    records = _records(500, 10)
    assert make_batch(records, Codec.PLAIN, payload_bytes=250) == TooLarge(record=records[0], payload_bytes=501)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40), st.integers(1, 2000))
def test_no_batch_exceeds_its_limit(sizes: list[int], limit: int) -> None:
    records = _records(*sizes)
    match make_batch(records, Codec.PLAIN, payload_bytes=limit):
        case Batch(first=1, last=last, payload=payload):
            assert len(payload) <= limit
            assert unpack(payload, Codec.PLAIN) == [record.body for record in records[:last]]
        case TooLarge(record=record):
            assert record == records[0]
            assert len(record.body) + 1 > limit


def test_the_packets_limit_leaves_room_for_its_header() -> None:
    assert BatchLimits().payload_bytes("t") is None
    assert BatchLimits(packet_bytes=1000).payload_bytes("t" * 40) == 832
    assert BatchLimits(packet_bytes=10).payload_bytes("t") == 0


def test_a_record_with_a_line_feed_cannot_travel() -> None:
    assert fits_a_line(b'{"a":"\\n"}')
    assert not fits_a_line(b'{"a":\n1}')
    assert not fits_a_line(b"")
