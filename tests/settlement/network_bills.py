"""CDRs as a network sends them for the drives of fleet_days.py, and what it may get wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.settlement.fleet_days import Drive, ends


def a_cdr(drive: Drive, *, id: str | None = None, **changes: Any) -> dict[str, Any]:
    """In full agreement with what the fleet knows, unless changed. None leaves a field out."""
    (end,) = ends([drive])
    assert end.cost is not None
    assert end.started_at is not None
    document: dict[str, Any] = {
        "country_code": "DE",
        "party_id": "ABC",
        "id": id or f"N-{drive.id}",
        "start_date_time": stamp(end.started_at),
        "end_date_time": stamp(end.ended_at),
        "cdr_token": {"uid": "04A1B2C3D4E5F6", "type": "RFID", "contract_id": "C1"},
        "auth_method": "WHITELIST",
        "cdr_location": {"id": "L1", "evse_id": (drive.place.evse or "").lower(), "country": "DEU"},
        "currency": "EUR",
        "charging_periods": [
            {
                "start_date_time": stamp(end.started_at),
                "dimensions": [
                    {"type": "ENERGY", "volume": float(Decimal(end.energy_wh) / 1000)},
                    {"type": "TIME", "volume": drive.charging_min / 60},
                ],
            }
        ],
        "total_cost": {"excl_vat": float(end.cost.net or 0), "incl_vat": float(end.cost.gross or 0)},
        "total_energy": float(Decimal(end.energy_wh) / 1000),
        "total_time": end.duration_s / 3600,
        "last_updated": stamp(end.ended_at + timedelta(hours=1)),
    }
    return {name: value for name, value in (document | changes).items() if value is not None}


def a_credit(cdr: dict[str, Any]) -> dict[str, Any]:
    total = {name: -amount for name, amount in cdr["total_cost"].items()}
    return cdr | {"id": f"{cdr['id']}-C", "credit": True, "credit_reference_id": cdr["id"], "total_cost": total}


def stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def later(drive: Drive, minutes: float) -> str:
    return stamp(drive.began + timedelta(minutes=minutes))


def a_bill(path: Path, cdrs: Iterable[dict[str, Any]], *, form: str = "list") -> Path:
    listed = list(cdrs)
    match form:
        case "lines":
            path.write_text("".join(json.dumps(each) + "\n" for each in listed))
        case "response":
            path.write_text(json.dumps({"data": listed, "status_code": 1000}))
        case _:
            path.write_text(json.dumps(listed, indent=2))
    return path
