"""What a good bundle does on a device: activation, confirmation, small updates, key rotation."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from agent.cache.cache import Activated, PolicyCache, Refused, TokensUnreadable, TrustStoreBusy, Unchanged
from agent.core.policy import Driver, TokenStatus, Vehicle


def test_first_bundle_is_activated_whole(fleet: Any, device: Any, make: Any) -> None:
    groups = {
        "fleet": {"networks": ["DE*ABC"], "countries": ["de"], "max_energy_wh": 60_000},
        "vans": {
            "parent": "fleet",
            "schedule": {"zone": "Europe/Berlin", "windows": [{"days": ["fri"], "start": "22:00", "end": "24:00"}]},
        },
    }
    card = make.a_token("04A1", group="vans", driver="anna", parent="P1", offline=False, until="2027-01-01T00:00:00Z")
    stick = fleet.publishes(groups=groups, tokens=[card], stale_after_hours=12, expired_after_hours=48)

    result = device.updates(stick)

    assert isinstance(result, Activated)
    assert (result.tokens, result.previous_revision) == (1, None)
    policy = result.policy
    assert (policy.fleet, policy.revision) == ("meadow", 2)
    assert (policy.stale_after, policy.expired_after) == (timedelta(hours=12), timedelta(hours=48))
    assert policy.groups["fleet"].networks == {"DEABC"}
    assert policy.groups["fleet"].countries == {"DE"}
    schedule = policy.groups["vans"].schedule
    assert schedule is not None
    assert (schedule.windows[0].start_minute, schedule.windows[0].end_minute) == (22 * 60, 24 * 60)
    assert policy.drivers == {"anna": Driver(id="anna", language="de", cost_centre="4711")}
    assert policy.vehicles == {"van-7": Vehicle(id="van-7")}
    assert (policy.confirmed, policy.confirmed_boot) == (make.NOON, "boot-1")
    token = device.cache.lookup(make.ref("04A1"))
    assert token is not None
    assert (token.group, token.driver, token.parent, token.offline) == ("vans", "anna", "P1", False)
    assert (token.status, token.until.isoformat()) == (TokenStatus.ACTIVE, "2027-01-01T00:00:00+00:00")
    assert device.cache.lookup(make.ref("04A2")) is None
    assert set(device.cache.active.keys) == {make.SERVICE_KEY.kid}


def test_nothing_is_in_force_before_the_first_bundle(device: Any, make: Any) -> None:
    assert device.cache.active is None
    assert device.cache.lookup(make.ref("04A1")) is None


def test_cached_bundle_is_in_force_after_a_restart_without_any_carrier(fleet: Any, device: Any, make: Any) -> None:
    activated = device.updates(fleet.publishes())

    cache = device.starts(make.at(1))

    assert cache.findings == []
    assert cache.active.policy == activated.policy
    assert cache.active.token_count == 1
    assert cache.lookup(make.ref("04A1B2C3D4E5F6")).driver == "anna"


def test_age_counts_from_the_start_when_the_bundle_came_in_an_earlier_boot(fleet: Any, device: Any, make: Any) -> None:
    device.updates(fleet.publishes())

    rebooted = make.at(1, boot="boot-2")

    policy = device.starts(rebooted).active.policy
    assert (policy.confirmed_boot, policy.confirmed_ms) == ("boot-2", rebooted.monotonic_ms)

    restarted = device.starts(make.at(5, boot="boot-2")).active.policy
    again = device.updates(fleet.copy(), make.at(6, boot="boot-2"))
    assert restarted.confirmed_ms == again.policy.confirmed_ms == rebooted.monotonic_ms


def test_new_timestamp_confirms_the_policy_with_one_small_document(fleet: Any, device: Any, make: Any) -> None:
    device.updates(fleet.publishes())
    stick = fleet.confirms(hours=3)

    result = device.updates(stick, make.at(3))

    assert isinstance(result, Unchanged)
    assert result.policy.confirmed == make.NOON + timedelta(hours=3)
    assert stick.fetched == ["metadata/2.root.json", "metadata/timestamp.json"]
    assert device.starts().active.policy.confirmed == make.NOON + timedelta(hours=3)


def test_the_same_timestamp_again_does_not_make_the_policy_younger(fleet: Any, device: Any, make: Any) -> None:
    stick = fleet.publishes()
    first = device.updates(stick)

    again = device.updates(stick, make.at(5))

    assert isinstance(again, Unchanged)
    assert again.policy == first.policy


def test_one_changed_token_fetches_one_shard(fleet: Any, device: Any, make: Any) -> None:
    uids = [f"04{number:06X}" for number in range(60)]
    device.updates(fleet.publishes(tokens=[make.a_token(uid) for uid in uids]))
    tokens = [make.a_token(uid, **({"status": "blocked"} if uid == uids[7] else {})) for uid in uids]
    stick = fleet.publishes(hours=1, tokens=tokens)

    result = device.updates(stick, make.at(1))

    assert isinstance(result, Activated)
    assert result.previous_revision == 2
    # The shard and policy.json, which carries the revision.
    assert len([name for name in stick.fetched if name.startswith("targets/")]) == 2
    assert device.cache.lookup(make.ref(uids[7])).status is TokenStatus.BLOCKED
    assert device.cache.lookup(make.ref(uids[8])).status is TokenStatus.ACTIVE


def test_interrupted_download_goes_on_where_it_ended(fleet: Any, device: Any) -> None:
    stick = fleet.publishes()
    lost = stick.parts()[-1]
    broken_off = stick.without(lost)
    refused = device.updates(broken_off)
    assert (refused.error, refused.transient) == ("Missing", True)

    result = device.updates(stick)

    assert isinstance(result, Activated)
    arrived = set(broken_off.fetched) - {lost}
    assert not [name for name in stick.fetched if name.startswith("targets/") and name in arrived]


def test_device_that_was_off_for_months_follows_every_root(fleet: Any, device: Any, make: Any) -> None:
    device.updates(fleet.publishes())
    month = 30 * 24
    fleet.rotates("timestamp", hours=month)
    fleet.rotates("root", hours=2 * month)
    fleet.rotates("targets", hours=3 * month)
    fleet.rotates("snapshot", hours=4 * month)
    fleet.rotates("root", hours=5 * month)
    stick = fleet.publishes(hours=6 * month, tokens=[])

    result = device.updates(stick, make.at(6 * month))

    assert isinstance(result, Activated)
    assert result.policy.revision == fleet.publisher.status().version
    assert fleet.publisher.status().root_version == 6
    assert isinstance(device.updates(fleet.confirms(hours=6 * month + 1), make.at(6 * month + 1)), Unchanged)


def test_what_a_stolen_timestamp_key_signed_too_far_ahead_ends_with_that_key(
    fleet: Any, device: Any, make: Any
) -> None:
    """TUF 5.3.11. A clock that is proven would have refused it; here there was none."""
    device.updates(fleet.publishes())
    half_a_year = 180 * 24  # more is refused, for then the snapshot has expired
    fleet.is_robbed()
    for _ in range(3):
        poisoned = fleet.confirms(hours=half_a_year)
    unproven = make.at(1, quality=make.UNKNOWN)
    assert isinstance(device.updates(poisoned, unproven), Unchanged)

    # The office finds out, and goes on from its own backup with a new timestamp key.
    fleet.restores_timestamp_after_theft(hours=2)
    result = device.updates(fleet.copy(), make.at(2))

    assert isinstance(result, Unchanged | Activated)
    assert result.policy.confirmed == make.NOON + timedelta(hours=2)


def test_new_trust_anchor_from_the_operator_begins_a_new_chain(
    fleet: Any, device: Any, make: Any, tmp_path: Any
) -> None:
    for hours in (0, 1, 2):
        device.updates(fleet.publishes(hours=hours), make.at(hours))
    again = make.AFleet(tmp_path / "again")
    assert device.updates(again.publishes(hours=3), make.at(3)).error == "UnsignedMetadataError"

    device.root = again.root
    device.starts()

    assert isinstance(device.updates(again.copy(), make.at(3)), Activated)


def test_wrong_reference_key_is_named_and_never_taken_for_unknown_cards(fleet: Any, device: Any, make: Any) -> None:
    other = bytes(32)
    refused = device.updates(fleet.publishes(key=other))
    assert isinstance(refused, Refused)
    assert refused.error == "TokenKeyMismatch"
    assert not refused.transient

    device.updates(fleet.publishes(hours=1), make.at(1))
    device.key = other
    cache = device.starts()

    assert cache.findings == ["the token reference key of this device is not the one of the bundle"]
    with pytest.raises(TokensUnreadable, match="reference key"):
        cache.lookup(make.ref("04A1B2C3D4E5F6"))


def test_second_process_on_the_same_state_is_refused(device: Any, make: Any) -> None:
    assert device.cache.active is None

    with pytest.raises(TrustStoreBusy):
        PolicyCache(device.folder, fleet="meadow", root=device.root, key=make.KEY, now=make.at())


def test_previous_generation_is_kept_and_older_ones_are_not(fleet: Any, device: Any, make: Any) -> None:
    for hours in range(4):
        device.updates(fleet.publishes(hours=hours), make.at(hours))

    kept = sorted(path.name.split("-")[0] for path in (device.folder / "generations").iterdir())
    assert kept == ["4", "5"]
    parts = {path.name for path in (device.folder / "parts").iterdir()}
    assert len(parts) == 6  # both policy.json, and the four documents that never changed
