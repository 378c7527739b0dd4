"""How the demonstration looks: what a driver does, what the service made of it, and a table at the end."""

from __future__ import annotations

import time
from typing import Any, Protocol

from agent.cli import output
from agent.cli.tap import against
from agent.demo.verdict import Verdict


class Show(Protocol):
    def narrate(self, text: str) -> None: ...

    def record(self, event: dict[str, Any]) -> None: ...

    def curtain(self, verdict: Verdict) -> None: ...


class Silent:
    """For programs: the verdict is printed as JSON by the verb, and nothing else."""

    def narrate(self, text: str) -> None:
        pass

    def record(self, event: dict[str, Any]) -> None:
        pass

    def curtain(self, verdict: Verdict) -> None:
        pass


class Live:
    def __init__(self) -> None:
        self._console = output.console()
        self._began = time.monotonic()

    def narrate(self, text: str) -> None:
        self._console.print(f"[dim]{self._clock()}[/dim] [bold]{escape(text)}[/bold]")

    def record(self, event: dict[str, Any]) -> None:
        for line in lines_of(event):
            self._console.print(f"        [dim]#{event['sequence']:>3}[/dim]  {line}")

    def curtain(self, verdict: Verdict) -> None:
        rows = (
            ("taps", verdict.taps),
            ("decisions", f"{verdict.decisions}: {verdict.granted} granted, {verdict.refused} refused"),
            ("sessions", verdict.sessions),
            ("energy", f"{verdict.energy_wh / 1000:.3f} kWh"),
            ("records sealed", verdict.records_sealed),
            ("records delivered", verdict.records_stored),
            ("lost", verdict.lost),
            ("duplicated", f"{verdict.duplicated} stored twice ({verdict.duplicates_on_wire} came twice on the wire)"),
            ("chain", "verified on both sides" if verdict.chain_ok else "BROKEN"),
        )
        output.table("the day", ("what", "how it went"), rows)
        for problem in verdict.problems:
            self._console.print(f"[red]not as it should be: {escape(problem)}[/red]")

    def _clock(self) -> str:
        return f"{time.monotonic() - self._began:5.1f} s"


def lines_of(event: dict[str, Any]) -> list[str]:
    """What people want to see of a record; meter samples and checkpoints are left out."""
    data = event["data"]
    match event["type"].removeprefix("io.roamkey."):
        case "decision.made" if data["outcome"] == "granted":
            return [f"[green]GRANTED[/green] {escape(who(data))} at {escape(data['place'].get('evse', ''))}"]
        case "decision.made":
            reasons = [f"   {each['code']}: {escape(against(each))}" for each in data["reasons"]]
            return [f"[red]REFUSED[/red] {escape(who(data))}: {escape(data['text'])}", *reasons]
        case "session.ended":
            how = "" if data["complete"] else ", incomplete"
            resumed = ", survived a kill" if data["interrupted"] else ""
            energy = f"{data['energy_wh'] / 1000:.3f} kWh in {data['duration_s']} s"
            return [f"session ended: {energy}, {data['reason']}{how}{resumed}"]
        case "policy.activated":
            return [f"policy revision {data['revision']} is active, {data['tokens']} tokens"]
        case "session.started" | "session.interrupted" | "session.resumed" | "session.stop_requested" as kind:
            return [kind.replace("session.", "session ").replace("_", " ")]
        case "reader.found":
            return [f"reader {escape(data['reader'])}: {escape(data['model'])}"]
        case "agent.started":
            return [f"service started, {data['open_sessions']} sessions open"]
        case _:
            return []


def who(data: dict[str, Any]) -> str:
    holder = data["holder"]
    return str(holder.get("driver") or holder.get("label") or "an unknown card")


def escape(text: str) -> str:
    return text.replace("[", "\\[")
