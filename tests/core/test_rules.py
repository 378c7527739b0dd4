"""One row a sentence of the rules: what it is called, what is asked, and which reasons come back. Empty is a grant."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent.core import rules, texts
from agent.core.credentials import RANDOM, Assurance, CardDoubt
from agent.core.decisions import Granted, Refused, decide
from agent.core.instants import ClockQuality, Instant
from agent.core.policy import TokenStatus
from agent.core.reasons import Reason, ReasonCode
from agent.core.requests import Place, Usage
from agent.core.statuses import ACCEPTED, TABLE, by_severity, statuses_of
from agent.core.terms import Lenience
from tests.core.budget_rows import BUDGET_ROWS
from tests.core.builders import (
    NOON,
    a_credential,
    a_group,
    a_phone,
    a_place,
    a_policy,
    a_request,
    a_schedule,
    a_token,
    a_window,
    an_instant,
    ask,
    codes,
)
from tests.core.fleet_rows import FLEET_ROWS
from tests.core.live_rows import LIVE_ROWS
from tests.core.price_rows import PRICE_ROWS

SECOND = timedelta(seconds=1)
TICK = timedelta(microseconds=1)


def at(moment: datetime, **changes: Any) -> Instant:
    return an_instant(moment, **changes)


def utc(*when: int) -> datetime:
    return datetime(*when, tzinfo=UTC)  # type: ignore[misc,arg-type]


def token_rows() -> list[tuple[str, Any, str]]:
    until = a_token(until=NOON)
    since = a_token(not_before=NOON)
    blocked = a_token(status=TokenStatus.BLOCKED)
    return [
        ("an active token is welcome", lambda: ask(), ""),
        ("a blocked token is refused", lambda: ask(a_request(blocked)), "TOKEN_BLOCKED"),
        ("until excludes its own instant", lambda: ask(a_request(until), now=at(NOON)), "TOKEN_EXPIRED"),
        ("until includes the instant before", lambda: ask(a_request(until), now=at(NOON - TICK)), ""),
        ("not_before includes its own instant", lambda: ask(a_request(since), now=at(NOON)), ""),
        (
            "not_before excludes the instant before",
            lambda: ask(a_request(since), now=at(NOON - TICK)),
            "TOKEN_NOT_YET_VALID",
        ),
        (
            "an expired token does not revive when the clock goes back a little",
            lambda: ask(a_request(until), now=at(NOON - SECOND, floor=NOON + SECOND)),
            "TOKEN_EXPIRED",
        ),
        (
            "a proven moment does not begin a token's life while the clock says otherwise",
            lambda: ask(a_request(since), now=at(NOON - SECOND, floor=NOON + SECOND)),
            "TOKEN_NOT_YET_VALID",
        ),
        ("an unknown card is refused", lambda: ask(replace(a_request(), token=None)), "TOKEN_UNKNOWN"),
        (
            "a random UID names nobody",
            lambda: ask(replace(a_request(), credential=RANDOM, token=None)),
            "TOKEN_RANDOM_UID",
        ),
        (
            "a random UID names nobody even when the table has that number",
            lambda: ask(replace(a_request(), credential=a_phone())),
            "TOKEN_RANDOM_UID",
        ),
        (
            "a credential without a reference names nobody",
            lambda: ask(replace(a_request(), credential=replace(a_credential(), reference=""))),
            "TOKEN_RANDOM_UID",
        ),
        (
            "a table that cannot be read is no unknown card",
            lambda: ask(replace(a_request(), token=None, lookup_failed=True)),
            "CACHE_UNREADABLE",
        ),
        (
            "a table that cannot be read refuses even with a token at hand",
            lambda: ask(replace(a_request(), lookup_failed=True)),
            "CACHE_UNREADABLE",
        ),
        (
            "two cards are nobody's wish",
            lambda: ask(replace(a_request(), credential=RANDOM, token=None, crowded=True)),
            "SEVERAL_CARDS",
        ),
        *(
            (
                f"a card in doubt ({doubt}) names nobody, whatever its number",
                lambda doubt=doubt: ask(replace(a_request(), doubt=doubt)),
                reason,
            )
            for doubt, reason in (
                (CardDoubt.NOT_GENUINE, "CARD_NOT_GENUINE"),
                (CardDoubt.TORN, "CARD_TORN"),
                (CardDoubt.PHONE, "PHONE"),
                (CardDoubt.AMBIGUOUS, "TOKEN_AMBIGUOUS"),
            )
        ),
        (
            "an authenticated card is welcome",
            lambda: ask(replace(a_request(), credential=a_credential(assurance=Assurance.AUTHENTICATED))),
            "",
        ),
    ]


def policy_rows() -> list[tuple[str, Any, str]]:
    soft, hard = timedelta(hours=24), timedelta(days=7)
    online_only = a_request(a_token(offline=False))

    def aged(age: timedelta, request: Any = None, **changes: Any) -> Any:
        return ask(request, a_policy(confirmed=NOON - age, confirmed_boot="earlier"), now=at(NOON, **changes))

    def held_ms(span: timedelta, **changes: Any) -> Instant:
        return at(NOON, monotonic_ms=1_000 + int(span.total_seconds() * 1000), **changes)

    received = a_policy(confirmed=NOON, confirmed_ms=1_000)
    return [
        ("no policy refuses", lambda: decide(a_request(), None, Usage(), an_instant()), "NO_POLICY"),
        ("a policy of exactly the soft age serves everybody", lambda: aged(soft, online_only), ""),
        ("a stale one serves tokens flagged for offline use", lambda: aged(soft + TICK), ""),
        ("a stale one serves nobody else", lambda: aged(soft + TICK, online_only), "CACHE_STALE"),
        ("a policy of exactly the hard age still serves", lambda: aged(hard), ""),
        ("an older one serves nobody", lambda: aged(hard + TICK), "POLICY_EXPIRED"),
        (
            "expired says only that, also for tokens that need a connection",
            lambda: aged(hard + TICK, online_only),
            "POLICY_EXPIRED",
        ),
        (
            "age grows with the monotonic clock while the wall clock stands still",
            lambda: ask(None, received, now=held_ms(hard + SECOND)),
            "POLICY_EXPIRED",
        ),
        (
            "the monotonic soft limit counts too",
            lambda: ask(online_only, received, now=held_ms(soft + SECOND)),
            "CACHE_STALE",
        ),
        ("a monotonic age within the limit is fine", lambda: ask(online_only, received, now=held_ms(soft)), ""),
        (
            "the monotonic clock of another boot says nothing",
            lambda: ask(None, received, now=held_ms(hard + SECOND, boot="boot-2")),
            "",
        ),
        (
            "age looks at the newest proven moment, not at a clock set back",
            lambda: aged(hard - SECOND, floor=NOON + 2 * SECOND),
            "POLICY_EXPIRED",
        ),
        ("a policy from the future is fresh, not expired", lambda: aged(-hard), ""),
        ("a token of a group that is missing charges nowhere", lambda: ask(a_request(a_token(group="?"))), "NO_POLICY"),
        (
            "a group whose parent is missing charges nowhere",
            lambda: ask(None, a_policy(a_group(parent="?"))),
            "NO_POLICY",
        ),
        (
            "a cycle of groups charges nowhere",
            lambda: ask(None, a_policy(a_group(parent="b"), a_group("b", parent="drivers"))),
            "NO_POLICY",
        ),
        ("a group that is its own parent charges nowhere", lambda: ask(None, a_policy(parent="drivers")), "NO_POLICY"),
        ("eight levels are allowed", lambda: ask(None, tower(8)), ""),
        ("nine levels are not", lambda: ask(None, tower(9)), "NO_POLICY"),
        ("a policy without groups serves nobody", lambda: ask(None, a_policy(groups={})), "NO_POLICY"),
    ]


def tower(height: int) -> Any:
    names = ["drivers", *(f"level {number}" for number in range(1, height))]
    parents = [*names[1:], None]
    return a_policy(*(a_group(each, parent=parent) for each, parent in zip(names, parents, strict=True)))


def place_rows() -> list[tuple[str, Any, str]]:
    def network(observed: str | None, allowed: set[str] | None) -> Any:
        return lambda: ask(a_request(place=a_place(network=observed)), a_policy(networks=allowed))

    def country(observed: str | None, allowed: set[str] | None) -> Any:
        return lambda: ask(a_request(place=a_place(country=observed)), a_policy(countries=allowed))

    return [
        ("a network of the set is allowed", network("DE*ABC", {"DE*ABC"}), ""),
        ("another is not", network("DE*XYZ", {"DE*ABC"}), "NETWORK"),
        ("stars do not matter", network("DEABC", {"DE*ABC"}), ""),
        ("dashes do not matter", network("DE-ABC", {"DE*ABC"}), ""),
        ("case does not matter", network("de*abc", {"DE*ABC"}), ""),
        ("nor does any of it in the policy", network("DE*ABC", {"de-abc"}), ""),
        ("a longer id is another network", network("DE*ABCD", {"DE*ABC"}), "NETWORK"),
        ("an unknown network is refused where a set is named", network(None, {"DE*ABC"}), "NETWORK"),
        ("an empty network is an unknown one", network("*", {"*"}), "NETWORK"),
        ("an unknown network is fine where none is named", network(None, None), ""),
        ("an empty set of networks refuses", network("DE*ABC", set()), "NETWORK"),
        ("a country of the set is allowed", country("DE", {"DE", "NL"}), ""),
        ("another is not", country("FR", {"DE", "NL"}), "COUNTRY"),
        ("case does not matter", country("de", {"DE"}), ""),
        ("an unknown country is refused where a set is named", country(None, {"DE"}), "COUNTRY"),
        ("an empty country is an unknown one", country(" ", {"", " "}), "COUNTRY"),
        ("an unknown country is fine where none is named", country(None, None), ""),
        ("an empty set of countries refuses", country("DE", set()), "COUNTRY"),
    ]


def usage_rows() -> list[tuple[str, Any, str]]:
    def busy(usage: Usage, **limits: Any) -> Any:
        return lambda: ask(None, a_policy(**limits), usage=usage)

    token1, token2 = Usage(sessions_of_token=("s1",)), Usage(sessions_of_token=("s1", "s2"))
    vehicle1 = Usage(sessions_of_vehicle=("s1",))
    return [
        ("one session a token unless a group says otherwise", busy(token1), "CONCURRENT_SESSION"),
        ("a group may allow two of a token", busy(token1, max_sessions_per_token=2), ""),
        ("and then refuses the third", busy(token2, max_sessions_per_token=2), "CONCURRENT_SESSION"),
        ("none a token refuses the first", busy(Usage(), max_sessions_per_token=0), "CONCURRENT_SESSION"),
        ("one session a vehicle unless a group says otherwise", busy(vehicle1), "CONCURRENT_SESSION"),
        ("a group may allow two of a vehicle", busy(vehicle1, max_sessions_per_vehicle=2), ""),
        ("the token's limit does not help the vehicle", busy(vehicle1, max_sessions_per_token=2), "CONCURRENT_SESSION"),
        ("a busy charger is refused", busy(Usage(session_at_charger="s9")), "EVSE_OCCUPIED"),
        ("a charger that does not answer is refused", busy(Usage(charger_reachable=False)), "EVSE_UNAVAILABLE"),
        ("full storage refuses", busy(Usage(storage_full=True)), "STORAGE_FULL"),
    ]


def clock_rows() -> list[tuple[str, Any, str]]:
    unknown = {"quality": ClockQuality.UNKNOWN}
    always = a_schedule(a_window("00:00", "24:00"))
    timed = a_policy(schedule=always)
    online_only = a_request(a_token(offline=False))
    drift = timedelta(seconds=120)
    return [
        ("an unknown clock is fine where nothing depends on the hour", lambda: ask(now=at(NOON, **unknown)), ""),
        (
            "not where a token begins",
            lambda: ask(a_request(a_token(not_before=NOON)), now=at(NOON, **unknown)),
            "CLOCK_UNTRUSTED",
        ),
        (
            "not where a token ends",
            lambda: ask(a_request(a_token(until=NOON + SECOND)), now=at(NOON, **unknown)),
            "CLOCK_UNTRUSTED",
        ),
        ("not where a group has hours", lambda: ask(None, timed, now=at(NOON, **unknown)), "CLOCK_UNTRUSTED"),
        (
            "not where a parent has hours",
            lambda: ask(
                None, a_policy(a_group(parent="all"), a_group("all", schedule=always)), now=at(NOON, **unknown)
            ),
            "CLOCK_UNTRUSTED",
        ),
        ("holdover is good enough", lambda: ask(None, timed, now=at(NOON, quality=ClockQuality.HOLDOVER)), ""),
        (
            "a clock far before a proven moment never grants",
            lambda: ask(now=at(NOON, floor=NOON + drift + TICK)),
            "CLOCK_UNTRUSTED",
        ),
        (
            "a clock corrected by less than the drift goes on granting",
            lambda: ask(None, timed, now=at(NOON, floor=NOON + drift)),
            "",
        ),
        (
            "with an unknown clock a policy of another boot is at best stale",
            lambda: ask(online_only, now=at(NOON, boot="boot-2", **unknown)),
            "CACHE_STALE",
        ),
        (
            "but the age of one received in this boot is proven",
            lambda: ask(online_only, now=at(NOON, **unknown)),
            "",
        ),
        (
            "1970 never grants",
            lambda: ask(now=at(datetime(1970, 1, 1, tzinfo=UTC), **unknown)),
            "CLOCK_UNTRUSTED",
        ),
    ]


ROWS = [
    *token_rows(),
    *policy_rows(),
    *place_rows(),
    *usage_rows(),
    *clock_rows(),
    *FLEET_ROWS,
    *PRICE_ROWS,
    *LIVE_ROWS,
    *BUDGET_ROWS,
]


@pytest.mark.parametrize(("question", "reasons"), [pytest.param(row[1], row[2], id=row[0]) for row in ROWS])
def test_each_sentence_of_the_rules_holds(question: Any, reasons: str) -> None:
    decision = question()

    assert " ".join((*codes(decision), *(f"!{each.code}" for each in decision.warnings))) == reasons


WEDNESDAY, THURSDAY, FRIDAY, SATURDAY = 2, 3, 4, 5


@pytest.mark.parametrize(
    ("window", "moment", "inside"),
    [
        # window (Berlin, winter: UTC+1), UTC moment, inside?
        (a_window("08:00", "18:00", {WEDNESDAY}), utc(2027, 3, 10, 7, 0), True),
        (a_window("08:00", "18:00", {WEDNESDAY}), utc(2027, 3, 10, 6, 59, 59, 999999), False),
        (a_window("08:00", "18:00", {WEDNESDAY}), utc(2027, 3, 10, 16, 59, 59, 999999), True),
        (a_window("08:00", "18:00", {WEDNESDAY}), utc(2027, 3, 10, 17, 0), False),
        (a_window("08:00", "18:00", {THURSDAY}), utc(2027, 3, 10, 12, 0), False),
        (a_window("20:00", "24:00", {WEDNESDAY}), utc(2027, 3, 10, 22, 59, 59), True),
        (a_window("20:00", "24:00", {WEDNESDAY}), utc(2027, 3, 10, 23, 0), False),
        (a_window("00:00", "24:00", {WEDNESDAY}), utc(2027, 3, 9, 23, 0), True),
        (a_window("22:00", "06:00", {WEDNESDAY}), utc(2027, 3, 10, 21, 0), True),
        (a_window("22:00", "06:00", {WEDNESDAY}), utc(2027, 3, 11, 4, 59, 59), True),
        (a_window("22:00", "06:00", {WEDNESDAY}), utc(2027, 3, 11, 5, 0), False),
        (a_window("22:00", "06:00", {WEDNESDAY}), utc(2027, 3, 10, 4, 0), False),
        (a_window("22:00", "06:00", {6}), utc(2027, 3, 15, 1, 0), True),
        (a_window("22:00", "00:00", {WEDNESDAY}), utc(2027, 3, 10, 22, 30), True),
        (a_window("22:00", "00:00", {WEDNESDAY}), utc(2027, 3, 10, 23, 0), False),
        (a_window("08:00", "08:00"), utc(2027, 3, 10, 7, 0), False),
        (a_window("08:00", "08:00"), utc(2027, 3, 10, 12, 0), False),
        (a_window("08:00", "18:00", set()), utc(2027, 3, 10, 12, 0), False),
    ],
)
def test_a_window_is_half_open_in_local_time_and_belongs_to_the_day_it_starts(
    window: Any, moment: datetime, inside: bool
) -> None:
    decision = ask(None, a_policy(schedule=a_schedule(window)), now=at(moment))

    assert isinstance(decision, Granted) is inside
    assert codes(decision) == (() if inside else ("TIME_WINDOW",))


def test_a_schedule_without_windows_refuses() -> None:
    assert codes(ask(None, a_policy(schedule=a_schedule()))) == ("TIME_WINDOW",)


def test_any_window_of_a_level_will_do() -> None:
    schedule = a_schedule(a_window("01:00", "02:00"), a_window("12:00", "14:00"))

    assert isinstance(ask(None, a_policy(schedule=schedule)), Granted)


# Each zone's two transitions of 2027 as UTC instants, with the local hour that is skipped or comes twice.
TRANSITIONS = [
    ("Europe/Berlin", "gap", utc(2027, 3, 28, 1, 0), "02:00", "03:00"),
    ("Europe/Berlin", "fold", utc(2027, 10, 31, 1, 0), "02:00", "03:00"),
    ("Europe/London", "gap", utc(2027, 3, 28, 1, 0), "01:00", "02:00"),
    ("Europe/London", "fold", utc(2027, 10, 31, 1, 0), "01:00", "02:00"),
    ("America/New_York", "gap", utc(2027, 3, 14, 7, 0), "02:00", "03:00"),
    ("America/New_York", "fold", utc(2027, 11, 7, 6, 0), "01:00", "02:00"),
    ("Australia/Lord_Howe", "gap", utc(2027, 10, 2, 15, 30), "02:00", "02:30"),
    ("Australia/Lord_Howe", "fold", utc(2027, 4, 3, 15, 0), "01:30", "02:00"),
]
SHAPES = ["plain", "wrapping", "ending 24:00", "inside the transition"]


def open_minutes(window: Any, zone: str, around: datetime) -> int:
    """For how many minutes of the 60 hours around the transition the window is open, counted in UTC."""
    schedule = a_schedule(window, zone=zone)
    start = around - timedelta(hours=30)
    return sum(rules.opens(schedule, start + timedelta(minutes=minute)) for minute in range(60 * 60))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("zone", "kind", "moment", "first", "last"), TRANSITIONS)
def test_a_day_of_summer_time_shortens_or_lengthens_a_window_by_what_the_clock_does(
    zone: str, kind: str, moment: datetime, first: str, last: str, shape: str
) -> None:
    day = {(moment.astimezone(a_schedule(zone=zone).zone) - SECOND).weekday()}
    transition = a_window(first, last, day)
    step = transition.end_minute - transition.start_minute
    change = -step if kind == "gap" else step
    window, length = {
        "plain": (a_window("00:30", "06:00", day), 330 + change),
        "wrapping": (a_window("22:00", "06:00", {(each - 1) % 7 for each in day}), 480 + change),
        "ending 24:00": (a_window("12:00", "24:00", day), 720),
        "inside the transition": (transition, step + change),
    }[shape]

    assert open_minutes(window, zone, moment) == length


def two_levels(**changes: Any) -> Any:
    """A child that says nothing below a parent that says something, and the other way round."""
    return [
        a_policy(a_group(parent="all"), a_group("all", **changes)),
        a_policy(a_group(parent="all", **changes), a_group("all")),
    ]


NARROWINGS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("networks", {"networks": {"DE*ABC", "DE*XYZ"}}, {"networks": {"DE*XYZ"}}, "NETWORK"),
    ("countries", {"countries": {"DE", "FR"}}, {"countries": {"FR"}}, "COUNTRY"),
    (
        "schedule",
        {"schedule": a_schedule(a_window("00:00", "24:00"))},
        {"schedule": a_schedule(a_window("01:00", "02:00"))},
        "TIME_WINDOW",
    ),
    (
        "max_sessions_per_token",
        {"max_sessions_per_token": 5},
        {"max_sessions_per_token": 1},
        "CONCURRENT_SESSION",
    ),
    (
        "max_sessions_per_vehicle",
        {"max_sessions_per_vehicle": 5},
        {"max_sessions_per_vehicle": 1},
        "CONCURRENT_SESSION",
    ),
]


@pytest.mark.parametrize(("field", "wide", "narrow", "code"), NARROWINGS, ids=[row[0] for row in NARROWINGS])
def test_every_level_must_agree(field: str, wide: dict[str, Any], narrow: dict[str, Any], code: str) -> None:
    usage = Usage(sessions_of_token=("s1",), sessions_of_vehicle=("s1",)) if "sessions" in field else Usage()
    generous = {name: 9 for name in ("max_sessions_per_token", "max_sessions_per_vehicle") if name != field}

    def both(child: dict[str, Any], parent: dict[str, Any]) -> Any:
        levels = (a_group(parent="all", **{**generous, **child}), a_group("all", **{**generous, **parent}))
        return ask(None, a_policy(*levels), usage=usage)

    assert codes(both(wide, wide)) == ()
    assert codes(both(narrow, wide)) == (code,)
    assert codes(both(wide, narrow)) == (code,)
    assert set(codes(both(narrow, narrow))) == {code}


def test_the_narrowest_energy_cap_of_every_level_counts() -> None:
    policy = a_policy(
        a_group(parent="region", max_energy_wh=30_000),
        a_group("region", parent="all"),
        a_group("all", max_energy_wh=20_000),
    )

    decision = ask(None, policy)

    assert isinstance(decision, Granted)
    assert decision.limits.max_energy_wh == 20_000


def test_missing_data_may_leave_a_stated_limit() -> None:
    little = {rules.Kind.NETWORKS: Lenience(effect=rules.Effect.WARN, max_energy_wh=5_000)}
    policy = a_policy(a_group(networks={"DE*ABC"}, missing=little, max_energy_wh=30_000))

    unknown, known = (ask(a_request(place=a_place(network=each)), policy) for each in (None, "DE*ABC"))

    assert [reason.code for reason in unknown.warnings] == [ReasonCode.NETWORK]
    assert isinstance(unknown, Granted)
    assert unknown.limits.max_energy_wh == 5_000
    assert isinstance(known, Granted)
    assert known.limits.max_energy_wh == 30_000


def test_the_group_that_objects_is_named() -> None:
    policy = a_policy(a_group(parent="all", networks={"DE*XYZ"}), a_group("all", networks={"NL*XYZ"}))

    decision = ask(None, policy)

    assert isinstance(decision, Refused)
    assert [reason.group for reason in decision.reasons] == ["all", "drivers"]
    assert [reason.limit for reason in decision.reasons] == ["NL*XYZ", "DE*XYZ"]
    assert {reason.observed for reason in decision.reasons} == {"DE*ABC"}


def test_missing_data_is_marked_as_missing() -> None:
    decision = ask(a_request(place=Place()), a_policy(networks={"DE*ABC"}, countries={"DE"}))

    assert isinstance(decision, Refused)
    assert [(reason.code, reason.missing) for reason in decision.reasons] == [("NETWORK", True), ("COUNTRY", True)]


def test_every_rule_says_what_missing_data_means_and_by_itself_few_let_it_pass() -> None:
    lenient = {rule.name: rule.when_missing.value for rule in rules.RULES if rule.when_missing is not rules.Effect.DENY}

    assert lenient == {
        "backend_agrees": "warn",
        "site_preferred": "warn",
        "place_sure": "warn",
        "calendar_current": "warn",
        "connector_allowed": "warn",
        "power_within": "warn",
        "session_affordable": "warn",
        "budget_known": "warn",
        "energy_metered": "warn",
        "battery_needs_it": "warn",
    }
    assert len({rule.name for rule in rules.RULES}) == len(rules.RULES)


def test_every_reason_has_a_row_above() -> None:
    told = {code.strip("!") for row in ROWS for code in row[2].split()}
    assert told | {"TIME_WINDOW"} == {code.value for code in ReasonCode}


@pytest.mark.parametrize("code", ReasonCode)
def test_every_reason_has_a_status_in_each_protocol(code: ReasonCode) -> None:
    status = statuses_of((Reason(code=code, rule="any"),))

    no_token_for_ocpi = {  # error 2004
        *(ReasonCode.TOKEN_UNKNOWN, ReasonCode.TOKEN_RANDOM_UID, ReasonCode.TOKEN_AMBIGUOUS, ReasonCode.NO_POLICY),
        *(ReasonCode.CARD_NOT_GENUINE, ReasonCode.PHONE),
    }
    assert status.ocpi in ({""} if code in no_token_for_ocpi else {"BLOCKED", "EXPIRED", "NO_CREDIT", "NOT_ALLOWED"})
    assert status.ocpp16 in {"Blocked", "Expired", "Invalid", "ConcurrentTx"}
    assert status.ocpp201 in {
        *("Blocked", "ConcurrentTx", "Expired", "Invalid", "NoCredit", "NotAllowedTypeEVSE"),
        *("NotAtThisLocation", "NotAtThisTime", "Unknown"),
    }
    assert status.oicp in {"021", "102", "106", "200", "210", "310", "602"}
    assert status != ACCEPTED


@pytest.mark.parametrize("language", ["en", "de", "fr", "nl"])
def test_every_reason_has_words_in_every_language(language: str) -> None:
    said = {code: texts.refusal_text((Reason(code=code, rule="any"),), language) for code in ReasonCode}

    assert all(said.values())
    assert len(set(said.values())) == len(said)
    assert language == "en" or all(
        said[code] != texts.refusal_text((Reason(code=code, rule=""),), "en") for code in said
    )
    for phrase in (texts.GRANTED, texts.BY_OVERRIDE, texts.ASKING, texts.STOPPING, texts.NOT_RECORDED):
        assert phrase[language]


def test_a_language_that_nobody_wrote_falls_back_to_english() -> None:
    assert texts.refusal_text((Reason(code=ReasonCode.NETWORK, rule="any"),), "tlh") == "Network not allowed"


def test_the_most_severe_reason_is_told_and_the_others_are_counted() -> None:
    reasons = by_severity(Reason(code=code, rule="any") for code in ReasonCode)

    assert texts.refusal_text(reasons, "en") == f"Card withdrawn (+{len(ReasonCode) - 1})"


def test_severity_is_a_total_order_blocked_expired_place_time_type_other() -> None:
    ranked = [reason.code for reason in by_severity(Reason(code=code, rule="any") for code in reversed(ReasonCode))]

    assert ranked == list(TABLE)
    assert set(ranked) == set(ReasonCode)
    kinds = [TABLE[code].ocpp201 for code in ranked]
    types = ("Blocked", "Expired", "NotAtThisLocation", "NotAtThisTime", "NotAllowedTypeEVSE")
    places = [kinds.index(kind) for kind in types]
    assert places == sorted(places)
    assert kinds.count("Invalid") == len([kind for kind in kinds[max(places) :] if kind == "Invalid"]) + 1  # NO_POLICY
