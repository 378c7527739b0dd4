"""A fleet's publisher and a device, on real files, with a clock and a carrier that the tests hold."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.cache.cache import PolicyCache, Update
from agent.core.credentials import key_check, reference
from agent.core.instants import ClockQuality, Instant
from sync.backend.publisher import Publisher
from sync.carriers import DocumentTooLarge
from sync.signing import generate

KEY = bytes(range(32))
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SERVICE_KEY = generate()


def ref(uid: str, key: bytes = KEY) -> str:
    return reference(key, uid)


def a_token(uid: str, **fields: Any) -> dict[str, Any]:
    return {"reference": ref(uid), "label": f"card {uid[-2:]}", "group": "fleet", **fields}


def at(hours: float = 0, *, boot: str = "boot-1", quality: ClockQuality = ClockQuality.SYNCHRONISED) -> Instant:
    """Noon plus this many hours, on all clocks."""
    return Instant(
        utc=NOON + timedelta(hours=hours),
        floor=datetime(2026, 11, 1, tzinfo=UTC),
        monotonic_ms=int((1000 + hours) * 3_600_000),
        boot=boot,
        quality=quality,
        entropy=b"entropy",
    )


def documents(
    *,
    fleet: str = "meadow",
    revision: int = 1,
    tokens: list[dict[str, Any]] | None = None,
    groups: Mapping[str, Any] | None = None,
    drivers: list[dict[str, Any]] | None = None,
    key: bytes = KEY,
    **policy: Any,
) -> dict[str, bytes]:
    entry = {"kid": SERVICE_KEY.kid, "use": "ack", "jwk": json.loads(SERVICE_KEY.public_jwk)}
    made: dict[str, Any] = {
        "policy.json": {
            "schema": 1,
            "fleet": fleet,
            "revision": revision,
            "issued": "2026-11-22T12:00:00Z",
            "key_check": key_check(key),
            "groups": {"fleet": {}} if groups is None else groups,
            **policy,
        },
        "people.json": {"schema": 1, "drivers": drivers or [{"id": "anna", "language": "de", "cost_centre": "4711"}]},
        "vehicles.json": {"schema": 1, "vehicles": [{"id": "van-7"}]},
        "keys.json": {"schema": 1, "keys": [entry]},
    }
    for token in tokens if tokens is not None else [a_token("04A1B2C3D4E5F6", driver="anna", vehicle="van-7")]:
        shard = made.setdefault(f"tokens/{token['reference'][:2]}.json", {"schema": 1, "tokens": []})
        shard["tokens"].append(token)
    return {name: json.dumps(document).encode() for name, document in made.items()}


class AFleet:
    """Its publisher's folder."""

    def __init__(self, folder: Path, name: str = "meadow", **roots: int) -> None:
        self.name = name
        self.publisher = Publisher.init(folder, fleet=name, now=NOON - timedelta(days=1), **roots)
        self.repository = folder / "repository"
        self.root = self.publisher.root

    def publishes(self, *, hours: float = 0, bodies: Mapping[str, bytes] | None = None, **fields: Any) -> Stick:
        fields = {"fleet": self.name, "revision": self.publisher.next_version, **fields}
        self.publisher.publish(bodies or documents(**fields), now=NOON + timedelta(hours=hours))
        return self.copy()

    def is_robbed(self) -> None:
        self._before_theft = (self.repository / "metadata/timestamp.json").read_bytes()

    def confirms(self, *, hours: float) -> Stick:
        self.publisher.refresh_timestamp(now=NOON + timedelta(hours=hours))
        return self.copy()

    def rotates(self, role: str, *, hours: float) -> Stick:
        self.publisher.rotate(role, now=NOON + timedelta(hours=hours))
        return self.copy()

    def restores_timestamp_after_theft(self, *, hours: float) -> None:
        """The timestamp from before the theft, and a root that takes the stolen key out."""
        (self.repository / "metadata/timestamp.json").write_bytes(self._before_theft)
        self.rotates("timestamp", hours=hours)

    def copy(self) -> Stick:
        files = (path for path in self.repository.rglob("*") if path.is_file())
        return Stick({str(path.relative_to(self.repository)): path.read_bytes() for path in files})


@dataclass
class Stick:
    """A carrier in memory: what the repository was at one moment, for the test to spoil."""

    files: dict[str, bytes]
    fetched: list[str] = field(default_factory=list)

    async def fetch(self, name: str, max_bytes: int) -> bytes | None:
        self.fetched.append(name)
        body = self.files.get(name)
        if body is not None and len(body) > max_bytes:
            raise DocumentTooLarge(f"{name} is larger than {max_bytes} bytes")
        return body

    def spoilt(self, name: str, change: Callable[[bytes], bytes]) -> Stick:
        return Stick({**self.files, name: change(self.files[name])})

    def without(self, name: str) -> Stick:
        return Stick({each: body for each, body in self.files.items() if each != name})

    def with_files_of(self, other: Stick, *names: str) -> Stick:
        return Stick({**self.files, **{name: other.files[name] for name in names}})

    def newest(self, role: str) -> str:
        names = [name for name in self.files if name.endswith(f".{role}.json")]
        return max(names, key=lambda name: int(name.split("/")[1].split(".")[0]))

    def parts(self) -> list[str]:
        return sorted(name for name in self.files if name.startswith("targets/"))


class ADevice:
    """Its state folder, and the cache as the agent opens it."""

    def __init__(self, folder: Path, fleet: str, root: bytes, key: bytes = KEY) -> None:
        self.folder, self.fleet, self.root, self.key = folder, fleet, root, key
        self._cache: PolicyCache | None = None

    @property
    def cache(self) -> PolicyCache:
        return self._cache or self.starts()

    def starts(self, now: Instant | None = None) -> PolicyCache:
        self.stops()
        self._cache = PolicyCache(self.folder, fleet=self.fleet, root=self.root, key=self.key, now=now or at())
        return self._cache

    def stops(self) -> None:
        if self._cache is not None:
            self._cache.close()
            self._cache = None

    def updates(self, carrier: Any, now: Instant | None = None) -> Update:
        return asyncio.run(self.cache.update(carrier, now or at()))

    @property
    def revision(self) -> int | None:
        active = self.cache.active
        return active.policy.revision if active is not None else None


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where there is such a place: these tests are about order and content, and fsync as much as a device."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="roamkey-", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
def fleet(tmp_path: Path) -> AFleet:
    return AFleet(tmp_path / "fleet")


@pytest.fixture
def device(tmp_path: Path, fleet: AFleet) -> Iterator[ADevice]:
    made = ADevice(tmp_path / "device", fleet.name, fleet.root)
    yield made
    made.stops()


@pytest.fixture
def make() -> Any:
    """The builders above, for test files cannot import each other in importlib mode."""
    return _BUILDERS


class _Builders:
    KEY = KEY
    NOON = NOON
    SERVICE_KEY = SERVICE_KEY
    Stick = Stick
    AFleet = AFleet
    ADevice = ADevice
    UNKNOWN = ClockQuality.UNKNOWN
    at = staticmethod(at)
    ref = staticmethod(ref)
    a_token = staticmethod(a_token)
    documents = staticmethod(documents)
    replace = staticmethod(replace)


_BUILDERS = _Builders
