"""What an operator may set about one device's delivery: every limit with its unit and its reason.

How to reach a broker is in `sync.link`; the receiver's settings are beside the receiver.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sync.backoff import Backoff
from sync.batch import BatchLimits, Codec
from sync.link import LinkSettings
from sync.topics import DEFAULT_ROOT, DeviceTopics, FleetTopics


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkSettings:
    """One device's delivery."""

    link: LinkSettings
    fleet: str
    device: str
    root: str = DEFAULT_ROOT
    # zstd only to a backend that names it in its answer to hello; zlib until then, and to all others.
    codec: Codec = Codec.ZLIB
    batch: BatchLimits = field(default_factory=BatchLimits)
    # Public clouds end at 128 KiB without announcing it, and a 3.1.1 broker cannot announce anything.
    packet_bytes: int = 128 * 1024
    window_batches: int = 20
    window_bytes: int = 256 * 1024
    # Without progress for this long, what is under way is taken for lost and sent again.
    ack_timeout_s: float = 30.0
    # After so many in a row the connection itself is suspected.
    ack_timeouts_before_reconnect: int = 3
    # Waiting for the backend: hello is repeated with this back-off, for as long as it takes.
    hello_backoff: Backoff = field(default_factory=lambda: Backoff(base_s=5.0, cap_s=60.0))
    # The backend spoke first, so it is there (again): ask at once, but not oftener than this. Whoever replays its old
    # words gets so many hellos.
    hello_again_s: float = 0.2
    # The broker forbids or cannot take our topic: only people can help, so ask seldom.
    refused_pause_s: float = 60.0
    quota_pause_s: float = 1.0
    quota_pause_cap_s: float = 60.0
    # Even when idle, ask now and then: a backend restored from an old copy does not know what it lost.
    idle_hello_s: float = 600.0
    reconnect: Backoff = field(default_factory=Backoff)
    # A new record waits this long for company before it is sent.
    linger_s: float = 0.02
    will_delay_s: int = 30
    # How long a broker may take to serve a retained document before it counts as absent.
    retained_silence_s: float = 1.0
    same_alarm_s: float = 60.0

    @property
    def topics(self) -> DeviceTopics:
        return DeviceTopics(fleet=self.fleet, root=self.root, device=self.device)

    @property
    def fleet_topics(self) -> FleetTopics:
        return FleetTopics(fleet=self.fleet, root=self.root)
