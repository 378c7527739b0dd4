"""Wallet and verifier behind one thread: opened at the first need, with the fleet's trust of the bundle in force.

Order of a signature: the wallet chooses a contract, the machine decides and records, and only then is anything signed
(agent/contracts/wallet.py). Nothing here stops a card from being decided: what is wrong with a key store or a file is
the answer to whoever asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agent.cache.cache import PartLost
from agent.clock import Clock
from agent.config import Contracts, Pkcs11, credential
from agent.config import Verifier as Verifying
from agent.core.decisions import Granted
from agent.core.effects import Reply
from agent.core.facts import UseEnd

if TYPE_CHECKING:  # X.509 is loaded when a contract is asked for, not at the start
    from agent.contracts.key_store import KeyStore
    from agent.contracts.messages import AuthorizationAsked, ReceiptAsked, RequestAsked, VerificationAsked
    from agent.contracts.renewals import Renewals
    from agent.contracts.software_keys import SoftwareKeys
    from agent.contracts.verifier import Verifier
    from agent.contracts.wallet import Asked, Wallet
    from agent.core.contracts.installation import InstallationResponse
    from agent.core.contracts.trust import RevocationKey, TrustBundle
    from agent.core.decisions import Decision

log = logging.getLogger("roamkey")
T = TypeVar("T")

TIDY_EVERY_S = 3600.0
DECISION_WITHIN_S = 10.0
USE_ENDS = {
    "CHALLENGE_USED": UseEnd.CHALLENGE_USED,
    "KEY_UNAVAILABLE": UseEnd.KEY_UNAVAILABLE,
    "STORAGE": UseEnd.STORAGE,
}
PASSPHRASE = "contract-keys.passphrase"
PIN = "contract-keys.pin"


class NoWallet(Exception):
    """The configuration gives this device no wallet."""


class DeskShut(Exception):
    """Key store, file or trust cannot be used; the text says which and what to do, never a secret."""


Decide = Callable[["Asked"], Awaitable[Reply]]
Release = Callable[[str, UseEnd], None]


class ContractDesk:
    """`papers` gives the bundle's documents about contracts, by name; it may raise PartLost.

    `release` is told, on the loop's thread, of a permission with which nothing was signed, and why.
    """

    def __init__(
        self,
        settings: Contracts | None,
        *,
        folder: Path,
        clock: Clock,
        papers: Callable[[], tuple[str, Mapping[str, bytes]]],
        verifying: Verifying,
        release: Release,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._clock = clock
        self._papers = papers
        self._verifying = verifying
        self._release = release
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="contracts")
        self._keys: KeyStore | None = None  # a token lets one process in once, also when the wallet fails to open
        self._wallet: Wallet | None = None
        self._verifier: Verifier | None = None
        self._trust: tuple[str, TrustBundle] | None = None
        self._renewals: Renewals | None = None
        self._deciding: Future[Reply] | None = None
        self._is_closed = False

    @property
    def has_wallet(self) -> bool:
        return self._settings is not None

    async def contracts(self) -> list[dict[str, Any]]:
        return await self._run(self._list)

    async def sign(self, asked: AuthorizationAsked, decide: Decide) -> dict[str, Any]:
        """Raises what `decide` raises: then nothing was decided, and nothing signed."""
        loop = asyncio.get_running_loop()
        return await self._run(lambda: self._sign(asked, decide, loop))

    async def sign_receipt(self, asked: ReceiptAsked, decide: Decide) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        return await self._run(lambda: self._sign_receipt(asked, decide, loop))

    async def install(self, response: InstallationResponse, priority: int | None = None) -> dict[str, Any]:
        return await self._run(lambda: self._install(response, priority))

    async def ask_for_contract(self, asked: RequestAsked) -> dict[str, Any]:
        return await self._run(lambda: self._ask_for_contract(asked))

    async def remove(self, fingerprint: str) -> bool:
        return await self._run(lambda: self._remove(fingerprint))

    async def verify(self, asked: VerificationAsked) -> dict[str, Any]:
        return await self._run(lambda: self._verify(asked))

    async def care(self) -> None:
        """For ever: put away what newer contracts have superseded."""
        while True:
            try:
                await self._run(self._tidy)
            except (DeskShut, OSError) as error:
                log.error("contracts: %s", error)
            await asyncio.sleep(TIDY_EVERY_S)

    def close(self) -> None:
        """Whoever still waits for a decision gets none, and signs nothing."""
        self._is_closed = True
        if self._deciding is not None:
            self._deciding.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    # On the thread

    def _guarded(self, work: Callable[[], T]) -> T:
        from agent.contracts.key_store import KeyStoreError
        from agent.contracts.shelf import ShelfDamaged

        try:
            return work()
        except (KeyStoreError, ShelfDamaged) as error:
            raise DeskShut(str(error)) from error
        except PartLost as error:
            raise DeskShut(
                f"whose contracts to trust cannot be read, the next policy update mends it: {error}"
            ) from error
        except OSError as error:
            raise DeskShut(f"the contracts' folder {self._folder} cannot be used ({error.strerror})") from error

    def _list(self) -> list[dict[str, Any]]:
        from agent.contracts.messages import contract_document
        from agent.core.contracts.renewal import next_attempt
        from agent.core.contracts.trust import moment_of

        wallet, now = self._open_wallet(), self._clock.now()
        states = wallet.states(now=now, remembered=self._revoked())
        told = []
        for each in wallet.contracts:
            chance = int(each.fingerprint[:8], 16) / 2**32
            attempts = self._open_renewals().of(each.fingerprint)
            due = next_attempt(each, attempts, moment=moment_of(now), chance=chance)
            told.append(contract_document(each, states[each.fingerprint]) | {"renew_from": due.isoformat()})
        return told

    def _sign(self, asked: AuthorizationAsked, decide: Decide, loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
        from agent.contracts.messages import authorization_document
        from agent.contracts.wallet import Authorization, NotSigned

        replies: list[Reply] = []

        def permit(question: Asked) -> Decision:
            replies.append(self._decided(decide(question), loop))
            return replies[-1].decision

        answer: Authorization | NotSigned | None = None
        try:
            answer = self._open_wallet().sign_authorization(
                asked.id,
                asked.challenge,
                context=asked.context,
                permit=permit,
                now=self._clock.now(),
                wanted=asked.wanted,
                remembered=self._revoked(),
            )
        finally:
            if not isinstance(answer, Authorization):
                why = UseEnd.FAILED if answer is None else USE_ENDS.get(answer.obstruction, UseEnd.FAILED)
                for reply in replies:
                    if isinstance(reply.decision, Granted):
                        loop.call_soon_threadsafe(self._release, reply.decision_id, why)
        told = answer.decision if isinstance(answer, NotSigned) and answer.decision is not None else None
        decided = [reply.decision_id for reply in replies if told is None or reply.decision is told]
        return authorization_document(answer) | {"decision": decided[-1] if decided else None}

    def _sign_receipt(self, asked: ReceiptAsked, decide: Decide, loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
        from agent.contracts.messages import authorization_document

        replies: list[Reply] = []

        def permit(question: Asked) -> Decision:
            replies.append(self._decided(decide(question), loop))
            return replies[-1].decision

        answer = self._open_wallet().sign_metering_receipt(
            asked.request,
            fingerprint=asked.fingerprint,
            within=asked.decision,
            context=asked.context,
            permit=permit,
            now=self._clock.now(),
            remembered=self._revoked(),
        )
        return authorization_document(answer) | {"decision": replies[-1].decision_id if replies else None}

    def _decided(self, question: Awaitable[Reply], loop: asyncio.AbstractEventLoop) -> Reply:
        """The machine decides and records on its own loop; this thread waits for that, and not for ever."""

        async def within_time() -> Reply:
            async with asyncio.timeout(DECISION_WITHIN_S):
                return await question

        self._deciding = asyncio.run_coroutine_threadsafe(within_time(), loop)
        if self._is_closed:
            self._deciding.cancel()
        try:
            return self._deciding.result()
        except CancelledError as error:
            raise DeskShut("the service stops: nothing was signed") from error
        finally:
            self._deciding = None

    def _install(self, response: InstallationResponse, priority: int | None) -> dict[str, Any]:
        from agent.contracts.messages import installation_document
        from agent.contracts.wallet import Installed
        from agent.core.contracts.contract import masked

        wallet = self._open_wallet()
        answer = wallet.install(
            response,
            bundle=self._bundle(),
            now=self._clock.now(),
            remembered=self._revoked(),
            priority=priority,
        )
        if isinstance(answer, Installed):
            log.info("contract %s %s", masked(answer.contract), "is here already" if answer.repeated else "installed")
        else:
            log.warning("no contract installed: %s", answer.obstacle)
        return installation_document(answer)

    def _ask_for_contract(self, asked: RequestAsked) -> dict[str, Any]:
        """Counted as an attempt to renew whatever is due: the next one waits longer."""
        from agent.contracts.messages import request_document
        from agent.contracts.wallet import NotSigned
        from agent.core.contracts.trust import moment_of

        wallet = self._open_wallet()
        answer = wallet.sign_installation_request(
            asked.id, provisioning_certificate=asked.provisioning_certificate, roots=asked.roots
        )
        if not isinstance(answer, NotSigned):
            self._open_renewals().asked(wallet.contracts, at=moment_of(self._clock.now()))
        return request_document(answer)

    def _remove(self, fingerprint: str) -> bool:
        removed = self._open_wallet().remove(fingerprint)
        if removed:
            log.info("contract with certificate %s removed", fingerprint[:8])
        return removed

    def _verify(self, asked: VerificationAsked) -> dict[str, Any]:
        from agent.contracts.verdicts import verdict_document
        from agent.core.contracts.verification import prove_possession

        verifier = self._open_verifier()
        verifier.bundle = self._bundle()
        verdict = verifier.verify(asked.chain, claimed=asked.claimed, now=self._clock.now(), stapled=asked.stapled)
        if asked.proof is not None and asked.challenge is not None:
            verdict = prove_possession(verdict, challenge=asked.challenge, proof=asked.proof)
        return verdict_document(verdict)

    def _tidy(self) -> None:
        self._open_wallet().tidy(now=self._clock.now())

    def _open_wallet(self) -> Wallet:
        from agent.contracts.wallet import Wallet

        if self._settings is None:
            raise NoWallet("this device has no wallet: add a [contracts] section to its configuration")
        if self._keys is None:
            self._keys = open_keys(self._settings, self._folder)
        if self._wallet is None:
            self._wallet = Wallet(self._folder / "wallet", self._keys)
        return self._wallet

    def _open_renewals(self) -> Renewals:
        """After the wallet, which makes the folder."""
        from agent.contracts.renewals import Renewals

        if self._renewals is None:
            self._renewals = Renewals(self._folder / "wallet" / "renewals.json")
        return self._renewals

    def _open_verifier(self) -> Verifier:
        from agent.contracts.verifier import Verifier
        from agent.core.contracts.trust import Ladder

        if self._verifier is None:
            days = self._verifying
            ladder = Ladder(fresh_for=timedelta(days=days.fresh_days), usable_for=timedelta(days=days.usable_days))
            self._verifier = Verifier(self._folder / "verifier", bundle=self._bundle(), ladder=ladder)
        return self._verifier

    def _bundle(self) -> TrustBundle:
        """Read once for each bundle. What cannot be read is never taken for an empty list of revocations."""
        from agent.contracts.trust_documents import read_trust

        fingerprint, papers = self._papers()
        if self._trust is None or self._trust[0] != fingerprint:
            self._trust = (fingerprint, read_trust(papers))
        return self._trust[1]

    def _revoked(self) -> frozenset[RevocationKey]:
        return self._bundle().revoked | self._open_verifier().known


def open_keys(settings: Contracts, folder: Path) -> KeyStore:
    """Raises KeyStoreError: nothing is signed without the key store that was configured."""
    if settings.pkcs11 is None:
        return open_files(settings, folder)
    from agent.contracts.pkcs11_keys import Pkcs11Keys

    pin = read_pin(settings.pkcs11)
    return Pkcs11Keys(module=settings.pkcs11.module, token=settings.pkcs11.token, pin=pin)


def read_pin(settings: Pkcs11) -> str:
    from agent.contracts.key_store import KeyStoreError

    path = settings.pin or credential(PIN) or Path("/etc/roamkey") / PIN
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyStoreError(
            f"the token's PIN {path} cannot be read ({type(error).__name__}): pass it as the systemd credential {PIN}"
        ) from error


def inspect_keys(settings: Contracts, folder: Path) -> str:
    """What the key store is and holds, without changing it: a token's PIN is not tried, since tokens lock.

    Raises KeyStoreError with what is wrong and what to do.
    """
    from agent.contracts.wallet import PROVISIONING_KEY

    if settings.pkcs11 is not None:
        from agent.contracts.pkcs11_keys import find_token

        read_pin(settings.pkcs11)
        return find_token(settings.pkcs11.module, settings.pkcs11.token)
    keys = open_files(settings, folder)
    names = keys.names()
    for name in sorted(names):
        keys.point(name)
    if PROVISIONING_KEY not in names:
        return "no vehicle key yet: roamkey contract provision"
    return f"keys in files, the vehicle's and {len(names) - 1} of contracts, all open with the passphrase"


def open_files(settings: Contracts, folder: Path) -> SoftwareKeys:
    from agent.contracts.software_keys import SoftwareKeys, read_passphrase

    path = settings.passphrase or credential(PASSPHRASE) or Path("/etc/roamkey") / PASSPHRASE
    return SoftwareKeys(folder=folder / "keys", passphrase=read_passphrase(path))
