"""The names of the wire: one fleet's topics, one device's topics, and reading a topic back.

What travels in each topic is in `sync.messages` and `sync.batch`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_ROOT = "roamkey/v1"
# A device's name is its certificate's common name: broker ACLs are written with it (%u), so no MQTT sign may pass.
# No dots either: RabbitMQ turns a topic's dots into slashes, and nats-server 2.9 refuses a topic with one.
_LEVEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_METADATA = re.compile(r"(?:([0-9]{1,10})\.)?([a-z]{1,40})\.json")


def level(text: str, what: str) -> str:
    """The text, if it may stand as one topic level; MQTT's own signs and empty names are refused."""
    if not _LEVEL.fullmatch(text):
        raise ValueError(f"{what} {text!r} cannot be a topic level: use 1 to 64 of A-Z a-z 0-9 _ -")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetTopics:
    """The topics of a fleet, as its receivers and its publisher see them."""

    fleet: str
    root: str = DEFAULT_ROOT

    def __post_init__(self) -> None:
        level(self.fleet, "fleet")
        for part in self.root.split("/"):
            level(part, "topic root level")

    @property
    def records(self) -> str:
        """Filter for every device's records, with or without the codec as a last level."""
        return f"{self.root}/{self.fleet}/+/up/records/#"

    @property
    def hello(self) -> str:
        return f"{self.root}/{self.fleet}/+/up/hello"

    @property
    def ask(self) -> str:
        return f"{self.root}/{self.fleet}/+/up/ask"

    @property
    def status(self) -> str:
        return f"{self.root}/{self.fleet}/+/up/status"

    @property
    def policy_timestamp(self) -> str:
        return self.policy("metadata/timestamp.json")

    def policy(self, name: str) -> str:
        """The topic of a document: .../meta/1-root for "metadata/1.root.json", .../parts/<sha256> for a target."""
        folder, _, rest = name.partition("/")
        if folder == "metadata" and (named := _METADATA.fullmatch(rest)):
            version, role = named.groups()
            return f"{self.root}/{self.fleet}/policy/meta/{role if version is None else f'{version}-{role}'}"
        if folder == "targets" and _SHA256.fullmatch(rest):
            return f"{self.root}/{self.fleet}/policy/parts/{rest}"
        raise ValueError(f"{name!r} names no policy document: use metadata/NAME.json or targets/SHA256")

    def device(self, name: str) -> DeviceTopics:
        return DeviceTopics(fleet=self.fleet, root=self.root, device=name)

    def sender(self, topic: str) -> tuple[str, str] | None:
        """(device, rest below up/) of a topic a device published to; None when it is none of this fleet's."""
        prefix = f"{self.root}/{self.fleet}/"
        if not topic.startswith(prefix):
            return None
        device, _, rest = topic.removeprefix(prefix).partition("/")
        if not rest.startswith("up/") or not _LEVEL.fullmatch(device):
            return None
        return device, rest.removeprefix("up/")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTopics:
    """The topics of one device: it writes only below its `up/` and reads only its `down/`."""

    fleet: str
    device: str
    root: str = DEFAULT_ROOT

    def __post_init__(self) -> None:
        level(self.device, "device")
        FleetTopics(fleet=self.fleet, root=self.root)

    @property
    def _base(self) -> str:
        return f"{self.root}/{self.fleet}/{self.device}"

    @property
    def records(self) -> str:
        return f"{self._base}/up/records"

    @property
    def hello(self) -> str:
        return f"{self._base}/up/hello"

    @property
    def status(self) -> str:
        return f"{self._base}/up/status"

    @property
    def ask(self) -> str:
        return f"{self._base}/up/ask"

    @property
    def fetch(self) -> str:
        return f"{self._base}/up/fetch"

    @property
    def ack(self) -> str:
        return f"{self._base}/down/ack"

    @property
    def answer(self) -> str:
        return f"{self._base}/down/answer"

    @property
    def grant(self) -> str:
        return f"{self._base}/down/grant"

    @property
    def override(self) -> str:
        return f"{self._base}/down/override"

    @property
    def part(self) -> str:
        return f"{self._base}/down/part"

    @property
    def source(self) -> str:
        """The CloudEvents `source` that every record of this device must carry."""
        return f"/fleets/{self.fleet}/devices/{self.device}"
