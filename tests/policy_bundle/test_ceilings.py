"""What the root has signed as a ceiling no online key passes: neither a policy nor a one-time override."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from agent.cache.cache import Activated, Refused
from sync.ceilings import CEILINGS_FIELD, Ceilings, CeilingsUnfit, ceilings_from, ceilings_of


def limited(fleet: Any, make: Any, *, hours: float = 0, **ceilings: int) -> Any:
    """Another root with these ceilings, and the same parts under it."""
    fleet.publisher.rotate("root", now=make.NOON + timedelta(hours=hours), ceilings=Ceilings(**ceilings))
    return fleet.copy()


def test_ceilings_of_the_root_are_in_the_policy_in_force(fleet: Any, device: Any, make: Any) -> None:
    fleet.publishes()

    device.updates(limited(fleet, make, override_energy_wh=20_000, override_hours=4), make.at(1))

    policy = device.cache.active.policy
    assert (policy.override_energy_wh, policy.override_hours) == (20_000, 4)
    assert device.starts().active.policy.override_hours == 4


def test_a_policy_above_the_ceiling_is_refused_and_the_good_one_kept(fleet: Any, device: Any, make: Any) -> None:
    fleet.publishes(expired_after_hours=48)
    device.updates(limited(fleet, make, expired_after_hours=48), make.at(1))
    good = device.cache.active.policy

    refused = device.updates(fleet.publishes(hours=2, expired_after_hours=49), make.at(2))

    assert isinstance(refused, Refused)
    assert (refused.error, refused.transient) == ("AboveCeiling", False)
    assert device.cache.active.policy.revision == good.revision
    assert isinstance(device.updates(fleet.publishes(hours=3, expired_after_hours=48), make.at(3)), Activated)


def test_a_ceiling_that_comes_later_cuts_down_the_policy_that_is_in_force(fleet: Any, device: Any, make: Any) -> None:
    device.updates(fleet.publishes(expired_after_hours=168), make.at(0))

    device.updates(limited(fleet, make, hours=1, expired_after_hours=24), make.at(1))

    assert device.cache.active.policy.expired_after == timedelta(hours=24)


def test_a_ceiling_that_is_not_known_here_lets_nothing_pass(fleet: Any, device: Any, make: Any) -> None:
    class Newer(Ceilings):
        def to_field(self) -> dict[str, int]:
            return {"override_km": 5}

    device.updates(fleet.publishes(), make.at(0))
    fleet.publisher.rotate("root", now=make.NOON + timedelta(hours=1), ceilings=Newer())
    device.updates(fleet.copy(), make.at(1))
    assert device.cache.active.policy.override_energy_wh == 0

    refused = device.updates(fleet.publishes(hours=2), make.at(2))

    assert isinstance(refused, Refused)
    assert refused.error == "CeilingUnknown"


def test_rotating_other_keys_keeps_the_ceilings(fleet: Any, make: Any) -> None:
    limited(fleet, make, override_hours=4)

    fleet.rotates("targets", hours=1)

    assert ceilings_of(fleet.publisher.root) == Ceilings(override_hours=4)


@pytest.mark.parametrize(
    "told", [{"other": 1}, {"override_hours": -1}, {"override_hours": True}, {"override_hours": "4"}]
)
def test_what_is_no_ceiling_is_none(told: dict[str, Any]) -> None:
    with pytest.raises(CeilingsUnfit):
        ceilings_from(told)


@pytest.mark.parametrize("root", [b"", b"[]", b'{"signed": 1}', f'{{"signed": {{"{CEILINGS_FIELD}": 4}}}}'.encode()])
def test_what_is_no_root_has_no_ceilings(root: bytes) -> None:
    with pytest.raises(CeilingsUnfit):
        ceilings_of(root)
