"""Rules about the card: whom it names, whether that is still so, and how well the reading proves it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from agent.core.countries import normalise_country
from agent.core.credentials import Assurance, CardDoubt
from agent.core.networks import normalise_network
from agent.core.policy import TokenStatus
from agent.core.prices import Prices
from agent.core.reasons import ReasonCode
from agent.core.requests import Request
from agent.core.rules.live import is_confirmed, is_open
from agent.core.rules.place import countries_of, networks_of
from agent.core.rules.price import known_prices
from agent.core.rules.question import Objection, Question
from agent.core.terms import Demand

GRADES = tuple(Assurance)  # weakest first


def one_card(asked: Question) -> Iterator[Objection]:
    """One card in the field: with two, nobody knows who asked."""
    if asked.request.crowded:
        yield Objection(code=ReasonCode.SEVERAL_CARDS)


DOUBTED = {
    CardDoubt.NOT_GENUINE: ReasonCode.CARD_NOT_GENUINE,
    CardDoubt.TORN: ReasonCode.CARD_TORN,
    CardDoubt.PHONE: ReasonCode.PHONE,
    CardDoubt.AMBIGUOUS: ReasonCode.TOKEN_AMBIGUOUS,
}


def card_undoubted(asked: Question) -> Iterator[Objection]:
    """The card proved what it had to prove. If it did not, its number is a claim and names nobody."""
    doubt = asked.request.doubt
    if doubt is not None and not asked.request.crowded:
        yield Objection(code=DOUBTED[doubt], observed=asked.request.credential.assurance)


def token_known(asked: Question) -> Iterator[Objection]:
    """The credential names somebody and that token is in the fleet's table."""
    request = asked.request
    if request.crowded or request.doubt is not None:
        return  # one_card or card_undoubted says so; whose card is meant is not known
    if request.lookup_failed:
        yield Objection(code=ReasonCode.CACHE_UNREADABLE, missing=True)
    elif request.credential.assurance is Assurance.RANDOM or not request.credential.is_identity:
        yield Objection(code=ReasonCode.TOKEN_RANDOM_UID, observed=request.credential.assurance)
    elif request.token is None:
        yield Objection(code=ReasonCode.TOKEN_UNKNOWN, missing=True)


def not_revoked(asked: Question) -> Iterator[Objection]:
    """Withdrawn for good: by a list of its own that arrives first, and that no table, answer or override outweighs."""
    policy, reference = asked.policy, asked.request.credential.reference
    if policy is not None and reference in policy.revoked:
        yield Objection(code=ReasonCode.REVOKED, observed="revoked")


def token_active(asked: Question) -> Iterator[Objection]:
    """Not blocked, and not_before <= now < until. Expiry looks at the latest proven time, a start at the clock.

    Where the backend must be asked, its yes to this question counts for more: the table may be older than that
    (OCPI: `valid` has no influence on whether a token is asked for).
    """
    token, now, ask = asked.request.token, asked.now, is_open(asked.request)
    if token is None or is_confirmed(asked.request):
        return  # token_known, backend_agrees have said so
    if token.status is not TokenStatus.ACTIVE:
        yield Objection(code=ReasonCode.TOKEN_BLOCKED, observed=token.status, limit=TokenStatus.ACTIVE, ask=ask)
    if token.not_before is not None and now.utc < token.not_before:
        yield Objection(
            code=ReasonCode.TOKEN_NOT_YET_VALID, observed=stamp(now.utc), limit=stamp(token.not_before), ask=ask
        )
    if token.until is not None and now.latest >= token.until:
        yield Objection(code=ReasonCode.TOKEN_EXPIRED, observed=stamp(now.latest), limit=stamp(token.until), ask=ask)


def assured_enough(asked: Question) -> Iterator[Objection]:
    """The card is as good as every demand that applies here. Part of a UID serves only where a group permits it.

    Like the default of concurrency, that refusal is lifted by any level that says so, and kept by any that says no.
    """
    if not asked.levels:
        return  # group_known, token_known have said so
    given = asked.request.credential.assurance
    prices = known_prices(asked)
    permitted = [level.lossy_cards for level in asked.levels if level.lossy_cards is not None]
    if given is Assurance.LOSSY and not (permitted and all(permitted)):
        yield Objection(code=ReasonCode.ASSURANCE, observed=given, limit="a whole UID")
    for level in asked.levels:
        for demand in level.demands:
            if GRADES.index(given) >= GRADES.index(demand.assurance):
                continue
            holds = [each for each in conditions(demand, asked.request, prices) if each is not True]
            if False not in holds:
                missing = None in holds
                yield Objection(
                    code=ReasonCode.ASSURANCE, observed=given, limit=demand.assurance, level=level, missing=missing
                )


def conditions(demand: Demand, request: Request, prices: Prices | None) -> Iterator[bool | None]:
    """Each named condition: it holds, it does not, or nobody knows."""
    place = request.place
    if demand.networks is not None:
        network = normalise_network(place.network or "")
        yield network in networks_of(demand.networks) if network else None
    if demand.outside_countries is not None:
        country = normalise_country(place.country or "")
        yield country not in countries_of(demand.outside_countries) if country else None
    if demand.above_power_w is not None:
        yield place.power_w > demand.above_power_w if place.power_w is not None else None
    if demand.above_price is not None:
        price = prices.per_kwh.gross if prices is not None and prices.currency == demand.above_price.currency else None
        yield price > demand.above_price.per_kwh if price is not None else None


def stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
