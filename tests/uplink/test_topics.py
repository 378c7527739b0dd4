"""Topic names: what they look like, and that no name can leave its place."""

from __future__ import annotations

import pytest

from sync.topics import DeviceTopics, FleetTopics

SHA = "ab" * 32


def test_a_device_writes_up_and_reads_down() -> None:
    topics = DeviceTopics(fleet="f1", device="gw-1")
    assert topics.records == "roamkey/v1/f1/gw-1/up/records"
    assert topics.ack == "roamkey/v1/f1/gw-1/down/ack"
    assert topics.source == "/fleets/f1/devices/gw-1"


@pytest.mark.parametrize("name", ["", "+", "#", "a/b", "gw/../+/#", "$SYS", "a\x00", "ü", "x" * 65, "gw.1"])
def test_a_name_with_mqtt_signs_or_dots_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="topic level"):
        DeviceTopics(fleet="f1", device=name)
    with pytest.raises(ValueError, match="topic level"):
        FleetTopics(fleet=name)


def test_documents_have_exact_topics() -> None:
    topics = FleetTopics(fleet="f1")
    assert topics.policy("metadata/timestamp.json") == "roamkey/v1/f1/policy/meta/timestamp"
    assert topics.policy("metadata/1.root.json") == "roamkey/v1/f1/policy/meta/1-root"
    assert topics.policy(f"targets/{SHA}") == f"roamkey/v1/f1/policy/parts/{SHA}"
    for wrong in ("../x", "1-root.json", "", "#"):
        with pytest.raises(ValueError, match="no policy document"):
            topics.policy(f"metadata/{wrong}")
    for wrong in ("targets/abc", "other/x", f"targets/{SHA}/x"):
        with pytest.raises(ValueError, match="no policy document"):
            topics.policy(wrong)


def test_no_topic_has_a_dot_which_some_brokers_bend_or_refuse() -> None:
    topics = FleetTopics(fleet="f1")
    device = topics.device("gw-1")
    names = [topics.policy(f"metadata/{name}.json") for name in ("timestamp", "1.root", "12.snapshot", "3.targets")]
    assert not any("." in topic for topic in (*names, device.records, device.hello, device.ack, device.status))
    assert len(set(names)) == len(names)


def test_the_sender_is_read_from_the_topic() -> None:
    topics = FleetTopics(fleet="f1")
    assert topics.sender("roamkey/v1/f1/gw-1/up/records/zlib") == ("gw-1", "records/zlib")
    assert topics.sender("roamkey/v1/f2/gw-1/up/records") is None
    assert topics.sender("roamkey/v1/f1/gw-1/down/ack") is None
    assert topics.sender("roamkey/v1/f1//up/records") is None
