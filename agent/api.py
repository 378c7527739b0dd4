"""The local API: HTTP on a Unix socket, for the gateway's own software and the command line. Described in openapi.py.

Access is by the socket's file mode. Untrusted bytes become observations here; what they mean is decided in the core.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import uvicorn
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from agent import views
from agent.contract_desk import Decide, DeskShut, NoWallet
from agent.contracts import messages
from agent.contracts.descriptions import BODIES as CONTRACT_BODIES
from agent.core import observations
from agent.core.break_glass import CODE
from agent.core.decisions import Granted, NeedsInput
from agent.core.effects import Reply
from agent.core.pins import PIN
from agent.core.positions import Position
from agent.core.prices import ZERO, Prices, plain_prices
from agent.core.quotes import MAX_DOCUMENT_BYTES, Quote
from agent.core.requests import Code, Place, Source, Told
from agent.core.tapping import OUTCOMES
from agent.core.tariff.tariffs import Basis
from agent.evidence.collection import NoEvidence
from agent.journal import JournalError, StorageBroken
from agent.ocpi.quotes import QuoteUnfit, read_quote
from agent.openapi import description
from agent.runtime import VERSION, Runtime, UnknownDevice
from agent.service import NotStored
from drivers.chargers import charger as charger_events
from drivers.chargers.charger import ChargerUnavailable
from drivers.readers.reader import card_from_text
from sync.messages import BadMessage
from sync.overrides import MAX_MESSAGE_BYTES
from sync.signing import SigningError

log = logging.getLogger("roamkey")

ANSWER_TIMEOUT_S = 10.0
STREAM_BACKLOG = 1_000  # lines a slow listener may lag behind before it is cut off (it can read the journal instead)
BODY_LIMIT_BYTES = 64 * 1024
PAGE_LIMIT = 1_000

NUMBER_LIMIT = 2**62  # a page that begins further on begins nowhere; SQLite's integers end at 2**63
REGISTER_LIMIT_WH = 10**12  # what no charger meters in its life, as in drivers/chargers/line_codec.py


def is_uid(text: str) -> str:
    """ValueError names the rule, never the UID."""
    card_from_text(text)
    return text


def is_amount(value: object) -> object:
    """As text, so that no number on the way has a binary fraction."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,8}(\.[0-9]{1,6})?", value):
        return Decimal(value)
    raise ValueError('must be an amount as text, such as "0.55"')


def is_degrees(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,3}(\.[0-9]{1,6})?", value):
        return Decimal(value)
    raise ValueError('must be degrees as text with at most 6 decimals, such as "52.520008"')


Uid = Annotated[str, AfterValidator(is_uid)]
Amount = Annotated[Decimal, BeforeValidator(is_amount), Field(ge=0, max_digits=14, decimal_places=6)]
Latitude = Annotated[Decimal, BeforeValidator(is_degrees), Field(ge=-90, le=90)]
Longitude = Annotated[Decimal, BeforeValidator(is_degrees), Field(ge=-180, le=180)]
Percent = Annotated[int, Field(ge=0, le=100)]
Text = Annotated[str, Field(max_length=200)]  # goes into a record as it is


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PricesBody(Body):
    """Plain prices here and now, as text such as "0.55"; what is not named is free. `until`: unknown from then on."""

    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    basis: Literal["net", "gross"] | None = None
    tax_percent: Amount | None = None
    per_kwh: Amount = ZERO
    per_hour: Amount = ZERO
    per_parking_hour: Amount = ZERO
    fixed: Amount = ZERO
    until: AwareDatetime | None = None


class TariffBody(Body):
    """The tariff that the driver was shown: an OCPI document as text, kept exactly as it is given."""

    document: Annotated[str, Field(max_length=MAX_DOCUMENT_BYTES)]
    zone: Annotated[str, Field(max_length=64)] | None = None
    """The location's time zone, IANA: without it no local time of the tariff can be told."""

    @property
    def quote(self) -> Quote:
        try:
            return read_quote(self.document, self.zone)
        except QuoteUnfit as error:
            raise Problem(422, f"tariff: {error}") from error


class CodeBody(Body):
    """A code that a dispatcher read out over the phone, and what it is for: good once, for this card at this device."""

    code: Annotated[str, Field(pattern=CODE, repr=False)]
    why: Annotated[str, Field(min_length=1, max_length=200)]


class InputBody(Body):
    """What the driver was asked for (`needs` of the answer before)."""

    # repr belongs to the field: inside the union it would be ignored, and a PIN would show.
    pin: Annotated[Annotated[str, Field(pattern=PIN)] | None, Field(repr=False)] = None
    odometer_km: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    break_glass: CodeBody | None = None

    def code(self) -> Code | None:
        given = self.break_glass
        return None if given is None else Code(code=given.code, why=given.why)


class TellingBody(Body):
    """What the caller knows of this charge and the device may not."""

    prices: PricesBody | None = None
    tariff: TariffBody | None = None
    soc_percent: Percent | None = None
    route: Text | None = None
    """The trip or tour that the session is charged to."""
    input: InputBody = InputBody()

    def told(self) -> Told:
        return Told(
            prices=None if self.prices is None else prices_of(self.prices),
            quote=None if self.tariff is None else self.tariff.quote,
            soc_percent=self.soc_percent,
            pin=self.input.pin,
            odometer_km=self.input.odometer_km,
            code=self.input.code(),
            route=self.route,
        )


class TapBody(TellingBody):
    reader: str
    uid: Uid


class PositionBody(Body):
    """WGS 84, degrees as text. Without accuracy and age it is as good as none."""

    latitude: Latitude
    longitude: Longitude
    accuracy_m: Annotated[int, Field(ge=0)] | None = None
    age_s: Annotated[int, Field(ge=0)] | None = None

    def position(self) -> Position:
        return Position(
            latitude_udeg=int(self.latitude * 1_000_000),
            longitude_udeg=int(self.longitude * 1_000_000),
            accuracy_m=self.accuracy_m,
            age_s=self.age_s,
        )


class MeasuredBody(PositionBody):
    """Where the vehicle is, measured `age_s` ago: now, unless it says otherwise. It holds until it is too old."""

    accuracy_m: Annotated[int, Field(ge=0)]
    age_s: Annotated[int, Field(ge=0, le=86_400)] = 0


class DecisionBody(TellingBody):
    uid: Uid
    charger: str | None = None
    evse: Text | None = None
    network: Text | None = None
    country: Text | None = None
    site: Text | None = None
    connector: Text | None = None
    power_w: Annotated[int, Field(ge=0, le=REGISTER_LIMIT_WH)] | None = None
    position: PositionBody | None = None


class EventBody(Body):
    event: Literal["plugged_in", "unplugged", "started", "metered", "stopped", "signed", "faulted", "found"]
    evse: Annotated[str, Field(max_length=48)] | None = None
    session: Text | None = None
    meter_wh: Annotated[int, Field(ge=0, le=REGISTER_LIMIT_WH)] | None = None
    power_w: Annotated[int, Field(ge=-REGISTER_LIMIT_WH, le=REGISTER_LIMIT_WH)] | None = None
    soc_percent: Percent | None = None
    reason: Text = "Other"
    signed: Annotated[Annotated[str, Field(min_length=1)] | None, Field(repr=False)] = None
    """A signed meter record, byte for byte; `format` says which kind, and it is kept with its session."""
    format: Annotated[str, Field(max_length=36)] = "OCMF"
    public_key: Annotated[str, Field(max_length=2_000)] | None = None
    code: Text = ""
    state: charger_events.ChargerState = charger_events.ChargerState.AVAILABLE


class OverridesBody(Body):
    """Signed one-time overrides as the dispatcher made them, one a line."""

    overrides: Annotated[str, Field(min_length=1, max_length=MAX_MESSAGE_BYTES)]


class ExportBody(Body):
    path: str


MODELS: dict[str, type[Body]] = {
    "post /v1/decisions": DecisionBody,
    "post /v1/taps": TapBody,
    "post /v1/overrides": OverridesBody,
    "post /v1/chargers/{name}/events": EventBody,
    "put /v1/position": MeasuredBody,
    "post /v1/journal/export": ExportBody,
}


class Api:
    """One request at a time a handler; everything that changes something goes through the service's inbox."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def serve(self, listening: socket.socket) -> None:
        """Until cancelled; then requests that are being answered have a second."""
        application = Starlette(routes=self.routes(), exception_handlers=dict.fromkeys(ANSWERS, told))
        settings = uvicorn.Config(
            application, log_config=None, access_log=False, lifespan="off", ws="none", http="h11", loop="none",
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        server = Server(settings)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            await asyncio.shield(serving)
        finally:
            server.should_exit = True
            await serving

    def routes(self) -> list[Route]:
        return [
            Route("/openapi.json", self.openapi, methods=["GET"]),
            Route("/v1/status", self.status, methods=["GET"]),
            Route("/v1/sessions", self.sessions, methods=["GET"]),
            Route("/v1/decisions/{id}", self.decision, methods=["GET"]),
            Route("/v1/evidence/{session}", self.evidence, methods=["GET"]),
            Route("/v1/decisions", self.decide, methods=["POST"]),
            Route("/v1/taps", self.tap, methods=["POST"]),
            Route("/v1/overrides", self.take_overrides, methods=["POST"]),
            Route("/v1/chargers/{name}/events", self.report, methods=["POST"]),
            Route("/v1/position", self.position, methods=["PUT"]),
            Route("/v1/contracts", self.contracts, methods=["GET"]),
            Route("/v1/contracts/sign-authorization", self.sign_authorization, methods=["POST"]),
            Route("/v1/contracts/sign-installation", self.sign_installation, methods=["POST"]),
            Route("/v1/contracts/install", self.install, methods=["POST"]),
            Route("/v1/contracts/sign-receipt", self.sign_receipt, methods=["POST"]),
            Route("/v1/contracts/session-ended", self.contract_session_ended, methods=["POST"]),
            Route("/v1/contracts/remove", self.remove, methods=["POST"]),
            Route("/v1/contracts/verify", self.verify, methods=["POST"]),
            Route("/v1/journal", self.journal, methods=["GET"]),
            Route("/v1/journal/export", self.export, methods=["POST"]),
            Route("/v1/events", self.events, methods=["GET"]),
        ]

    async def openapi(self, request: Request) -> Response:
        bodies = {name: body.model_json_schema() for name, body in MODELS.items()}
        return JSONResponse(description(VERSION, bodies | CONTRACT_BODIES))

    async def status(self, request: Request) -> Response:
        return JSONResponse(await self._runtime.status())

    async def sessions(self, request: Request) -> Response:
        return JSONResponse({"sessions": await self._runtime.sessions(page(request, "limit", 50))})

    async def decision(self, request: Request) -> Response:
        found = await self._runtime.decision(request.path_params["id"])
        if found is None:
            raise Problem(404, "no such decision in the journal; `roamkey journal tail` lists the newest")
        return JSONResponse(found)

    async def evidence(self, request: Request) -> Response:
        try:
            return JSONResponse(await self._runtime.evidence(request.path_params["session"]))
        except NoEvidence as error:
            raise Problem(409 if error.later else 404, str(error)) from error

    async def decide(self, request: Request) -> Response:
        body = await read(request, DecisionBody)
        if body.charger is not None:
            self._runtime.require_charger(body.charger)
        place = Place(
            evse=body.evse,
            network=body.network,
            country=body.country,
            site=body.site,
            connector=body.connector,
            power_w=body.power_w,
            position=None if body.position is None else body.position.position(),
            source=Source.REQUEST if body.evse or body.site or body.network or body.country else None,
            measured_by=None if body.position is None else Source.REQUEST,
        )
        asked = observations.DecisionRequested(
            request=secrets.token_hex(8),
            presented=self._runtime.present(body.uid),
            charger=body.charger,
            place=place,
            told=body.told(),
        )
        return JSONResponse(answer(await self._ask(asked, asked.request)))

    async def tap(self, request: Request) -> Response:
        body = await read(request, TapBody)
        self._runtime.require_reader(body.reader)
        name = secrets.token_hex(8)
        tapped = observations.Tapped(
            reader=body.reader, presented=self._runtime.present(body.uid), request=name, told=body.told()
        )
        return JSONResponse(answer(await self._ask(tapped, name)))

    async def take_overrides(self, request: Request) -> Response:
        """By hand, where there is no signal. All of them or none; one that was used already stays used."""
        body = await read(request, OverridesBody)
        try:
            taken = self._runtime.live.take(body.overrides.encode())
        except (BadMessage, SigningError) as error:
            raise Problem(422, f"no override was taken: {error}") from error
        until = [{"id": each.id, "not_after": views.stamp(each.not_after)} for each in taken]
        return JSONResponse({"taken": until}, status_code=202)

    async def report(self, request: Request) -> Response:
        name = request.path_params["name"]
        self._runtime.report(name, event_of(name, await read(request, EventBody)))
        return JSONResponse({"accepted": True}, status_code=202)

    async def position(self, request: Request) -> Response:
        self._runtime.position((await read(request, MeasuredBody)).position())
        return JSONResponse({"accepted": True}, status_code=202)

    async def contracts(self, request: Request) -> Response:
        return JSONResponse({"contracts": await self._runtime.contracts.contracts()})

    async def sign_authorization(self, request: Request) -> Response:
        """`input` and `position` are as with a card; the rest is the vehicle's stack's."""
        document = await read_document(request)
        decide = self._decider(document)
        asked = messages.read_authorization(document)
        with in_time():
            return JSONResponse(await self._runtime.contracts.sign(asked, decide))

    async def sign_receipt(self, request: Request) -> Response:
        document = await read_document(request)
        decide = self._decider(document)
        asked = messages.read_receipt(document)
        if not self._runtime.is_contract_session_open(asked.decision):
            raise Problem(404, "no session is open by this decision: sign an authorization first")
        with in_time():
            return JSONResponse(await self._runtime.contracts.sign_receipt(asked, decide))

    def _decider(self, document: dict[str, Any]) -> Decide:
        """Takes out of the document what is told besides the vehicle's stack's own."""
        given = checked(InputBody, document.pop("input", {}), "input.")
        where = checked(PositionBody, document.pop("position"), "position.") if "position" in document else None
        return partial(
            self._runtime.decide_contract,
            told=Told(pin=given.pin, odometer_km=given.odometer_km, code=given.code()),
            position=None if where is None else where.position(),
        )

    async def sign_installation(self, request: Request) -> Response:
        asked = messages.read_request(await read_document(request))
        return JSONResponse(await self._runtime.contracts.ask_for_contract(asked))

    async def install(self, request: Request) -> Response:
        document = await read_document(request)
        priority = messages.read_priority(document.pop("priority", None))
        response = messages.read_installation(document)
        return JSONResponse(await self._runtime.contracts.install(response, priority))

    async def contract_session_ended(self, request: Request) -> Response:
        decision = messages.read_session_end(await read_document(request))
        try:
            known = await self._runtime.contract_session_ended(decision)
        except TimeoutError as error:
            raise Problem(504, "not recorded in time, and tried again by itself; see `roamkey status`") from error
        if not known:
            raise Problem(404, "no contract signed by this decision; it is told with each signature")
        return JSONResponse({"ended": decision})

    async def remove(self, request: Request) -> Response:
        fingerprint = messages.read_fingerprint(await read_document(request))
        if not await self._runtime.contracts.remove(fingerprint):
            raise Problem(404, "no contract with this certificate; `roamkey contract list` shows those that are here")
        return JSONResponse({"removed": fingerprint})

    async def verify(self, request: Request) -> Response:
        asked = messages.read_verification(await read_document(request))
        return JSONResponse(await self._runtime.contracts.verify(asked))

    async def journal(self, request: Request) -> Response:
        return JSONResponse(await self._runtime.journal_page(page(request, "after", -1), page(request, "limit", 100)))

    async def export(self, request: Request) -> Response:
        path = Path((await read(request, ExportBody)).path)
        if not path.is_absolute():
            raise Problem(422, f"path: {path} must be absolute, since the service has a folder of its own")
        try:
            await self._runtime.store.export(path)
        except StorageBroken:
            raise
        except (OSError, JournalError) as error:
            raise Problem(409, f"{path} cannot be written: {error}") from error
        return JSONResponse({"path": str(path)})

    async def events(self, request: Request) -> Response:
        """JSON lines: each record as it is sealed, and the commands for chargers that this software drives itself."""
        return StreamingResponse(self._lines(), media_type="application/x-ndjson")

    async def _lines(self) -> AsyncIterator[bytes]:
        with self._runtime.listen(STREAM_BACKLOG) as lines:
            while (line := await lines.get()) is not None:  # None: the service stops, or this listener was too slow
                yield line + b"\n"

    async def _ask(self, seen: observations.Observation, request: str) -> Reply:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await self._runtime.service.ask(seen, request)
        except TimeoutError as error:
            raise Problem(504, f"no answer within {ANSWER_TIMEOUT_S:.0f} s; see `roamkey status`") from error


class Server(uvicorn.Server):
    """Signals are the service's business, not the API's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Problem(Exception):
    """An answer that is not 2xx: what happened and what to do."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


B = TypeVar("B", bound=Body)


async def told(request: Request, error: Exception) -> Response:
    """What the caller did wrong is told to the caller; what we did wrong is also told to the log."""
    match error:
        case Problem():
            return refusal(error.status, str(error))
        case UnknownDevice():
            return refusal(404, str(error))
        case ChargerUnavailable() | DeskShut():
            return refusal(503, str(error))
        case messages.MessageUnfit():
            return refusal(422, str(error))
        case NoWallet():
            return refusal(409, str(error))
        case NotStored():
            return refusal(507, f"nothing was decided, since it could not be recorded: {error}")
        case HTTPException():
            return refusal(error.status_code, error.detail)
        case _:
            log.error("%s %s: %s", request.method, request.url.path, error)
            return refusal(500, str(error))


ANSWERS = (
    Problem, UnknownDevice, ChargerUnavailable, DeskShut, messages.MessageUnfit, NoWallet, NotStored, JournalError,
    HTTPException, Exception,
)  # fmt: skip


def refusal(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status_code=status)


async def read(request: Request, kind: type[B]) -> B:
    body = await whole_body(request)
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise Problem(422, "; ".join(problem(each) for each in error.errors(include_input=False))) from None


@contextmanager
def in_time() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise Problem(504, "not decided in time, and nothing was signed; see `roamkey status`") from error


async def whole_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT_BYTES:
            raise Problem(413, f"the body is larger than {BODY_LIMIT_BYTES} bytes")
    return bytes(body)


async def read_document(request: Request) -> dict[str, Any]:
    """Of a message about contracts; what must be in it is agent/contracts/messages.py."""
    try:
        document = json.loads(await whole_body(request))
    except (ValueError, RecursionError) as error:
        raise Problem(422, "body: is no JSON") from error
    if not isinstance(document, dict):
        raise Problem(422, "body: is no JSON object")
    return document


def checked(kind: type[B], value: object, where: str) -> B:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise Problem(422, "; ".join(where + problem(each) for each in error.errors(include_input=False))) from None


def problem(error: Mapping[str, Any]) -> str:
    return f"{'.'.join(map(str, error['loc'])) or 'body'}: {error['msg'].removeprefix('Value error, ')}"


def page(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    try:
        value = int(text)
    except ValueError as error:
        raise Problem(400, f"{name} must be a whole number, not {text[:20]!r}") from error
    if abs(value) > NUMBER_LIMIT:
        raise Problem(400, f"{name} must be a whole number of at most {NUMBER_LIMIT}")
    return min(value, PAGE_LIMIT) if name == "limit" else value


def answer(reply: Reply) -> dict[str, object]:
    decision = reply.decision
    return {
        "outcome": OUTCOMES[type(decision)].value,
        "override": decision.override.id if isinstance(decision, Granted) and decision.override is not None else None,
        "needs": sorted(decision.prompts) if isinstance(decision, NeedsInput) else [],
        "decision": reply.decision_id,
        "session": reply.session,
        "reasons": [
            {"code": reason.code, "rule": reason.rule, "observed": reason.observed, "limit": reason.limit}
            for reason in (() if isinstance(decision, Granted) else decision.reasons)
        ],
    }


def prices_of(body: PricesBody) -> Prices:
    basis = None if body.basis is None else Basis(body.basis)
    return plain_prices(**{**dict(body), "basis": basis})


def bytes_of(signed: str | None) -> bytes:
    """Exactly as it was signed: what JSON can say and UTF-8 cannot was never a record."""
    try:
        return (signed or "").encode("utf-8")
    except UnicodeEncodeError as error:
        raise Problem(422, "signed: is no text in UTF-8") from error


def event_of(name: str, body: EventBody) -> charger_events.ChargerEvent:
    """The report as the charger's event. A meter value is needed where a session's energy depends on it."""
    now = charger_events.monotonic_ms()
    if body.event in ("started", "metered") and body.meter_wh is None:
        raise Problem(422, f"event {body.event} needs meter_wh, the charger's energy register")
    if body.event == "signed" and body.signed is None:
        raise Problem(422, "event signed needs signed, the record as the meter signed it")
    meter = body.meter_wh or 0
    match body.event:
        case "plugged_in":
            return charger_events.PluggedIn(charger=name, evse=body.evse, monotonic_ms=now)
        case "unplugged":
            return charger_events.Unplugged(charger=name, monotonic_ms=now)
        case "started":
            return charger_events.ChargingStarted(charger=name, session=body.session, meter_wh=meter, monotonic_ms=now)
        case "metered":
            return charger_events.Metered(
                charger=name,
                session=body.session,
                meter_wh=meter,
                power_w=body.power_w,
                soc_percent=body.soc_percent,
                monotonic_ms=now,
            )
        case "stopped":
            return charger_events.ChargingStopped(
                charger=name, session=body.session, meter_wh=body.meter_wh, reason=body.reason, monotonic_ms=now
            )
        case "signed":
            return charger_events.MeterSigned(
                charger=name,
                session=body.session,
                document=bytes_of(body.signed),
                format=body.format,
                public_key=body.public_key,
                monotonic_ms=now,
            )
        case "faulted":
            return charger_events.Faulted(charger=name, code=body.code or "unknown", monotonic_ms=now)
        case "found":
            return charger_events.ChargerFound(
                charger=name,
                state=body.state,
                session=body.session,
                meter_wh=body.meter_wh,
                evse=body.evse,
                monotonic_ms=now,
            )
