"""What a card that proves itself costs, in software: at a simulated PN532 through nfcpy, and without any reader.

No antenna and no card: their time comes on top. The chip and the card are simulated in the same process, so their share
is in every figure, also in the peer's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import firmware_profiles
from agent.cache.tokens import TokenTable, build_table
from agent.core.aliases import Form, published
from agent.core.credentials import alias_reference, reference
from agent.core.policy import Token
from agent.identity import Identity
from drivers.cards import sdm
from drivers.cards.proof import CardKey, NoKeys, Scheme, true_uid
from drivers.cards.virtual_desfire import VirtualDesfire
from drivers.cards.virtual_ntag424 import VirtualNtag424
from drivers.readers.pn532 import _nfc, _Polling
from drivers.readers.pn532_simulator import Pn532Simulator
from drivers.readers.pn532_transport import Pn532Transport
from drivers.readers.reader import Assurance, Card, Technology
from drivers.readers.reader import Form as Told
from drivers.readers.stop import Stop
from drivers.readers.virtual_cards import IsoDepCard
from tests.benchmarks.measurement import Bench, Benchmark, Pairs, Row, spread

UID = bytes.fromhex("04958CAA5C5E80")
KEY = CardKey(scheme=Scheme.DESFIRE_EV2, key_no=2, key=bytes(range(16)), application=bytes.fromhex("F51234"))
TARGET_MS = "<= 10 ms"
WARM_UP = 5


def measure(bench: Bench) -> Sequence[Row]:
    return [*at_the_reader(bench.size(1_000, 30)), *alone(bench.size(2_000, 50)), *aliases(bench, 20_000, 500)]


def at_the_reader(times: int) -> list[Row]:
    """From the card's selection to its true UID, ours and nfcpy's blocks in turn over the same line."""
    pairs = Pairs()
    with a_card_on_a_pn532() as (polling, frontend):
        for number in range(times + WARM_UP):
            ours = took_ms(lambda: true_uid(polling._conversation(frontend).transceive, KEY))
            peer = took_ms(lambda: true_uid(nfcpys_own(frontend), KEY))
            if number >= WARM_UP:
                pairs.add(ours, peer)
    note = f"22 chip commands over a pseudo-terminal; ours {spread(pairs.ours, 2)} ms"
    ours_p99, peers_p99 = (statistics.quantiles(each, n=100)[98] for each in (pairs.ours, pairs.peers))
    what = "EV2 authentication with the encrypted UID at a PN532"
    return [
        Row(
            name=f"{what}, p50", value=pairs.value, unit="ms", peer="nfcpy's ISO-DEP", peer_value=pairs.peer_value,
            ratio=pairs.ratio, runs=times, note=note, target=TARGET_MS,
        ),
        Row(
            name=f"{what}, p99", value=ours_p99, unit="ms", peer="nfcpy's ISO-DEP", peer_value=peers_p99,
            ratio=ours_p99 / peers_p99, runs=times, note=note, target=TARGET_MS,
        ),
    ]  # fmt: skip


def alone(times: int) -> list[Row]:
    """Arithmetic only: both sides of the authentication, and one message of a tag."""
    card = a_desfire()

    def proof() -> None:
        card.reset()
        assert true_uid(card.apdu, KEY) == UID

    tag = VirtualNtag424(UID)
    url, keys = tag.sun_url(), sdm.Keys(meta=bytes(16), file=bytes(16))
    return [
        *quantiles("EV2 authentication with the encrypted UID, both sides, no reader", proof, times),
        *quantiles("one SUN message verified", lambda: sdm.verified(url, keys, sdm.Layout()), times),
    ]


def aliases(bench: Bench, full: int, quick: int) -> list[Row]:
    """A tap whose reader tells four of seven bytes, in a table of that many cards, beside a tap with the whole UID."""
    count, secret = bench.size(full, quick), bytes(32)
    uids = [b"\x04" + number.to_bytes(6, "big") for number in range(0, count << 24, 1 << 24)]
    tokens = []
    for uid in uids:
        parts = published(uid, [Form.FIRST_4])
        known = tuple(alias_reference(secret, form, part.hex()) for form, part in parts.items())
        tokens.append(Token(reference=reference(secret, uid.hex()), label="card", group="g", aliases=known))
    folder = bench.fresh("aliases")
    build_table(folder / "tokens", sorted(tokens, key=lambda token: token.reference))
    table = TokenTable(folder / "tokens", shard=lambda reference: b"")
    identity = Identity(key=secret, lookup=table.get, lookup_alias=table.alias)
    pairs = Pairs()
    for uid in uids[:: max(1, count // 1_000)]:
        part = Card(uid=uid[:4], technology=Technology.ISO14443A, assurance=Assurance.LOSSY, forms=(Told.FIRST_4,))
        whole = Card(uid=uid, technology=Technology.ISO14443A, assurance=Assurance.STATIC)
        pairs.add(took_ms(lambda part=part: identity.of(part)), took_ms(lambda whole=whole: identity.of(whole)))
    table.close()
    return [
        Row(
            name="a card told by four of its seven bytes, looked up", value=1e3 * pairs.value, unit="us",
            peer="told whole", peer_value=1e3 * pairs.peer_value, ratio=pairs.ratio, runs=len(pairs.ours),
            note=f"{count} cards, references of the parts published with them", target="<= 1 ms",
        )
    ]  # fmt: skip


def quantiles(what: str, once: Callable[[], object], times: int) -> list[Row]:
    taken = [took_ms(once) for _ in range(times + WARM_UP)][WARM_UP:]
    cuts, note = statistics.quantiles(taken, n=100), f"{spread(taken, 3)} ms"
    return [
        Row(name=f"{what}, p50", value=cuts[49], unit="ms", runs=times, note=note),
        Row(name=f"{what}, p99", value=cuts[98], unit="ms", runs=times, note=note),
    ]


def took_ms(act: Callable[[], object]) -> float:
    began = time.perf_counter_ns()
    act()
    return (time.perf_counter_ns() - began) / 1e6


def a_desfire() -> VirtualDesfire:
    card = VirtualDesfire(UID)
    card.install(KEY.application, {0: bytes(16), KEY.key_no: KEY.key})
    return card


@contextmanager
def a_card_on_a_pn532() -> Iterator[tuple[_Polling, Any]]:
    stop = Stop()
    with Pn532Simulator() as chip:
        chip.present(IsoDepCard(a_desfire()))
        transport = Pn532Transport(chip.port, stop)
        polling = _Polling("bench", firmware_profiles.load("readers/pn532_hsu"), transport, stop, NoKeys())
        frontend, _ = polling._opened()
        try:
            yield polling, frontend
        finally:
            polling._put_to_sleep(frontend)
            transport.close()


def nfcpys_own(frontend: Any) -> Callable[[bytes], bytes]:
    """The same selection, and nfcpy's blocks in place of ours."""
    target = frontend.sense(_nfc().clf.RemoteTarget("106A"), iterations=1)
    tag = import_module("nfc.tag").activate(frontend, target)
    return lambda command: bytes(tag.transceive(command))


BENCHMARK = Benchmark(name="cards", about="cards that prove themselves, and cards told in part", measure=measure)
