"""What readers, chargers and the uplink tell becomes observations and a line on the board. No decisions here."""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import assert_never

from agent import signed_meter
from agent.board import Board, Health
from agent.clock import monotonic_ms
from agent.core import observations
from agent.core.budgets import Lease
from agent.core.facts import RecordsQuarantined
from agent.core.instants import Instant
from agent.core.observations import Observation
from agent.core.requests import Source
from agent.core.whereabouts import Fix
from agent.identity import Identity
from drivers.chargers import charger as chargers
from drivers.positions import receiver as receivers
from drivers.readers import reader as readers
from sync import ports

log = logging.getLogger("roamkey")

SimpleEvent = (
    chargers.PluggedIn
    | chargers.Unplugged
    | chargers.ChargingStarted
    | chargers.Metered
    | chargers.ChargingStopped
    | chargers.Faulted
    | chargers.ChargerFound
    | chargers.ChargerLost
)
_OF_LEASE = tuple(each.name for each in fields(Lease))
RENEWAL_REFUSED = "renewed-certificate-refused"


def from_reader(event: readers.ReaderEvent, identity: Identity, board: Board, now: Instant) -> Observation:
    match event:
        case readers.Seen():
            return observations.Sighted(
                reader=event.reader,
                presented=tuple(identity.of(card) for card in event.cards),
                monotonic_ms=boot_ms(event.monotonic_ms, readers_now_ms=chargers.monotonic_ms()),
            )
        case readers.ReaderFound():
            detail = " ".join((event.model, event.firmware, *event.findings)).strip()
            board.readers[event.reader] = Health(state="ready", detail=detail, since=now.utc)
            log.info("reader %s is ready: %s", event.reader, detail)
            return observations.ReaderFound(
                reader=event.reader, model=event.model, firmware=event.firmware, findings=event.findings
            )
        case readers.ReaderLost():
            board.readers[event.reader] = Health(state="lost", detail=f"{event.cause}; {event.hint}", since=now.utc)
            log.warning("reader %s is lost: %s; %s", event.reader, event.cause, event.hint)
            return observations.ReaderLost(reader=event.reader, cause=event.cause)
        case _:
            assert_never(event)


def from_meter(event: chargers.MeterSigned, token_key: bytes) -> Observation | None:
    """A signed record that cannot be kept is told to the log, and is no reason to stop anything."""
    try:
        return signed_meter.seen(
            event.charger,
            event.session,
            event.document,
            format=event.format,
            public_key=event.public_key,
            key=token_key,
        )
    except ValueError as error:
        log.error("charger %s: %s", event.charger, error)
        return None


def from_charger(event: SimpleEvent, board: Board, now: Instant) -> Observation:
    match event:
        case chargers.PluggedIn():
            board.chargers[event.charger] = Health(state=chargers.ChargerState.PLUGGED, since=now.utc)
            return observations.PluggedIn(charger=event.charger, evse=event.evse)
        case chargers.Unplugged():
            board.chargers[event.charger] = Health(state=chargers.ChargerState.AVAILABLE, since=now.utc)
            return observations.Unplugged(charger=event.charger)
        case chargers.ChargingStarted():
            board.chargers[event.charger] = Health(state=chargers.ChargerState.CHARGING, since=now.utc)
            return observations.ChargingStarted(charger=event.charger, session=event.session, meter_wh=event.meter_wh)
        case chargers.Metered():
            return observations.Metered(
                charger=event.charger,
                session=event.session,
                meter_wh=event.meter_wh,
                power_w=event.power_w,
                soc_percent=event.soc_percent,
            )
        case chargers.ChargingStopped():
            board.chargers[event.charger] = Health(state=chargers.ChargerState.PLUGGED, since=now.utc)
            return observations.ChargingStopped(
                charger=event.charger, session=event.session, meter_wh=event.meter_wh, reason=event.reason
            )
        case chargers.Faulted():
            board.chargers[event.charger] = Health(
                state=chargers.ChargerState.FAULTED, detail=event.code, since=now.utc
            )
            log.warning("charger %s reports fault %s", event.charger, event.code)
            return observations.Faulted(charger=event.charger, code=event.code)
        case chargers.ChargerFound():
            board.chargers[event.charger] = Health(state=event.state, since=now.utc)
            return observations.ChargerFound(
                charger=event.charger,
                charging=event.state == chargers.ChargerState.CHARGING,
                state=event.state,
                session=event.session,
                meter_wh=event.meter_wh,
                evse=event.evse,
            )
        case chargers.ChargerLost():
            board.chargers[event.charger] = Health(state="lost", detail=f"{event.cause}; {event.hint}", since=now.utc)
            log.warning("charger %s is lost: %s; %s", event.charger, event.cause, event.hint)
            return observations.ChargerLost(charger=event.charger, cause=event.cause)
        case _:
            assert_never(event)


def from_receiver(event: receivers.ReceiverEvent, board: Board, now: Instant) -> Observation | None:
    match event:
        case receivers.Measured():
            if board.receiver is None or board.receiver.state != "fix":
                board.receiver = Health(state="fix", since=now.utc)
            return observations.Positioned(
                fix=Fix(
                    source=Source.GPSD,
                    latitude_udeg=event.latitude_udeg,
                    longitude_udeg=event.longitude_udeg,
                    accuracy_m=event.accuracy_m,
                    measured_ms=boot_ms(event.monotonic_ms, readers_now_ms=chargers.monotonic_ms()),
                )
            )
        case receivers.Unmeasured():
            board.receiver = Health(state="no fix", detail=event.cause, since=now.utc)
            return None
        case receivers.ReceiverFound():
            board.receiver = Health(state="ready", detail=event.detail, since=now.utc)
            log.info("positions come from %s", event.detail)
            return None
        case receivers.ReceiverLost():
            board.receiver = Health(state="lost", detail=f"{event.cause}; {event.hint}", since=now.utc)
            log.warning("no positions: %s; %s", event.cause, event.hint)
            return None
        case _:
            assert_never(event)


def from_uplink(event: ports.UplinkEvent, board: Board, now: Instant) -> Observation | None:
    match event:
        case ports.Connected():
            detail = f"MQTT {event.protocol}, {'TLS' if event.encrypted else 'NOT ENCRYPTED'}"
            board.link = Health(state="online", detail=detail, since=now.utc)
            if event.former_certificate:
                board.alarms[RENEWAL_REFUSED] = (
                    "the broker takes the certificate of before the renewal, but not the new one: "
                    "check its authorities and revocation list, or install another certificate"
                )
            else:
                board.alarms.pop(RENEWAL_REFUSED, None)
            log.info("connected to the broker: %s", detail)
            return observations.LinkChanged(up=True)
        case ports.Disconnected():
            if board.link.state != "offline":
                log.warning("offline: %s", event.reason)
            board.link = Health(state="offline", detail=event.reason, since=now.utc)
            return observations.LinkChanged(up=False)
        case ports.Acknowledged():
            board.acknowledged = event.through
            return None
        case ports.Alarm():
            board.alarms[event.code] = event.text
            return None
        case ports.AlarmOver():
            board.alarms.pop(event.code, None)
            return None
        case ports.Quarantined():
            log.error("record %d is quarantined: %s", event.sequence, event.reason)
            fact = RecordsQuarantined(journal=event.journal, sequences=(event.sequence,), reasons=(event.reason,))
            return observations.Noted(fact=fact)
        case ports.PolicyHint() | ports.AnswerCame() | ports.OverridesCame():
            return None
        case ports.Granted(grant=grant):
            return observations.GrantReceived(
                number=grant.number,
                leases=tuple(Lease(**{name: getattr(each, name) for name in _OF_LEASE}) for each in grant.leases),
                used_up=grant.used_up,
                replaces=tuple(id for each in grant.leases for id in each.replaces),
            )
        case ports.Diverged():
            board.alarms["diverged"] = (
                f"the backend holds journal {event.journal} up to {event.backend_through}, with other records after "
                f"{event.agreed} than this device: its storage lost records, or an older image was restored; check it"
            )
            for superseded in ("fork", "backend-ahead"):
                board.alarms.pop(superseded, None)
            log.error("%s", board.alarms["diverged"])
            return None
        case _:
            assert_never(event)


def boot_ms(event_ms: int, *, readers_now_ms: int) -> int:
    """A reader's CLOCK_MONOTONIC stamp on the scale of agent/clock.py, which also counts suspended time."""
    return monotonic_ms() - (readers_now_ms - event_ms)
