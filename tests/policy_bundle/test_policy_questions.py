"""`roamkey policy show`, `explain` and `replay`: what binds a card, a made-up question, the past asked again."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from agent.core.credentials import reference
from agent.core.effects import Record
from agent.core.facts import DecisionMade, JournalOpened, Outcome
from agent.core.instants import Instant
from agent.core.observations import Presented
from agent.core.reasons import Reason, ReasonCode
from agent.core.rules import RULES
from agent.fleet.source import read_folder
from agent.fleet.trial import policy_of
from agent.wire import GENESIS, hash_of, seal
from tests.core.builders import Yard, a_place, a_setup, an_agent, an_instant

POLICY = """\
stale_after_hours = 12
[groups.fleet]
networks = ["DE*ABC", "NL*XYZ"]
max_energy_wh = 60000
[groups.fleet.prices]
currency = "EUR"
basis = "gross"
per_kwh = 0.60
[groups.vans]
parent = "fleet"
networks = ["DE*ABC"]
max_energy_wh = 80000
[groups.vans.prices]
currency = "EUR"
basis = "gross"
per_kwh = 0.50
[groups.vans.schedule]
zone = "Europe/Berlin"
windows = [{ days = ["mon", "tue", "wed", "thu", "fri"], start = "06:00", end = "22:00" }]
[groups.locked]
parent = "fleet"
prompts = ["pin"]
"""
UIDS = {"card 1": "04A1B2C3D4E5F6", "card 2": "04A1B2C3D4E5F7", "card 3": "04A1B2C3D4E5F8"}
SOURCE = {
    "policy.toml": POLICY,
    "drivers.toml": '[drivers.anna]\nlanguage = "de"\npin = "4711"\n',
    "vehicles.toml": "[vehicles.van-7]\n",
    "tokens.csv": "uid,label,group,driver,vehicle,status\n"
    f"{UIDS['card 1']},card 1,vans,anna,van-7,\n{UIDS['card 2']},card 2,locked,anna,,\n"
    f"{UIDS['card 3']},card 3,fleet,,,blocked\n",
}
BUDGET = (
    '[budgets.vans]\nscope = "fleet"\nenergy_wh = 90000\nenergy_wh_per_session = 5000\nperiod = "month"\nzone = "UTC"\n'
)
KEY = bytes(range(32))
WEDNESDAY = datetime(2027, 3, 10, 12, tzinfo=UTC)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for name, text in SOURCE.items():
        (folder / name).write_text(text, encoding="utf-8")
    (tmp_path / "token.key").write_text(KEY.hex() + "\n")
    return folder


def told(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main(["policy", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


# show


def test_each_limit_names_the_line_that_it_is_from(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = {each["limit"]: each for each in told(capsys, "show", str(source), "--for", "card 1")["limits"]}

    def of(name: str) -> tuple[str, list[tuple[str, int]], list[tuple[str, int]]]:
        each = limits[name]
        sides = ([(one["group"], one["line"]) for one in each[side]] for side in ("origins", "outweighed"))
        return (each["value"], *sides)

    assert of("networks") == ("DEABC", [("vans", 11), ("fleet", 3)], [])
    assert of("max_energy_wh") == ("60000", [("fleet", 4)], [("vans", 12)])
    assert of("prices.per_kwh") == ("0.50 EUR/kWh gross", [("vans", 16)], [("fleet", 8)])
    assert of("schedule") == ("Mon,Tue,Wed,Thu,Fri 06:00-22:00 Europe/Berlin", [("vans", 17)], [])
    assert of("max_sessions_per_token") == ("1", [("by default", None)], [])
    assert of("stale_after_hours") == ("12", [("policy", 1)], [])
    assert of("expired_after_hours")[:2] == ("168", [("by default", None)])
    assert (limits["card driver"]["value"], limits["card driver"]["origins"][0]["line"]) == ("anna", 2)


@pytest.mark.parametrize("name", ["04:a1:b2:c3:d4:e5:f6", "card 1"])
def test_a_card_is_found_by_its_number_or_label(source: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["policy", "show", str(source), "--for", name]) == 0
    assert "card 1, group vans" in capsys.readouterr().out


def test_a_card_that_is_not_there_is_told_with_the_nearest(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "show", str(source), "--for", "cart 1"]) == 65
    assert "did you mean 'card 1'?" in capsys.readouterr().err
    (source / "tokens.csv").write_text(SOURCE["tokens.csv"].replace("card 2", "card 1"))
    assert main(["policy", "show", str(source), "--for", "card 1"]) == 65
    assert "2 cards are called 'card 1' (tokens.csv:2, tokens.csv:3)" in capsys.readouterr().err
    assert main(["policy", "show", str(source), "--group", "vens"]) == 65


def test_nothing_is_said_of_a_policy_that_is_not_sound(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "policy.toml").write_text(POLICY.replace("parent", "parnt"))
    assert main(["policy", "show", str(source), "--group", "vans"]) == 65
    assert "policy.toml:10: groups.vans.parnt: unknown key" in capsys.readouterr().err


# explain

QUESTION = """\
token = "card 1"
time = 2027-03-10T12:00:00Z
[place]
network = "DE*ABC"
[prices]
currency = "EUR"
basis = "gross"
per_kwh = 0.45
"""


def explained(source: Path, capsys: pytest.CaptureFixture[str], question: str, name: str = "question.toml") -> Any:
    (source.parent / name).write_text(question, encoding="utf-8")
    return told(capsys, "explain", str(source), "--request", str(source.parent / name))


def test_a_question_is_decided_with_every_rule(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    granted = explained(source, capsys, QUESTION)
    assert (granted["outcome"], granted["limits"]["max_energy_wh"], granted["text"]) == (
        "granted",
        60000,
        "Laden erlaubt",
    )
    assert [each["rule"] for each in granted["rules"]] == [rule.name for rule in RULES]

    refused = explained(
        source, capsys, QUESTION.replace("DE*ABC", "NL*XYZ").replace("T12", "T23").replace("0.45", "0.55")
    )

    assert [each["code"] for each in refused["reasons"]] == ["NETWORK", "TIME_WINDOW", "PRICE_CAP"]
    assert refused["reasons"][2] | {"missing": False} == {
        "code": "PRICE_CAP",
        "rule": "price_within",
        "observed": "0.55 EUR/kWh gross",
        "limit": "0.50 EUR/kWh gross",
        "group": "vans",
        "missing": False,
    }
    assert refused["text"] == "Netz nicht erlaubt (+2)"
    assert refused["peers"]["OCPP 2.0.1"] == "NotAtThisLocation"
    objecting = {each["rule"] for each in refused["rules"] if each["objections"]}
    assert {"network_allowed", "inside_window", "price_within"} <= objecting


def test_a_question_may_be_yaml_or_json_and_says_the_same(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = explained(source, capsys, QUESTION)
    yaml = "token: card 1\ntime: 2027-03-10T12:00:00Z\nplace: {network: DE*ABC}\nprices: {currency: EUR, basis: gross, "
    yaml += "per_kwh: 0.45}\n"
    text = '{"token": "card 1", "time": "2027-03-10T12:00:00Z", "place": {"network": "DE*ABC"}, "prices": %s}'
    made = text % '{"currency": "EUR", "basis": "gross", "per_kwh": 0.45}'
    assert toml == explained(source, capsys, yaml, "q.yaml") == explained(source, capsys, made, "q.json")


@pytest.mark.parametrize(
    ("more", "outcome", "codes"),
    [
        ('pin = "4711"', "granted", []),
        ('pin = "4712"', "needs_input", ["PIN"]),
        ("", "needs_input", ["PIN"]),
        ('pin = "4711"\nusage = { wrong_pins = 5 }', "granted", []),
        ("usage = { wrong_pins = 5 }", "refused", ["PIN_LOCKED"]),
        ("policy_age_hours = 200", "refused", ["POLICY_EXPIRED"]),
        ('assurance = "random"', "refused", ["TOKEN_RANDOM_UID"]),
        ("several_cards = true", "refused", ["SEVERAL_CARDS"]),
    ],
)
def test_what_a_question_says_is_what_is_asked(
    source: Path, capsys: pytest.CaptureFixture[str], more: str, outcome: str, codes: list[str]
) -> None:
    decided = explained(source, capsys, QUESTION.replace("card 1", "card 2").replace("time", f"{more}\ntime"))
    assert decided["outcome"] == outcome
    assert set(codes) <= {each["code"] for each in decided["reasons"]}


def test_an_unknown_card_and_a_blocked_one_are_refused(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, code in (("unknown", "TOKEN_UNKNOWN"), ("card 3", "TOKEN_BLOCKED")):
        assert explained(source, capsys, QUESTION.replace("card 1", name))["reasons"][0]["code"] == code


def test_a_question_that_cannot_be_read_is_told_with_its_line(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source.parent / "q.toml").write_text(QUESTION.replace("network", "netwrk").replace("12:00:00Z", "12:00:00"))
    assert main(["policy", "explain", str(source), "--request", str(source.parent / "q.toml")]) == 65
    complaint = capsys.readouterr().err
    assert "q.toml:4: place.netwrk: unknown key, did you mean 'network'?" in complaint
    assert "q.toml:2: time: " in complaint


# replay


@dataclass(kw_only=True)
class Logged(Yard):
    """A yard whose facts are sealed as a device seals them."""

    bodies: list[bytes] = field(default_factory=list)

    def tell(self, observation: Any) -> Any:
        effects = super().tell(observation)
        for effect in effects:
            for fact in effect.facts if isinstance(effect, Record) else ():
                self.seals(fact)
        return effects

    def seals(self, fact: Any) -> None:
        previous = hash_of(self.bodies[-1]) if self.bodies else GENESIS
        body = seal(
            fact,
            sequence=len(self.bodies) + 1,
            previous=previous,
            journal="5b6f0c1e-0000-7000-8000-000000000001",
            source="/fleets/meadow/devices/van-7",
            now=self.now,
        )
        self.bodies.append(body)

    def look_up(self, uid: str) -> Presented:
        found = super().look_up(uid)
        token = self.tokens.get(uid)
        credential = replace(found.credential, reference=reference(KEY, uid))
        return replace(found, credential=credential, token=token)


def a_day(source: Path) -> Logged:
    """Cards tapped under the policy of the folder, as the machine itself decides and records it."""
    now: Instant = an_instant(WEDNESDAY)
    read = read_folder(source, issued=WEDNESDAY, token_key=KEY)
    assert read.contents is not None
    policy = policy_of(read.contents, now, age=timedelta(hours=1))
    setup = a_setup(chargers={"bay": a_place(), "yard": a_place(network="NL*XYZ", evse="NL*XYZ*E2", country="NL")})
    yard = Logged(agent=an_agent(policy, readers=setup.readers, chargers=setup.chargers), now=now)
    yard.seals(JournalOpened(reason="created", predecessor=None, salvaged=None))
    by_reference = {reference(KEY, uid): uid for uid in UIDS.values()}
    yard.tokens = {by_reference[each.reference]: each for each in read.tokens.values()}
    yard.tokens["04FFFFFFFFFFFF"] = None
    for hours in range(0, 16, 5):
        yard.passes(hours=hours)
        for uid in (*UIDS.values(), "04FFFFFFFFFFFF"):
            for reader in ("door", "gate"):
                yard.taps(uid, reader=reader)
                if yard.agent.state.open_sessions:
                    yard.started(yard.session, 1000, charger=yard.session.charger)
                    yard.passes(minutes=1)
                    yard.stopped(2000, yard.session, charger=yard.session.charger)
                    yard.unplugs(charger=yard.session.charger)
    return yard


def replayed(source: Path, bodies: list[bytes], capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    lines = source.parent / "journal.jsonl"
    lines.write_bytes(b"\n".join(bodies) + b"\n")
    key = str(source.parent / "token.key")
    made: dict[str, Any] = told(capsys, "replay", str(source), "--against", str(lines), "--token-key", key, *more)
    return made


def without_prices(source: Path) -> None:
    """The yard's chargers tell no prices, and the caps would refuse everything."""
    text = "\n".join(
        line
        for line in POLICY.splitlines()
        if not line.startswith(("[groups.fleet.prices]", "[groups.vans.prices]", "currency", "basis", "per_kwh"))
    )
    (source / "policy.toml").write_text(text)


def test_the_same_policy_changes_nothing_of_the_past(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without_prices(source)
    yard = a_day(source)

    report = replayed(source, yard.bodies, capsys)

    outcomes = Counter(fact.outcome.value for fact in yard.told(DecisionMade))
    assert report["decisions"] == sum(outcomes.values()) == 32
    assert min(outcomes["granted"], outcomes["refused"], outcomes["needs_input"]) > 0
    assert (report["changed"], report["other_reasons"], report["unreadable"]) == (0, 0, 0)
    assert report["changes"] == [
        {"before": outcome, "after": outcome, "count": count} for outcome, count in sorted(outcomes.items())
    ]


def test_a_narrower_policy_names_what_it_would_have_refused(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without_prices(source)
    yard = a_day(source)
    granted = sum(fact.outcome == "granted" for fact in yard.told(DecisionMade))
    before = {path: path.read_bytes() for path in source.iterdir()}
    (source / "policy.toml").write_text((source / "policy.toml").read_text().replace('["DE*ABC"]', '["NL*XYZ"]'))

    report = replayed(source, yard.bodies, capsys)

    assert report["changed"] == sum(each["count"] for each in report["changes"] if each["before"] != each["after"])
    assert {"before": "granted", "after": "refused", "count": granted} in report["changes"]
    first = next(each for each in report["replayed"] if each["before"]["outcome"] == "granted")
    assert first["card"] == "card 1"
    assert first["after"]["codes"] == ["NETWORK"]
    assert (first["reasons"][0]["observed"], first["reasons"][0]["limit"]) == ("DE*ABC", "NLXYZ")
    assert "METER" in first["gaps"]  # the record does not say whether the charger has a meter
    assert [each for each in report["replayed"] if each["before"]["codes"] != each["after"]["codes"]] == report[
        "replayed"
    ]
    assert all(path.read_bytes() == body for path, body in before.items() if path.name != "policy.toml")


def test_the_past_counts_how_often_a_card_came(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without_prices(source)
    yard = a_day(source)
    (source / "policy.toml").write_text(
        (source / "policy.toml")
        .read_text()
        .replace("[groups.vans]", "[groups.vans]\nvelocity = { sessions = 1, window_s = 86400 }")
    )

    report = replayed(source, yard.bodies, capsys)

    changed = [each for each in report["replayed"] if each["before"]["outcome"] == "granted"]
    assert changed
    assert all(each["after"]["codes"] == ["VELOCITY"] for each in changed)
    assert all("HISTORY" not in each["gaps"] for each in changed)  # the journal begins with the device
    later = replayed(source, yard.bodies[3:], capsys)
    assert {gap["gap"] for gap in later["assumed"] if gap["count"]} >= {"HISTORY"}


def test_another_reference_key_is_told_and_not_taken_for_a_change_of_policy(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without_prices(source)
    yard = a_day(source)
    (source.parent / "token.key").write_text("00" * 32)

    report = replayed(source, yard.bodies, capsys)

    known = [each for each in report["replayed"] if each["card"].startswith("card")]
    assert known
    assert all(each["gaps"] == ["CARD"] for each in known)


def test_an_exported_journal_is_read_as_well_and_not_touched(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from agent.journal import Journal

    without_prices(source)
    now = an_instant(WEDNESDAY)
    with Journal.open(tmp_path / "state", source="/fleets/meadow/devices/van-7", now=now) as journal:
        for fact in a_day(source).told(DecisionMade):
            journal.append([(fact, now)])
        journal.export(tmp_path / "copy.db")
    before = (tmp_path / "copy.db").read_bytes()
    key = str(tmp_path / "token.key")
    words = ["policy", "replay", str(source), "--against", str(tmp_path / "copy.db"), "--token-key", key]

    assert main(words) == 0

    assert "32 decisions" in capsys.readouterr().out
    assert (tmp_path / "copy.db").read_bytes() == before


def test_what_is_no_journal_is_told(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = replayed(source, [b"junk", b"{}"], capsys)
    assert (report["decisions"], report["unreadable"]) == (0, 2)


def test_what_budgets_said_then_is_taken_and_told(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without_prices(source)
    yard = a_day(source)
    granted = next(fact for fact in yard.told(DecisionMade) if fact.outcome == "granted")
    empty = Reason(code=ReasonCode.LEASE_EMPTY, rule="within_budget", observed="0 Wh", limit="5000 Wh")
    yard.bodies.clear()
    yard.seals(JournalOpened(reason="created", predecessor=None, salvaged=None))
    yard.seals(replace(granted, outcome=Outcome.REFUSED, reasons=(empty,)))
    yard.now = replace(yard.now, utc=WEDNESDAY)

    (now_granted,) = replayed(source, yard.bodies, capsys, "--all")["replayed"]
    text = (source / "policy.toml").read_text()
    (source / "policy.toml").write_text(f"{text}\n{BUDGET}")
    (as_then,) = replayed(source, yard.bodies, capsys, "--all")["replayed"]

    assert (now_granted["after"]["codes"], "BUDGET" in now_granted["gaps"]) == ([], False)
    assert "LEASE_EMPTY" in as_then["after"]["codes"]
    assert (as_then["after"]["outcome"], "BUDGET" in as_then["gaps"]) == ("refused", True)
