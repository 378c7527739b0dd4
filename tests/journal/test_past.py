"""What is remembered over a restart comes from the journal's newest records."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from agent.core.facts import AgentStopped, ContractClosed, ContractOpened, PinTried, SessionSigned, UseEnd
from agent.core.pins import Pin
from agent.core.sessions import Phase
from agent.past import ended_lately, history_of
from tests.journal.samples import CARD, MORNING, an_instant, at, authorised, ended, metered, open_journal, started


def test_ended_sessions_are_visits_of_their_card(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        journal.append(at(authorised(), started(), ended(), replace(ended("s-2"), started=False)))

        history = history_of(journal)

    (visit,) = history.of(CARD.reference)
    assert (visit.began, visit.ended - visit.began) == (MORNING, timedelta(hours=1, microseconds=500))
    assert history.since is None  # a journal that replaces none


def test_wrong_pins_and_odometers_are_remembered(tmp_path: Path) -> None:
    tries = [PinTried(driver="anna", salt="5a", right=right) for right in (False, True, False, False)]
    with open_journal(tmp_path) as journal:
        journal.append(at(*tries, replace(authorised(), odometer_km=120_000)))

        history = history_of(journal)

    assert history.wrong_in_a_row("anna", Pin(salt="5a", hash="")) == 2
    assert history.odometers_km == {"v-12": 120_000}


def test_contracts_in_use_are_remembered_until_their_end(tmp_path: Path) -> None:
    opened = [
        ContractOpened(
            decision=name, credential=CARD, vehicle="VAN-7", opened_at=MORNING, boot=an_instant().boot,
            monotonic_ms=an_instant().monotonic_ms, lasts_s=3600,
        )
        for name in ("open", "ended", "never")
    ]  # fmt: skip
    closed = [ContractClosed(decision="ended", reason=UseEnd.ENDED),
              ContractClosed(decision="never", reason=UseEnd.STORAGE)]  # fmt: skip
    with open_journal(tmp_path) as journal:
        journal.append(at(*opened, *closed))

        history = history_of(journal)

    assert [each.decision for each in history.open_uses(an_instant())] == ["open"]
    assert [visit.began for visit in history.past_uses_of(CARD.reference, an_instant())] == [MORNING]


def test_a_journal_that_replaces_another_knows_nothing_of_before(tmp_path: Path) -> None:
    with open_journal(tmp_path / "a") as journal:
        journal.append(at(AgentStopped(open_sessions=0)))
    (tmp_path / "a" / "journal.db").write_bytes(b"no database" * 1_000)
    later = an_instant(MORNING + timedelta(days=1))

    with open_journal(tmp_path / "a", now=later) as journal:
        assert history_of(journal).since == later.utc


def test_the_sessions_that_ended_last_are_known_again_with_the_meter_records_they_have(tmp_path: Path) -> None:
    signed = SessionSigned(
        session="s-1", charger="left", format="OCMF", sha256="ab", part=1, parts=1, text="OCMF|{}|{}"
    )
    with open_journal(tmp_path) as journal:
        journal.append(at(authorised(), started(), metered(), ended(), signed, signed))
        journal.append(at(authorised("s-2"), started("s-2")))

        found = ended_lately(journal)

    assert [(session.id, session.phase, session.signed) for session in found] == [("s-1", Phase.ENDED, ("ab",))]
