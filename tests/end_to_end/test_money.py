"""A session with a price through the whole service: shown as it runs, the same after a kill, proven and exported."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal

import pytest

from agent.demo.fleet import DORA
from tests.end_to_end.premises import FleetOffice, built_premises, good, roamkey, until
from tests.tariffs.test_ocmf import a_payload, der, signed

pytestmark = pytest.mark.slow

TARIFF = (
    '{"country_code":"DE","party_id":"ABC","id":"T1","currency":"EUR","elements":[{"price_components":['
    '{"type":"FLAT","price":1.00,"vat":25,"step_size":1},{"type":"ENERGY","price":0.40,"vat":25,"step_size":1}]}]}'
)


def test_a_priced_session_is_shown_survives_a_kill_is_proven_and_leaves_for_settlement(
    office: FleetOffice, tmp_path
) -> None:
    settings = "[sessions]\nmeter_record_every_s = 0.05\n"
    with built_premises(tmp_path / "van", office, settings=settings, bays=()) as van:
        van.start_ready()
        van.report("yard", "found", state="available", meter_wh=0)
        until("the yard's charger", lambda: van.reachable("yard"))
        (tmp_path / "tariff.json").write_text(TARIFF)
        tap = [
            "tap",
            "--reader",
            "door",
            "--uid",
            DORA.hex(),
            "--route",
            "tour 5",
            "--tariff",
            tmp_path / "tariff.json",
        ]
        session = json.loads(good(roamkey(*tap, "--json", "--socket", van.root / "api.sock")))["session"]
        van.report("yard", "started", session=session, meter_wh=1_000)
        van.report("yard", "metered", session=session, meter_wh=6_000, power_w=11_000)
        running = until_cost(van, "3.7500")
        assert (running["energy_wh"], running["cost"]["currency"]) == (5_000, "EUR")
        assert "3.7500 EUR" in good(roamkey("sessions", "--socket", van.root / "api.sock", COLUMNS="200"))
        assert "3.7500 EUR" in good(roamkey("status", "--socket", van.root / "api.sock", COLUMNS="200"))

        van.report("yard", "metered", session=session, meter_wh=6_000, power_w=11_000)
        until("a sample that is kept", van.has("session.metered"))
        van.service.kill()
        van.start_ready()
        until_cost(van, "3.7500")
        van.report("yard", "found", state="charging", session=session, meter_wh=6_000)
        van.report("yard", "stopped", session=session, meter_wh=11_000, reason="Local")
        until("the session has ended", lambda: van.status()["open_sessions"] == [])
        record = signed(a_payload())
        van.report("yard", "signed", session=session, signed=record.decode(), public_key=der().hex())
        until("the meter's record", lambda: bool(van.events("session.signed")))
        until("its checkpoint", lambda: van.events()[-1]["type"].endswith("checkpoint"))
        socket = ["--socket", van.root / "api.sock"]
        roamkey("evidence", session, *socket, "--out", tmp_path / "evidence.json")
        rows = list(csv.DictReader(io.StringIO(good(roamkey("settle", "export", *socket)))))
        van.stop()

    stopped = good(roamkey("settle", "export", "--state", van.state, "--format", "jsonl", "--lines")).splitlines()
    assert sorted(json.loads(line)["line_type"] for line in stopped) == ["ENERGY", "FLAT", "TIME"]
    assert not any(b"04A1B2C3D4E5F6" in body for body in van.sealed())
    (end,) = [each["data"] for each in van.events("session.ended")]
    assert end["cost"] == {"currency": "EUR", "net": "5.0000", "gross": "6.2500"}
    (row,) = rows
    assert (row["session"], Decimal(row["gross"]), row["route"]) == (session, Decimal("6.25"), "tour 5")
    judged = roamkey(
        "evidence", "--verify", tmp_path / "evidence.json", "--root", office.device_files / "root.json", "--json",
        "--device-key", van.state / "vault" / "device.jwk", "--token-key", office.device_files / "token.key",
    )  # fmt: skip
    checks = {each["check"]: each for each in json.loads(judged.stdout)["checks"]}
    assert checks["session"]["ok"], judged.stdout
    assert "VALID" in checks["meter"]["told"]
    assert b"04A1B2C3D4E5F6" not in (tmp_path / "evidence.json").read_bytes()


def until_cost(van, gross: str) -> dict:
    def shown() -> dict | None:
        (running,) = van.status()["open_sessions"]
        return running if running["cost"] is not None and running["cost"]["gross"] == gross else None

    until(f"a cost of {gross}", lambda: shown() is not None)
    found = shown()
    assert found is not None
    return found
