"""The composition root: makes every part from the configuration, joins them and runs them until told to stop.

Order of start: journal and policy first, so that the first tap of the first second is decided; then readers, chargers
and the network, for which nothing waits. Order of stop: machine, readers and network, journal.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from dataclasses import asdict, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from agent import views
from agent.bundled_profiles import FittedReader, ReaderProfiles
from agent.cache.cache import PolicyCache
from agent.cache.contents import KeyUse
from agent.cache.examination import in_a_process
from agent.cache.parts import PartLost
from agent.care import JournalCare
from agent.certificate_watch import CertificateWatch
from agent.clock import Clock, SystemClock
from agent.config import Config
from agent.config import Reader as ReaderSettings
from agent.contract_desk import ContractDesk
from agent.core import observations
from agent.core.agent import Agent
from agent.core.contracts.emaid import names_of
from agent.core.effects import Effect, Reply
from agent.core.facts import UseEnd
from agent.core.instants import ClockQuality, Instant
from agent.core.memory import Setup, Timing
from agent.core.observations import Observation, Presented
from agent.core.positions import Position
from agent.core.prices import plain_prices
from agent.core.quotes import Quote
from agent.core.requests import Place, Signs, Source, Told
from agent.core.sessions import Session, fold
from agent.core.whereabouts import Fix
from agent.edge import from_charger, from_meter, from_reader, from_receiver, from_uplink
from agent.enrolment import Enrolment, tls_of
from agent.evidence.collection import documents_of, span_of, told
from agent.first_root import RootUnusable, read_root
from agent.floor import FloorFile
from agent.identity import Identity
from agent.journal import Journal, StorageFull
from agent.listeners import Lines, Listeners
from agent.live_desk import LiveDesk
from agent.notify import Notifier
from agent.ocpi.quotes import QuoteUnfit, quote_of, read_quote_file
from agent.past import ended_lately, history_of, holdings_of
from agent.performer import Performer
from agent.reader_lines import line_of
from agent.refusals import is_worth_telling
from agent.service import Service
from agent.spent_codes import SpentCodes
from agent.store import Store
from agent.thrift import give_back
from agent.updates import PolicyUpdates
from agent.vault import Vault
from agent.wire import open_envelope
from drivers.chargers import open_charger
from drivers.chargers.api import ApiCharger, Asked
from drivers.chargers.charger import Charger, ChargerEvent, MeterSigned
from drivers.positions.receiver import Receiver, ReceiverEvent
from drivers.readers import open_reader
from drivers.readers.reader import Reader, ReaderEvent, card_from_text
from firmware_profiles import load as load_profile
from firmware_profiles.profile import ProfileError
from sync.backoff import Backoff
from sync.batch import Codec
from sync.carriers import Carrier, FolderCarrier
from sync.link import LinkSettings, Protocol
from sync.ports import (
    AnswerCame,
    Connected,
    Disconnected,
    Diverged,
    OverridesCame,
    PolicyHint,
    Quarantined,
    Sealed,
    UplinkEvent,
)
from sync.uplink import Uplink, UplinkSettings

if TYPE_CHECKING:
    from agent.contracts.wallet import Asked as ContractAsked
    from drivers.cards.proof import CardKeys
    from firmware_profiles.profile import Profile

log = logging.getLogger("roamkey")

VERSION = version("roamkey")

GOODBYE_S = 2.0
REPLY_WITHIN_S = 10.0


class UnknownDevice(Exception):
    """A reader or charger that is not in the configuration was named."""


class Runtime:
    """Everything that runs, and what the local API may ask of it."""

    def __init__(
        self, config: Config, *, clock: Clock | None = None, after: Callable[[Effect], None] = lambda effect: None
    ) -> None:
        self.config = config
        self.clock: Clock = clock or SystemClock(trusted=config.time.trust == "system")
        floor = FloorFile(config.state_folder / "clock.floor")
        proven = floor.read()
        if proven is not None:
            self.clock.raise_floor(proven)
        self.spent_codes = SpentCodes(config.state_folder / "break-glass.spent")
        self.store = Store()
        self.care = JournalCare(
            store=self.store,
            clock=self.clock,
            floor=floor,
            retain=timedelta(days=config.journal.retain_days),
            is_busy=lambda: not self.service.inbox.empty(),
        )
        self.listeners = Listeners()
        self.vault = Vault.open(config.state_folder / "vault", token_key=config.token_key_file, stand_in=True)
        self.cache = self._opened_cache()
        self.identity = Identity(
            key=self.vault.token_key, lookup=self.cache.lookup, lookup_alias=self.cache.lookup_alias
        )
        keys = card_keys_of(config, self.vault.token_key)
        self.contracts = ContractDesk(
            config.contracts,
            folder=config.contracts_folder,
            clock=self.clock,
            papers=self._trust_papers,
            verifying=config.verifier,
            release=self._contract_released,
        )
        self.profiles = ReaderProfiles(self._bundled_profiles, folder=config.profiles.folder)
        self.fitted = [
            FittedReader(
                each.name,
                profile=self.profiles.at_hand(each.profile),
                fit=partial(_fitted, each, keys),
            )
            for each in config.reader
        ]
        self.readers: dict[str, Reader] = {each.name: each for each in self.fitted}
        self.readers |= wallets_of(config)
        self.chargers: dict[str, Charger] = {each.name: self._charger(each.name) for each in config.charger}
        self.receiver = receiver_of(config)
        self._tasks: asyncio.TaskGroup | None = None
        self._loop: asyncio.AbstractEventLoop
        self.service = Service(
            agent=Agent(setup_of(config)),
            performer=Performer(
                store=self.store,
                seal=self._seal,
                readers=self.readers,
                chargers=self.chargers,
                spawn=self._spawn,
                on_records=self._on_records,
                on_code=self.spent_codes.note,
                after=after,
            ),
            clock=self.clock,
            notifier=Notifier(),
        )
        if self.vault.fault is not None:
            self.service.board.alarms["device-key"] = (
                f"{self.vault.fault}; until then vault/stand-in.key signs, which the backend does not know"
            )
            log.error("%s", self.service.board.alarms["device-key"])
        self.tls = tls_of(config)
        self.certificate = None if self.tls is None else CertificateWatch(self.tls, self.service.board, self.clock)
        self.uplink = self._uplink()
        if self.uplink is not None:
            self.service.on_storage = self.uplink.refresh_status
        device = config.device
        self.live = LiveDesk(
            fleet=device.fleet,
            device=device.name,
            clock=self.clock,
            keys=self._keys_for,
            send=self._send_question,
            quiet=self._no_question,
            tell=self.service.tell,
            alarm=self.service.board.alarms.__setitem__,
        )
        self.service.performer.on_ask = self.live.ask
        self.updates = PolicyUpdates(
            cache=self.cache,
            carriers=self._carriers(),
            clock=self.clock,
            tell=self.service.tell,
            activated=self._on_new_bundle,
            every_s=config.bundle.every_s,
        )

    async def run(self, stop: asyncio.Event, front: AbstractAsyncContextManager[None]) -> None:
        """Until `stop` is set, or a part dies: then every other part is ended and the error is raised.

        `front` is where the local API is served, entered once decisions can be made.
        """
        self._loop = asyncio.get_running_loop()
        await self._open()
        try:
            async with front, asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                parts = [tasks.create_task(part, name=name) for name, part in self._parts().items()]
                work = tasks.create_task(self.service.work(), name="service")
                self.service.ready(f"deciding; {len(self.readers)} readers, {len(self.chargers)} chargers")
                give_back()
                await stop.wait()
                self.service.stop()
                await work
                await self._last_words()
                self.listeners.dismiss()
                for part in parts:
                    part.cancel()
        finally:
            self.care.note_time(at_least=timedelta(0))
            self.contracts.close()
            await self.store.close()
            self.cache.close()

    async def _last_words(self) -> None:
        """While the backend listens, let it have what was sealed last; a stop waits for nobody longer than this."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                while self.service.board.link.state == "online" and await self.store.ask(backlog) > 0:
                    await asyncio.sleep(0.05)

    def _parts(self) -> dict[str, Coroutine[object, object, None]]:
        parts: dict[str, Coroutine[object, object, None]] = {}
        for name, reader in self.readers.items():
            parts[f"reader {name}"] = reader.run(partial(self._from_thread, self._on_reader))
        for name, charger in self.chargers.items():
            parts[f"charger {name}"] = charger.run(partial(self._from_thread, self._on_charger))
            parts[f"commands to {name}"] = self.service.performer.command_charger(name)
        if self.receiver is not None:
            parts["positions"] = self.receiver.run(self._on_receiver)
        if self.uplink is not None:
            parts["uplink"] = self.uplink.run()
        if self.certificate is not None:
            parts["certificate watch"] = self.certificate.run()
        parts["policy updates"] = self.updates.run()
        parts["journal care"] = self.care.run()
        if self.contracts.has_wallet:
            parts["contract care"] = self.contracts.care()
        return parts

    async def _open(self) -> None:
        """Everything that a decision needs, and nothing else: the network comes later."""
        source = f"/fleets/{self.config.device.fleet}/devices/{self.config.device.name}"
        active = self.cache.active
        for finding in self.cache.findings:
            log.warning("policy cache: %s", finding)
        if active is not None:
            self.clock.raise_floor(active.policy.confirmed)
        await self.store.open(
            lambda: Journal.open(
                self.config.state_folder / "journal",
                source=source,
                now=self.clock.now(),
                max_bytes=self.config.journal.max_bytes,
            )
        )
        if active is not None:
            await self.service.handle(
                observations.PolicyActivated(policy=active.policy, tokens=active.token_count, announce=False)
            )
        self.service.owes_time = await self.store.ask(partial(sealed_in_doubt, boot=self.clock.now().boot))
        sessions = (*await self.store.ask(ended_lately), *await self.store.ask(open_sessions))
        history = self.spent_codes.remembered(await self.store.ask(history_of))
        holdings = await self.store.ask(holdings_of)
        woken = observations.Woken(version=VERSION, sessions=sessions, history=history, holdings=holdings)
        await self.service.handle(woken)

    # What the local API asks

    def present(self, uid: str) -> Presented:
        return self.identity.of(card_from_text(uid))

    async def decide_contract(self, asked: ContractAsked, told: Told, position: Position | None = None) -> Reply:
        """The fleet's policy on this contract in this session, recorded before the answer. Raises NotStored.

        A PIN or a code is tried with the first contract only: one wrong PIN is one try.
        """
        if asked.again:
            told = replace(told, pin=None, code=None)
        names = sorted(names_of(asked.contract.emaid), key=lambda name: name != asked.contract.emaid.canonical)
        question = observations.DecisionRequested(
            request=secrets.token_hex(8),
            presented=self.identity.of_contract(names),
            charger=None,
            place=Place(
                evse=asked.context.evse,
                network=asked.context.network,
                country=asked.context.country,
                position=position,
                source=Source.REQUEST,
                measured_by=None if position is None else Source.REQUEST,
            ),
            told=told,
            signs=Signs(session=asked.context.session, within=asked.within),
        )
        return await self.service.ask(question, question.request)

    def is_contract_session_open(self, decision: str) -> bool:
        use = self.service.agent.state.history.use(decision)
        return use is not None and use.is_open(self.clock.now())

    async def contract_session_ended(self, decision: str) -> bool:
        """False when that decision let no contract sign. Recorded before the answer. Raises NotStored."""
        if self.service.agent.state.history.use(decision) is None:
            return False
        request = secrets.token_hex(8)
        ended = observations.ContractReleased(decision=decision, reason=UseEnd.ENDED, request=request)
        async with asyncio.timeout(REPLY_WITHIN_S):
            await self.service.ask(ended, request)
        return True

    def _contract_released(self, decision: str, why: UseEnd) -> None:
        self.service.tell(observations.ContractReleased(decision=decision, reason=why))

    def require_reader(self, name: str) -> None:
        if name not in self.readers:
            raise UnknownDevice(f"reader {name!r} is not configured; readers: {', '.join(self.readers) or 'none'}")

    def require_charger(self, name: str) -> None:
        if name not in self.chargers:
            raise UnknownDevice(f"charger {name!r} is not configured; chargers: {', '.join(self.chargers) or 'none'}")

    def report(self, name: str, event: ChargerEvent) -> None:
        charger = self.chargers.get(name)
        if not isinstance(charger, ApiCharger):
            ours = [each for each, charger in self.chargers.items() if isinstance(charger, ApiCharger)]
            raise UnknownDevice(f"charger {name!r} does not report here; those that do: {', '.join(ours) or 'none'}")
        charger.report(event)

    def position(self, position: Position) -> None:
        """Where the gateway's own software says that the vehicle is."""
        fix = Fix(
            source=Source.API,
            latitude_udeg=position.latitude_udeg,
            longitude_udeg=position.longitude_udeg,
            accuracy_m=position.accuracy_m,
            measured_ms=self.clock.now().monotonic_ms - (position.age_s or 0) * 1000,
        )
        self.service.tell(observations.Positioned(fix=fix))

    async def status(self) -> dict[str, Any]:
        statistics = asdict(await self.store.ask(lambda journal: journal.statistics()))
        device = {"fleet": self.config.device.fleet, "device": self.config.device.name, "version": VERSION}
        return device | views.status_of(self.service.agent.state, self.service.board, statistics, self.clock.now())

    async def sessions(self, limit: int) -> list[dict[str, Any]]:
        running = [views.running(session, self.clock.now()) for session in self.service.agent.state.open_sessions]
        return [*running, *await self.store.ask(lambda journal: views.finished(journal, limit))]

    async def decision(self, wanted: str) -> dict[str, Any] | None:
        return await self.store.ask(lambda journal: views.decision_of(journal, wanted))

    async def evidence(self, session: str) -> dict[str, Any]:
        """All but the records. Raises NoEvidence."""
        span = await self.store.ask(lambda journal: span_of(journal, session))
        active = self.cache.active
        device, archive = self.config.device, self.cache.archive
        bundles, missing = await asyncio.to_thread(
            documents_of,
            archive,
            deciding=span.fingerprint,
            active=active.policy.fingerprint if active is not None else None,
            device=device.name,
            kid=self.vault.kid,
        )
        roots = await asyncio.to_thread(archive.roots)
        about = {"fleet": device.fleet, "device": device.name, "device_key": self.vault.public}
        return about | told(span, bundles, missing, roots)

    async def journal_page(self, after: int, limit: int) -> dict[str, Any]:
        return await self.store.ask(lambda journal: views.page_of(journal, after, limit))

    def listen(self, backlog: int) -> AbstractContextManager[Lines]:
        return self.listeners.listen(backlog)

    # What the parts tell; on the loop's thread

    def _on_reader(self, event: ReaderEvent) -> None:
        self.service.tell(from_reader(event, self.identity, self.service.board, self.clock.now()))

    def _on_charger(self, event: ChargerEvent) -> None:
        if isinstance(event, MeterSigned):
            seen = from_meter(event, self.vault.token_key)
            if seen is not None:
                self.service.tell(seen)
            return
        self.service.tell(from_charger(event, self.service.board, self.clock.now()))

    def _on_receiver(self, event: ReceiverEvent) -> None:
        seen = from_receiver(event, self.service.board, self.clock.now())
        if seen is not None:
            self.service.tell(seen)

    def _on_uplink(self, event: UplinkEvent) -> None:
        if isinstance(event, PolicyHint | Connected):
            self.updates.hint()
        match event:
            case AnswerCame(token=token):
                self.live.answer_came(token)
            case OverridesCame(payload=payload):
                self.live.overrides_came(payload)
            case Connected():
                self._leave_room_for_questions()
                self.live.connected(up=True)
            case Disconnected():
                self.live.connected(up=False)
        if isinstance(event, Connected):
            self._on_connected(event)
        if isinstance(event, Diverged):
            self._spawn(self._part_ways(event))
        seen = from_uplink(event, self.service.board, self.clock.now())
        if isinstance(event, Quarantined) and seen is not None:
            self._spawn(self._tell_refusal(event, seen))
        elif seen is not None:
            self.service.tell(seen)

    async def _tell_refusal(self, event: Quarantined, seen: Observation) -> None:
        if await is_worth_telling(event, self.store):
            self.service.tell(seen)

    def _on_connected(self, event: Connected) -> None:
        """A renewed certificate has shown that it works, or has not: look at what is in force now."""
        if not event.former_certificate:
            Enrolment.of(self.config).new_one_works()
        if self.certificate is not None:
            self._spawn(self.certificate.look())

    def _keys_for(self, use: KeyUse) -> Mapping[str, str]:
        active = self.cache.active
        return active.keys_for(use) if active is not None else {}

    def _send_question(self, question: bytes, within_s: float) -> None:
        if self.uplink is not None:
            self.uplink.ask(question, within_s=within_s)

    def _leave_room_for_questions(self) -> None:
        if self.uplink is not None:
            self.uplink.leave_room(wanted=bool(self._keys_for(KeyUse.ANSWER)))

    def _no_question(self) -> None:
        if self.uplink is not None:
            self.uplink.answered()

    def _on_new_bundle(self) -> None:
        """The bundle says who may acknowledge records: what waited for that need not wait longer."""
        if self.uplink is not None:
            self.uplink.keys_changed()
        self._leave_room_for_questions()
        self.live.keys_changed()
        for reader, settings in zip(self.fitted, self.config.reader, strict=True):
            try:
                reader.refit(self.profiles.of(settings.profile))
            except ProfileError as error:  # a profile that only the bundle had is not in it any more
                log.error("reader %s goes on as it was: %s", settings.name, error)
        give_back()

    async def _part_ways(self, event: Diverged) -> None:
        """Go on under a new journal id. Without room it is tried again when the backend says it again."""
        with suppress(StorageFull):
            now = self.clock.now()
            if await self.store.ask(lambda each: each.diverge(journal=event.journal, agreed=event.agreed, now=now)):
                log.error("a new journal was begun: this device and the backend had parted after %d", event.agreed)
                self.store.wake_uplink()
                head = await self.store.head()
                self.service.tell(observations.JournalChanged(journal=head.journal))

    def _on_records(self, records: Sequence[Sealed]) -> None:
        for record in records:
            log.debug("sealed %s", views.headline(record.body))
            self.listeners.tell(record.body)

    def _on_command(self, asked: Asked) -> bool:
        """A command for a charger that the gateway's software drives: a line of the event stream."""
        self.listeners.tell(json.dumps({"command": type(asked).__name__, **asdict(asked)}).encode())
        return self.listeners.count > 0

    def _from_thread(self, tell: Callable[[Any], None], event: object) -> None:
        self._loop.call_soon_threadsafe(tell, event)

    # The parts

    def _bundled_profiles(self) -> Mapping[str, bytes]:
        """When the storage lost one, the shipped ones serve until the next update brings it again."""
        try:
            return self.cache.profiles()
        except PartLost as error:
            log.error("the fleet's profiles of readers: %s", error)
            return {}

    def _trust_papers(self) -> tuple[str, Mapping[str, bytes]]:
        """The bundle's documents about contracts and what names that bundle; on the contracts' thread."""
        active = self.cache.active
        return (active.policy.fingerprint if active is not None else "", self.cache.trust_papers())

    def _opened_cache(self) -> PolicyCache:
        """A root that went bad stops no decision: what it vouched for stays in force, and nothing newer is taken."""
        unusable: RootUnusable | None = None
        root = b""
        try:
            root = read_root(self.config.root_file)
        except RootUnusable as error:
            unusable = error
        cache = PolicyCache(
            self.config.state_folder / "policy",
            fleet=self.config.device.fleet,
            root=root,
            key=self.vault.token_key,
            now=self.clock.now(),
            examine=in_a_process,
        )
        if unusable is not None and cache.active is None:
            cache.close()
            raise unusable
        if unusable is not None:
            log.error("no newer policy is taken: %s", unusable)
        return cache

    async def _seal(self, now: Instant) -> list[Sealed]:
        return [await self.store.ask(lambda journal: journal.seal_checkpoint(self.vault, now))]

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        if self._tasks is None:
            work.close()  # nobody to show anything to yet
        else:
            self._tasks.create_task(work)

    def _charger(self, name: str) -> Charger:
        settings = next(each for each in self.config.charger if each.name == name)
        if settings.profile == "api":
            return ApiCharger(name, commands=self._on_command)
        return open_charger(
            name, profile=load_profile(settings.profile, folder=self.config.profiles.folder), port=settings.port
        )

    def _uplink(self) -> Uplink | None:
        settings = self.config.mqtt
        if settings is None:
            log.warning("no [mqtt] section: records stay on this device")
            return None
        if settings.plain:
            log.warning("the connection to the broker is plain: anybody on the way can read and delay it")
        return Uplink(
            UplinkSettings(
                link=LinkSettings(
                    host=settings.host,
                    port=settings.port,
                    client_id=self.config.device.name,
                    tls=self.tls,
                    protocol=None if settings.version == "auto" else Protocol(settings.version),
                    keepalive_s=settings.keepalive_s,
                ),
                fleet=self.config.device.fleet,
                device=self.config.device.name,
                root=settings.root,
                codec=Codec(settings.codec),
                reconnect=Backoff(base_s=settings.backoff_base_s, cap_s=settings.backoff_cap_s),
            ),
            self.store,
            self._service_keys,
            self._on_uplink,
            describe=self._describe,
            grant_keys=self._grant_keys,
        )

    def _service_keys(self) -> Mapping[str, str]:
        """Who may acknowledge records: the keys that the active bundle names. Without a bundle nobody may."""
        active = self.cache.active
        return active.keys if active is not None else {}

    def _grant_keys(self) -> Mapping[str, str]:
        """Who may lend of the fleet's budgets."""
        active = self.cache.active
        return active.keys_for(KeyUse.GRANT) if active is not None else {}

    def _describe(self) -> dict[str, object]:
        """What the retained status topic says of this device; no tokens, no places."""
        now = self.clock.now()
        policy = self.service.agent.state.policy
        board = self.service.board
        return {
            "version": VERSION,
            "clock": now.quality.value,
            "policy_revision": policy.revision if policy is not None else None,
            "readers": {name: health.state for name, health in board.readers.items()},
            "chargers": {name: health.state for name, health in board.chargers.items()},
            "storage": board.storage.state,
            "certificate": board.certificate.state if board.certificate is not None else None,
            "storage_detail": board.storage.detail,
            "backlog": board.backlog,
            "open_sessions": len(self.service.agent.state.open_sessions),
        }

    def _carriers(self) -> dict[str, Carrier]:
        carriers: dict[str, Carrier] = {}
        if self.config.bundle.folder is not None:
            carriers["folder"] = FolderCarrier(self.config.bundle.folder)
        if self.uplink is not None:
            carriers["broker"] = self.uplink.carrier()
        return carriers


def _fitted(settings: ReaderSettings, keys: CardKeys | None, profile: Profile) -> Reader:
    return open_reader(settings.name, profile=profile, port=settings.port, keys=keys, line=line_of(settings))


def wallets_of(config: Config) -> dict[str, Reader]:
    """Raises WalletUnknown."""
    if not config.wallet:
        return {}
    from drivers.readers.wallets import open_wallet

    return {each.name: open_wallet(each.name, plugin=each.plugin, port=each.port) for each in config.wallet}


def card_keys_of(config: Config, token_key: bytes) -> CardKeys | None:
    """Raises VaultError: without its keys a card would be believed for its UID alone."""
    if config.cards is None:
        return None
    from agent.card_keys import CardKeyBox, read_seal

    return CardKeyBox(
        config.card_keys_file,
        seal=read_seal(config.card_seal_file),
        token_key=token_key,
        counters=config.state_folder / "tags.counters",
    )


def setup_of(config: Config) -> Setup:
    sessions = config.sessions
    return Setup(
        version=VERSION,
        readers=config.charger_of,
        chargers={
            each.name: Place(
                evse=each.evse,
                network=each.network,
                country=each.country,
                site=each.site,
                connector=each.connector,
                power_w=each.power_w,
                position=position_of(each.latitude, each.longitude),
                source=Source.CONFIGURATION if each.evse or each.site else None,
                measured_by=Source.CONFIGURATION if each.latitude is not None else None,
            )
            for each in config.charger
        },
        vehicle=config.device.vehicle,
        prices={
            each.name: plain_prices(**each.prices.model_dump()) for each in config.charger if each.prices is not None
        },
        quotes=dict(quotes_of(config)),
        unmetered=frozenset(each.name for each in config.charger if not each.meter),
        break_glass=break_glass_of(config),
        timing=Timing(
            start_timeout_ms=int(sessions.start_timeout_s * 1000),
            stop_timeout_ms=int(sessions.stop_timeout_s * 1000),
            resume_timeout_ms=int(sessions.resume_timeout_s * 1000),
            meter_record_every_ms=int(sessions.meter_record_every_s * 1000),
            ask_timeout_ms=int(sessions.ask_timeout_s * 1000),
            contract_session_s=3600 * (24 if config.contracts is None else config.contracts.session_hours),
        ),
    )


def quotes_of(config: Config) -> Iterator[tuple[str, Quote]]:
    """A tariff that cannot be read is an unknown price, and no reason not to start: `roamkey check` tells it."""
    for each in config.charger:
        if each.tariff is None:
            continue
        try:
            yield each.name, read_quote_file(each.tariff, each.zone)
        except QuoteUnfit as error:
            log.error("charger %s: its price is unknown: %s", each.name, error)


def receiver_of(config: Config) -> Receiver | None:
    if config.gpsd is None:
        return None
    from drivers.positions.gpsd import Gpsd

    return Gpsd(config.gpsd.host, config.gpsd.port, device=config.gpsd.device)


def break_glass_of(config: Config) -> bytes | None:
    """A secret that cannot be read stops no decision: there are no codes then."""
    path = config.break_glass_file
    if path is None:
        return None
    try:
        return bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        log.error("no break-glass codes are taken, %s cannot be used: %s", path, type(error).__name__)
        return None


def position_of(latitude: Decimal | None, longitude: Decimal | None) -> Position | None:
    """Where a fixed charger stands: as sure as its configuration, and never old."""
    if latitude is None or longitude is None:
        return None
    return Position(
        latitude_udeg=int(latitude * 1_000_000), longitude_udeg=int(longitude * 1_000_000), accuracy_m=0, age_s=0
    )


def backlog(journal: Journal) -> int:
    head = journal.head()
    return head.last - head.acknowledged


def sealed_in_doubt(journal: Journal, *, boot: str) -> bool:
    """The newest record is of this boot, and was sealed while nobody knew what time it is."""
    newest = journal.read(journal.head().last - 1, records=1, size_bytes=1)
    envelope = open_envelope(newest[0].body)
    return envelope.boot == boot and envelope.quality is ClockQuality.UNKNOWN


def open_sessions(journal: Journal) -> tuple[Session, ...]:
    folded = (fold(facts, quote_of) for facts in journal.open_sessions())
    return tuple(session for session in folded if session is not None)
