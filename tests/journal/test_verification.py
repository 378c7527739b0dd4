"""Whatever is done to a journal, the first bad record is named (P6)."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.journal.verification import START, Anchor, Damage, Verdict, verify
from agent.wire import hash_of, open_envelope, open_record, seal
from sync.signing import SigningKey, generate, sign
from tests.journal.samples import (
    MORNING,
    a_refusal,
    an_instant,
    at,
    authorised,
    bodies_of,
    ended,
    metered,
    open_journal,
    started,
)


class Device:
    """Signs checkpoints, as the vault does."""

    def __init__(self) -> None:
        self.key: SigningKey = generate()

    def sign(self, payload: dict[str, object], *, typ: str) -> str:
        return sign(payload, self.key, typ=typ)

    @property
    def keys(self) -> dict[str, str]:
        return {self.key.kid: self.key.public_jwk}


@pytest.fixture(scope="module")
def device() -> Device:
    return Device()


@pytest.fixture(scope="module")
def sample(device: Device, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A short day: a refusal, a session, a checkpoint, the next session."""
    with open_journal(tmp_path_factory.mktemp("journal")) as journal:
        journal.append(at(a_refusal()))
        journal.append(at(authorised(), started(), metered()))
        journal.append(at(ended()))
        journal.seal_checkpoint(device, an_instant())
        journal.append(at(authorised("s-2"), started("s-2")))
        return bodies_of(journal)


@pytest.fixture(scope="module")
def head(sample: list[bytes]) -> Anchor:
    return Anchor(sequence=len(sample), hash=hash_of(sample[-1]))


def named(verdict: Verdict) -> tuple[Damage, int] | None:
    return None if verdict.finding is None else (verdict.finding.damage, verdict.finding.at)


def test_a_whole_journal_is_whole_and_says_how_far_it_is_signed(
    sample: list[bytes], head: Anchor, device: Device
) -> None:
    verdict = verify(sample, keys=device.keys, head=head)
    assert verdict.ok
    assert (verdict.records, verdict.last, verdict.hash) == (9, 9, head.hash)
    assert (verdict.checkpoints, verdict.signed_through) == (1, 6)


@pytest.mark.parametrize("stride", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_every_single_changed_byte_is_named_with_its_record(
    sample: list[bytes], head: Anchor, device: Device, stride: int
) -> None:
    dice = random.Random(17)
    for place, body in enumerate(sample):
        for offset in range(0, len(body), stride):
            broken = body[:offset] + bytes([body[offset] ^ dice.randrange(1, 256)]) + body[offset + 1 :]
            verdict = verify([*sample[:place], broken, *sample[place + 1 :]], keys=device.keys, head=head)
            assert named(verdict) == (Damage.CHANGED, place + 1), f"record {place + 1}, byte {offset}"


def test_every_changed_digit_of_a_sequence_is_a_change_and_not_a_gap(sample: list[bytes], head: Anchor) -> None:
    for place, body in enumerate(sample):
        for number in range(1, 20):
            broken = body.replace(f'"sequence":"{place + 1}"'.encode(), f'"sequence":"{number}"'.encode())
            if broken != body:
                verdict = verify([*sample[:place], broken, *sample[place + 1 :]], keys=None, head=head)
                assert named(verdict) == (Damage.CHANGED, place + 1)


def test_every_deleted_record_is_missing(sample: list[bytes], head: Anchor, device: Device) -> None:
    for place in range(len(sample) - 1):
        verdict = verify([*sample[:place], *sample[place + 1 :]], keys=device.keys, head=head)
        assert named(verdict) == (Damage.MISSING, place + 1)


def test_every_cut_tail_is_found_against_a_known_head(sample: list[bytes], head: Anchor, device: Device) -> None:
    for length in range(len(sample)):
        assert named(verify(sample[:length], keys=device.keys, head=head)) == (Damage.TRUNCATED, length + 1)


def test_every_swap_of_two_records_is_reordering(sample: list[bytes], head: Anchor, device: Device) -> None:
    for first in range(len(sample)):
        for second in range(first + 1, len(sample)):
            swapped = list(sample)
            swapped[first], swapped[second] = swapped[second], swapped[first]
            assert named(verify(swapped, keys=device.keys, head=head)) == (Damage.REORDERED, first + 1)


def test_every_moved_record_is_reordering(sample: list[bytes], head: Anchor, device: Device) -> None:
    for place in range(len(sample)):
        for target in range(len(sample)):
            moved = [*sample[:place], *sample[place + 1 :]]
            moved.insert(target, sample[place])
            if target != place:
                assert named(verify(moved, keys=device.keys, head=head)) == (Damage.REORDERED, min(place, target) + 1)


def test_every_copy_put_anywhere_is_an_insertion(sample: list[bytes], head: Anchor, device: Device) -> None:
    for place, body in enumerate(sample):
        for target in range(len(sample) + 1):
            verdict = verify([*sample[:target], body, *sample[target:]], keys=device.keys, head=head)
            assert named(verdict) == (Damage.INSERTED, place + 1)


def test_a_forged_record_between_two_is_an_insertion(sample: list[bytes], head: Anchor, device: Device) -> None:
    for target in range(1, len(sample)):
        forged = forge(sample[target], previous=hash_of(sample[target - 1]))
        verdict = verify([*sample[:target], forged, *sample[target:]], keys=device.keys, head=head)
        assert named(verdict) == (Damage.INSERTED, target + 1)


def test_a_forged_record_in_place_of_another_is_a_change(sample: list[bytes], head: Anchor, device: Device) -> None:
    for target in range(1, len(sample)):
        forged = forge(sample[target], previous=hash_of(sample[target - 1]))
        verdict = verify([*sample[:target], forged, *sample[target + 1 :]], keys=device.keys, head=head)
        assert named(verdict) == (Damage.CHANGED, target + 1)


def test_a_history_that_was_rewritten_and_chained_anew_is_caught_by_the_checkpoint(
    sample: list[bytes], device: Device
) -> None:
    rewritten = rechained(sample, at_place=2)
    verdict = verify(rewritten, keys=device.keys)
    assert named(verdict) == (Damage.REWRITTEN, 7)
    assert verdict.signed_through == 0


def test_a_history_that_was_rewritten_after_the_checkpoint_is_caught_by_a_known_head(
    sample: list[bytes], head: Anchor, device: Device
) -> None:
    rewritten = rechained(sample, at_place=7)
    assert verify(rewritten, keys=device.keys).ok, "nothing inside can tell: this is what the anchor is for"
    assert named(verify(rewritten, keys=device.keys, head=head)) == (Damage.CHANGED, 9)


def test_an_older_head_that_does_not_fit_is_a_rewriting(sample: list[bytes], device: Device) -> None:
    known = Anchor(sequence=8, hash=hash_of(sample[7]))
    assert named(verify(rechained(sample, at_place=7), keys=device.keys, head=known)) == (Damage.REWRITTEN, 8)


def test_a_checkpoint_by_a_stranger_is_a_wrong_signature(sample: list[bytes]) -> None:
    verdict = verify(sample, keys=Device().keys)
    assert named(verdict) == (Damage.WRONG_SIGNATURE, 7)
    assert verify(sample, keys=None).ok, "without keys, signatures are left unjudged"


def test_a_checkpoint_of_another_journal_does_not_pass(sample: list[bytes], device: Device, tmp_path: Path) -> None:
    with open_journal(tmp_path) as other:
        other.append(at(*[metered()] * 5))
        other.seal_checkpoint(device, an_instant())
        stolen = open_record(bodies_of(other)[-1]).fact
    borrowed = rechained(sample, at_place=6, fact=stolen)
    assert named(verify(borrowed, keys=device.keys)) == (Damage.REWRITTEN, 7)


def test_a_record_of_another_journal_is_foreign_even_when_it_is_chained(sample: list[bytes]) -> None:
    event = json.loads(sample[3])
    first_half = sample[:3]
    foreign = json.dumps(
        {**event, "journal": "00000000-0000-4000-8000-000000000000"}, separators=(",", ":"), ensure_ascii=False
    ).encode()
    following = forge(sample[4], previous=hash_of(foreign))
    assert named(verify([*first_half, foreign, following], keys=None)) == (Damage.FOREIGN, 4)


def test_a_pruned_journal_verifies_from_its_base(device: Device, tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        journal.append(at(authorised(), started(), ended()))
        journal.acknowledge(journal=journal.head().journal, through=3, quarantined={})
        assert journal.prune(keep=timedelta(days=7), now=an_instant(MORNING + timedelta(days=30))) == 3
        journal.seal_checkpoint(device, an_instant())
        sequence, base_hash = journal.base()
        rest = bodies_of(journal)
    base = Anchor(sequence=sequence, hash=base_hash)
    verdict = verify(rest, keys=device.keys, base=base)
    assert verdict.ok
    assert (verdict.records, verdict.last, verdict.signed_through) == (2, 5, 4)
    assert named(verify(rest, keys=device.keys, base=START)) == (Damage.MISSING, 1)
    assert named(verify(rest[1:], keys=device.keys, base=base)) == (Damage.MISSING, 4)


def test_a_flip_at_an_unproven_end_is_still_found(sample: list[bytes]) -> None:
    broken = sample[-1].replace(b'"meter_wh":1204500', b'"meter_wh":1204501')
    assert verify([*sample[:-1], broken], keys=None).ok, "the last record has no successor and no known head"
    previous = open_envelope(sample[-1]).previous
    turned = sample[-1].replace(previous.encode(), previous[::-1].encode())
    assert not verify([*sample[:-1], turned], keys=None).ok


def forge(body: bytes, *, previous: str) -> bytes:
    """The same place in the chain, another story."""
    envelope = open_envelope(body)
    return seal(
        metered("forged", 9_999),
        sequence=envelope.sequence,
        previous=previous,
        journal=envelope.journal,
        source=envelope.source,
        now=an_instant(),
    )


def rechained(sample: list[bytes], *, at_place: int, fact: object = None) -> list[bytes]:
    """One record replaced and every later one sealed anew, as somebody with root but without the key could."""
    result = list(sample[:at_place])
    for place in range(at_place, len(sample)):
        record = open_record(sample[place])
        told = record.fact if place > at_place else (fact or metered("forged", 9_999))
        result.append(
            seal(
                told,  # type: ignore[arg-type]
                sequence=record.sequence,
                previous=hash_of(result[-1]),
                journal=record.journal,
                source=record.source,
                now=replace(an_instant(), utc=record.time),
            )
        )
    return result
