"""A decision's record says all that somebody may ask of it later: of a yes as well as of a no."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agent.cli.explain import explain
from agent.core import observations
from agent.core.answers import Mode, Whitelist
from agent.core.facts import DecisionMade, Outcome
from agent.core.grounds import few
from agent.core.policy import Driver, Freshness
from agent.core.rules.question import MOST_LISTED
from agent.wire import GENESIS, open_envelope, seal
from tests.core.builders import (
    CARD,
    NOON,
    Yard,
    a_group,
    a_place,
    a_policy,
    a_schedule,
    a_token,
    a_window,
    a_yard,
    presented,
)
from tests.core.live_rows import an_override
from tests.journal.samples import JOURNAL, SOURCE

ALL_DAY = a_schedule(a_window("00:00", "24:00"))
POLICY = a_policy(
    a_group(parent="all", networks={"DE*ABC"}, schedule=ALL_DAY), a_group("all", countries={"DE"}, max_power_w=22_000)
)


def decided(policy: Any = POLICY, **token: Any) -> tuple[Yard, DecisionMade]:
    yard = a_yard(policy, tokens={CARD: a_token(**token)})
    yard.taps()
    (made,) = yard.told(DecisionMade)
    return yard, made


def test_a_yes_names_every_rule_that_bound_it_with_what_was_seen_and_allowed() -> None:
    _, made = decided()

    assert [(each.rule, each.observed, each.limit, each.group) for each in made.grounds or ()] == [
        ("policy_in_force", "1.0 h (fresh)", "24.0 h, or 168.0 h offline", None),
        ("token_active", "active", "active", None),
        ("network_allowed", "DE*ABC", "DE*ABC", "drivers"),
        ("inside_window", "2027-03-10T12:00:00Z", "1 windows, Europe/Berlin", "drivers"),
        ("country_allowed", "DE", "DE", "all"),
    ]
    assert [(each.rule, each.group) for each in made.warnings] == [("power_within", "all")]  # told there, not twice


def test_a_no_names_every_failed_rule_and_the_one_that_decides_the_status_first() -> None:
    _, made = decided(a_policy(networks={"NL*XYZ"}, countries=set()), until=NOON - timedelta(days=1))

    assert [(each.rule, each.observed, each.limit) for each in made.reasons] == [
        ("token_active", "2027-03-10T12:00:00Z", "2027-03-09T12:00:00Z"),
        ("network_allowed", "DE*ABC", "NL*XYZ"),
        ("country_allowed", "DE", "none"),
    ]
    assert (made.ocpi, made.ocpp16, made.ocpp201, made.oicp) == ("EXPIRED", "Expired", "Expired", "210")
    assert made.grounds is None


@pytest.mark.parametrize("language", ["en", "de", "fr", "nl"])
def test_it_says_revision_age_clock_mode_latency_words_and_a_support_reference(language: str) -> None:
    policy = replace(POLICY, drivers={"anna": Driver(id="anna", language=language)})
    _, made = decided(policy, driver="anna", whitelist=Whitelist.ALLOWED_OFFLINE)

    assert made.policy is not None
    assert (made.policy.revision, made.policy.age_s, made.policy.state) == (7, 3_600, Freshness.FRESH)
    assert (made.clock.value, made.mode, made.waited_ms) == ("synchronised", Mode.OFFLINE, 0)
    assert (made.whitelist, made.backend is not None) == (Whitelist.ALLOWED_OFFLINE, True)
    words = {"en": "allowed", "de": "erlaubt", "fr": "autorisée", "nl": "toegestaan"}
    assert words[language] in made.text
    assert made.support == made.decision[-8:].upper()


def test_explain_says_it_for_a_person() -> None:
    yard = a_yard(a_policy(networks={"NL*XYZ"}, countries={"DE"}), tokens={CARD: a_token(whitelist=Whitelist.NEVER)})
    yard.tell(_offered())
    yard.taps()
    (made,) = yard.told(DecisionMade)
    body = seal(made, sequence=1, previous=GENESIS, journal=JOURNAL, source=SOURCE, now=yard.now)
    told = {"time": "now", "clockquality": "synchronised", **open_envelope(body).data}

    lines = "\n".join(explain(told))

    for words in (
        "GRANTED_BY_OVERRIDE",
        "asked  whitelist NEVER: the backend is silent: offline",
        "mode   offline, decided in 0 ms",
        "by override o-1, used up, of ada: a driver is stranded",
        "~ NETWORK outweighed: DE*ABC, allowed: NL*XYZ, rule network_allowed",
        "~ NO_ANSWER outweighed",
        "+ country_allowed: DE, allowed: DE (group drivers)",
        "1.0 h (fresh)",
        "support reference",
        "OCPP 2.0.1 Accepted",
    ):
        assert words in lines, words


def _offered() -> Any:
    from agent.core import observations

    return observations.OverrideOffered(override=an_override())


def test_a_long_list_is_told_in_short() -> None:
    names = [f"DE*{number:03}" for number in range(1_000)]

    assert few(names) == ",".join(names[:MOST_LISTED]) + " and 992 more"


def test_a_group_of_many_thousand_names_fills_no_record() -> None:
    many = frozenset(f"site-{number:06}" for number in range(20_000))
    no_network = frozenset(f"XX*{number:05}" for number in range(10_000))
    wide = a_group(networks=frozenset({"DE*ABC"}) | no_network, denied_sites=many, preferred_sites=many)
    narrow = a_group(networks=no_network, denied_sites=many, preferred_sites=many)
    for group, outcome in ((wide, Outcome.GRANTED), (narrow, Outcome.REFUSED)):
        policy = a_policy(group)
        yard = a_yard(policy)
        asked = observations.DecisionRequested(
            request="r", presented=presented(), charger=None, place=a_place(site="the mall")
        )

        yard.tell(asked)

        (made,) = yard.told(DecisionMade)
        assert made.outcome is outcome
        assert [each.code for each in made.warnings] == ["NON_PREFERRED_SITE"]
        assert len(seal(made, sequence=1, previous=GENESIS, journal=JOURNAL, source=SOURCE, now=yard.now)) < 4_096
