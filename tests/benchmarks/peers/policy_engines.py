"""Policy engines of others, asked the same as ours; runs in an environment of its own (make peers).

    python policy_engines.py CASES.json       then one engine's name a line on stdin, one JSON answer a line on stdout

Each engine gets what suits it best: policies parsed beforehand, groups as parsed entities, windows already turned into
local minutes, and nothing but a yes or no wanted where naming every reason would cost it more. Values are never
missing here: Cedar skips a rule whose data is missing, and so grants.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from typing import Any

Ask = Callable[[dict[str, Any]], bool]

# Rule by rule as the house has them: name, and when it refuses, over token t, group g and question q. CEL's syntax.
RULES = {
    "token_active": 't.status != "active"',
    "token_begun": "q.now < t.not_before",
    "token_ended": "q.now >= t.until",
    "network_allowed": "!(q.network in g.networks)",
    "country_allowed": "!(q.country in g.countries)",
    "site_allowed": "q.site in g.denied_sites",
    "connector_allowed": "!(q.connector in g.connectors)",
    "inside_weekday": "!(q.weekday in g.weekdays)",
    "after_start": "q.minute < g.start",
    "before_end": "q.minute >= g.end",
    "power_within": "q.power_w > g.max_power_w",
    "price_within": "q.price > g.max_price",
    "battery_needs_it": "q.soc >= g.max_soc",
    "not_concurrent": "q.running >= g.max_running",
    "not_too_often": "q.recent >= g.max_recent",
    "not_expired": "q.age_s > q.expired_after_s",
    "not_stale": "q.age_s > q.stale_after_s && !t.offline",
}


def cedar(groups: dict[str, Any]) -> Ask:
    """One `forbid` a rule, so that every reason is named. The groups are parsed once; the token comes as context."""
    import cedarpy

    forbidden = []
    for name, refuses in RULES.items():
        words = re.sub(r"q\.(\w+) in g\.(\w+)", r"g.\2.contains(q.\1)", refuses)
        for variable, path in (("g", "principal."), ("q", "context."), ("t", "context.token_")):
            words = re.sub(rf"\b{variable}\.", path, words)
        forbidden.append(f'@id("{name}") forbid(principal, action, resource) when {{ {words} }};')
    policies = cedarpy.PolicySet.from_str("permit(principal, action, resource);\n" + "\n".join(forbidden))
    named = ({"uid": {"type": "G", "id": name}, "attrs": group, "parents": []} for name, group in groups.items())
    entities = cedarpy.Entities.from_json_str(json.dumps(list(named)))
    action, resource = {"type": "A", "id": "charge"}, {"type": "E", "id": "evse"}

    def ask(case: dict[str, Any]) -> bool:
        token = case["t"]
        request = {
            "principal": {"type": "G", "id": token["group"]},
            "action": action,
            "resource": resource,
            "context": {
                **case["q"],
                "token_status": token["status"],
                "token_not_before": token["not_before"],
                "token_until": token["until"],
                "token_offline": token["offline"],
            },
        }
        return cedarpy.is_authorized(request, policies, entities).allowed

    return ask


def common_expression_language(groups: dict[str, Any]) -> Ask:
    """One expression, which ends at the first reason: naming all of them would take one evaluation each."""
    import cel

    program = cel.compile(" && ".join(f"!({each})" for each in RULES.values()))

    def ask(case: dict[str, Any]) -> bool:
        return bool(program.execute({"q": case["q"], "t": case["t"], "g": groups[case["t"]["group"]]}))

    return ask


def casbin(groups: dict[str, Any]) -> Ask:
    """Attributes in the matcher (ABAC); it ends at the first reason."""
    import casbin as library
    from casbin.model import Model

    class Record:
        def __init__(self, fields: dict[str, Any]) -> None:
            self.__dict__.update(fields)

    model = Model()
    matcher = " && ".join(f"!({each})" for each in RULES.values())
    matcher = re.sub(r"\b([qtg])\.", r"r.\1.", matcher)
    model.add_def("r", "r", "q, t, g")
    model.add_def("p", "p", "any")
    model.add_def("e", "e", "some(where (p.eft == allow))")
    model.add_def("m", "m", matcher)
    enforcer = library.Enforcer(model)
    enforcer.add_policy("any")
    records = {name: Record(group) for name, group in groups.items()}

    def ask(case: dict[str, Any]) -> bool:
        return bool(enforcer.enforce(Record(case["q"]), Record(case["t"]), records[case["t"]["group"]]))

    return ask


ENGINES: dict[str, Callable[[dict[str, Any]], Ask]] = {
    "cedarpy": cedar,
    "common-expression-language": common_expression_language,
    "pycasbin": casbin,
}


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        told = json.load(file)
    groups, cases = told["groups"], told["cases"]
    engines: dict[str, Ask] = {}
    for line in sys.stdin:
        name, _, count = line.strip().partition(" ")
        if name not in engines:
            engines[name] = ENGINES[name](groups)
            for case in cases[:50]:
                engines[name](case)
        ask, verdicts, taken_ns = engines[name], [], []
        for case in cases[: int(count)]:
            began = time.perf_counter_ns()
            verdict = ask(case)
            taken_ns.append(time.perf_counter_ns() - began)
            verdicts.append(verdict)
        print(json.dumps({"verdicts": verdicts, "taken_ns": taken_ns}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
