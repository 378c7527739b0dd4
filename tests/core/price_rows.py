"""One row a sentence of the rules of prices, limits and the battery; a warning's code begins with `!`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from agent.core.credentials import Assurance
from agent.core.prices import PriceCaps, plain_prices
from agent.core.tariff.tariffs import Basis
from agent.core.terms import Demand, Effect, Kind, Lenience, PriceAbove
from tests.core.builders import NOON, a_group, a_place, a_policy, a_request, ask

Row = tuple[str, Any, str]
NET, GROSS = Basis.NET, Basis.GROSS
KWH = {"per_kwh": "0.50"}


def priced(caps: dict[str, str], basis: Basis, prices: Any, *, metered: bool = True, **group: Any) -> Any:
    bound = PriceCaps(currency="EUR", basis=basis, **{name: Decimal(cap) for name, cap in caps.items()})
    asked = a_request(prices=prices, metered=metered)
    return lambda: ask(asked, a_policy(a_group(prices=bound, **group)))


def at(
    basis: Basis | None = NET, tax: str | None = "19", currency: str = "EUR", until: Any = None, **prices: str
) -> Any:
    amounts = {name: Decimal(price) for name, price in prices.items()}
    percent = None if tax is None else Decimal(tax)
    return plain_prices(currency, basis=basis, tax_percent=percent, until=until, **amounts)


def price_rows() -> list[Row]:
    fees = {"per_hour": "6", "per_parking_hour": "12", "fixed": "1"}
    allowed = Lenience(effect=Effect.WARN, max_energy_wh=5_000)
    return [
        ("a price at the cap is allowed", priced(KWH, NET, at(per_kwh="0.50")), ""),
        ("a price above it is not", priced(KWH, NET, at(per_kwh="0.500001")), "PRICE_CAP"),
        ("the cap's own basis is compared", priced(KWH, GROSS, at(per_kwh="0.50")), "PRICE_CAP"),
        ("a gross price is less before taxes", priced(KWH, NET, at(GROSS, per_kwh="0.595")), ""),
        ("and what it is with them", priced(KWH, GROSS, at(GROSS, per_kwh="0.595")), "PRICE_CAP"),
        ("a price of unknown basis must pass as net", priced(KWH, NET, at(None, per_kwh="0.51")), "PRICE_CAP"),
        ("and with the taxes that it may lack", priced(KWH, GROSS, at(None, per_kwh="0.45")), "PRICE_CAP"),
        ("and passes when it does both ways", priced(KWH, GROSS, at(None, per_kwh="0.42")), ""),
        ("net with unknown taxes says nothing of gross",
         priced(KWH, GROSS, at(tax=None, per_kwh="0.1")), "PRICE_UNKNOWN"),
        ("gross bounds net also when taxes are unknown", priced(KWH, NET, at(GROSS, None, per_kwh="0.50")), ""),
        ("what is free is free on every basis", priced(KWH, GROSS, at(None, None)), ""),
        ("an unknown price is refused", priced(KWH, NET, None), "PRICE_UNKNOWN"),
        ("an expired one is unknown", priced(KWH, NET, at(per_kwh="0.1", until=NOON)), "PRICE_UNKNOWN"),
        ("until then it is known", priced(KWH, NET, at(per_kwh="0.1", until=NOON + timedelta(seconds=1))), ""),
        ("the group may let an unknown price pass with a limit",
         priced(KWH, NET, None, missing={Kind.PRICES: allowed}), "!PRICE_UNKNOWN"),
        ("not where nothing counts the energy",
         priced(KWH, NET, None, missing={Kind.PRICES: allowed}, metered=False), "PRICE_UNKNOWN"),
        ("a high price may be one to warn of",
         priced(KWH, NET, at(per_kwh="2"), effects={Kind.PRICES: Effect.WARN}), "!PRICE_CAP"),
        ("another currency is refused", priced(KWH, NET, at(currency="CHF", per_kwh="0.1")), "CURRENCY_MISMATCH"),
        ("also when only the session is capped",
         priced({"session": "9"}, NET, at(currency="CHF")), "CURRENCY_MISMATCH"),
        ("a group that caps nothing asks for no price", priced({}, NET, None), ""),
        ("every fee at its cap is allowed",
         priced(fees, NET, at(per_hour="6", per_parking_hour="12", fixed="1")), ""),
        ("a dear hour is not", priced(fees, NET, at(per_hour="6.01")), "PRICE_CAP"),
        ("nor dear parking", priced(fees, NET, at(per_parking_hour="12.01")), "PRICE_CAP"),
        ("nor a dear start", priced(fees, NET, at(fixed="1.01")), "PRICE_CAP"),
        ("the lowest cap of all levels counts", lambda: ask(a_request(prices=at(per_kwh="0.45")), a_policy(
            a_group(parent="all", prices=PriceCaps(currency="EUR", basis=NET, per_kwh=Decimal("0.50"))),
            a_group("all", prices=PriceCaps(currency="EUR", basis=NET, per_kwh=Decimal("0.40"))))), "PRICE_CAP"),
    ]  # fmt: skip


def session_rows() -> list[Row]:
    cap = {"session": "10"}
    return [
        ("a session may cost so much", priced(cap, NET, at(fixed="9.99", per_kwh="0.5")), ""),
        ("one that costs that at once is not begun",
         priced(cap, NET, at(fixed="10", per_kwh="0.5")), "SESSION_COST_CAP"),
        ("unless nothing more is to pay", priced(cap, NET, at(fixed="10")), ""),
        ("free is allowed where nothing may be paid", priced({"session": "0"}, NET, at()), ""),
        ("a cost that nobody can count is warned of", priced(cap, NET, None), "!LIMIT_UNENFORCEABLE"),
        ("or refused where the group says so",
         priced(cap, NET, None, missing={Kind.COST: Lenience(effect=Effect.DENY)}), "LIMIT_UNENFORCEABLE"),
        ("without a meter a price per kWh cannot be counted",
         priced(cap, NET, at(per_kwh="0.5"), metered=False), "!LIMIT_UNENFORCEABLE"),
        ("a price per hour can", priced(cap, NET, at(per_hour="5"), metered=False), ""),
        ("a limit of energy needs a meter",
         lambda: ask(a_request(metered=False), a_policy(max_energy_wh=1_000)), "!LIMIT_UNENFORCEABLE"),
        ("a limit of time needs none", lambda: ask(a_request(metered=False), a_policy(max_duration_s=60)), ""),
    ]  # fmt: skip


def battery_rows() -> list[Row]:
    def soc(percent: int | None, **group: Any) -> Any:
        return lambda: ask(a_request(soc_percent=percent), a_policy(a_group(**group)))

    return [
        ("a battery below the limit may be charged", soc(79, max_start_soc_percent=80), ""),
        ("one at the limit may not", soc(80, max_start_soc_percent=80), "SOC"),
        ("nor one that is where it would be stopped", soc(80, target_soc_percent=80), "SOC"),
        ("an unknown state of charge is warned of", soc(None, target_soc_percent=80), "!SOC"),
        ("where nobody asks it need not be known", soc(None), ""),
    ]


def dear_rows() -> list[Row]:
    above = PriceAbove(currency="EUR", per_kwh=Decimal("0.79"))
    demand = Demand(assurance=Assurance.AUTHENTICATED, above_price=above)

    def card(prices: Any, **place: Any) -> Any:
        return lambda: ask(a_request(prices=prices, place=a_place(**place)), a_policy(a_group(demands=(demand,))))

    return [
        ("a bare UID is enough for a cheap kWh", card(at(GROSS, per_kwh="0.79")), ""),
        ("not for a dear one", card(at(GROSS, per_kwh="0.80")), "ASSURANCE"),
        ("nor for one whose price nobody knows", card(None), "ASSURANCE"),
        ("nor for one in another currency", card(replace(at(GROSS, per_kwh="0.1"), currency="CHF")), "ASSURANCE"),
    ]


PRICE_ROWS = [*price_rows(), *session_rows(), *battery_rows(), *dear_rows()]
