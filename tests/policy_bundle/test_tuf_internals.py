"""tuf's TrustedMetadataSet is internal to that package: here stands what sync/documents.py needs of it."""

from __future__ import annotations

import inspect
from datetime import timedelta
from importlib.metadata import version
from typing import Any

import pytest
from tuf.api.exceptions import ExpiredMetadataError
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType


def test_tuf_is_of_a_range_that_was_tried() -> None:
    assert version("tuf").split(".")[0] in ("6", "7")


def test_constructor_and_methods_are_as_we_call_them() -> None:
    assert list(inspect.signature(TrustedMetadataSet.__init__).parameters) == ["self", "root_data", "envelope_type"]
    for name in ("update_root", "update_timestamp", "update_targets"):
        assert list(inspect.signature(getattr(TrustedMetadataSet, name)).parameters) == ["self", "data"]
    assert list(inspect.signature(TrustedMetadataSet.update_snapshot).parameters) == ["self", "data", "trusted"]


def test_our_reference_time_is_the_one_that_judges(fleet: Any, make: Any) -> None:
    stick = fleet.publishes()
    trusted = TrustedMetadataSet(fleet.root, EnvelopeType.METADATA)
    trusted.reference_time = make.NOON + timedelta(days=30)
    with pytest.raises(ExpiredMetadataError):
        trusted.update_timestamp(stick.files["metadata/timestamp.json"])

    trusted = TrustedMetadataSet(fleet.root, EnvelopeType.METADATA)
    trusted.reference_time = make.NOON
    trusted.update_timestamp(stick.files["metadata/timestamp.json"])
    trusted.reference_time = make.NOON + timedelta(days=30)
    with pytest.raises(ExpiredMetadataError):
        trusted.update_snapshot(stick.files[stick.newest("snapshot")])


def test_roles_are_read_by_name_after_their_update(fleet: Any, make: Any) -> None:
    stick = fleet.publishes()
    trusted = TrustedMetadataSet(fleet.root, EnvelopeType.METADATA)
    trusted.reference_time = make.NOON
    trusted.update_timestamp(stick.files["metadata/timestamp.json"])
    trusted.update_snapshot(stick.files[stick.newest("snapshot")])
    trusted.update_targets(stick.files[stick.newest("targets")])

    assert [trusted[role].version for role in ("root", "timestamp", "snapshot", "targets")] == [1, 2, 2, 2]
