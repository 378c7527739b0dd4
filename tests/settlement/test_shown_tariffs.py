"""Tariffs of chargers, from a file of the configuration; what cannot be read is an unknown price."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from agent.config import ConfigError, load
from agent.environment import Verdict, usable
from agent.ocpi.quotes import read_quote_file
from agent.runtime import setup_of
from tests.settlement.fleet_days import TARIFF

BASE = """
[device]
fleet = "acme"
name = "van-1"
state = "state"
[[charger]]
name = "bay"
"""


def configured(folder: Path, settings: str) -> Path:
    (folder / "roamkey.toml").write_text(BASE + settings)
    return folder / "roamkey.toml"


def test_a_chargers_tariff_is_read_from_its_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "bay.json").write_text(TARIFF)
    config = load(configured(tmp_path, 'tariff = "bay.json"\nzone = "Europe/Berlin"\n'))
    quote = setup_of(config).quotes["bay"]

    assert (quote.document, quote.tariff.id) == (TARIFF, "T1")
    assert quote.zone is not None
    assert quote.zone.key == "Europe/Berlin"


@pytest.mark.parametrize("content", [None, "{}", "no json"])
def test_a_tariff_that_cannot_be_read_is_an_unknown_price_and_no_reason_not_to_start(
    content: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if content is not None:
        (tmp_path / "bay.json").write_text(content)
    with caplog.at_level(logging.ERROR, logger="roamkey"):
        setup = setup_of(load(configured(tmp_path, 'tariff = "bay.json"\n')))

    assert setup.quotes == {}
    assert "bay.json" in caplog.text
    assert usable("tariff of bay", tmp_path / "bay.json", read_quote_file).verdict is Verdict.BAD


def test_a_charger_has_one_price(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave one out"):
        load(configured(tmp_path, 'tariff = "bay.json"\nprices = { currency = "EUR", per_kwh = 0.5 }\n'))
