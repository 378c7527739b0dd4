"""The place for a certified wallet reader: what a plug-in verified is an identity, and its faults are outages."""

from __future__ import annotations

import asyncio
from importlib.metadata import EntryPoint

import pytest

from agent.core.credentials import Assurance as Known
from agent.core.credentials import wallet_reference
from agent.core.policy import Token
from agent.identity import Identity
from drivers.readers import wallets
from drivers.readers.reader import Assurance, Technology
from drivers.readers.wallets import PluggedReader, Verified, WalletUnknown, open_wallet
from tests.readers.witness import watched

PASS = Verified(payload=b"pass 4711 of anna", scheme="Apple VAS")


class VirtualWallet:
    """A certified reader as its maker's program would be."""

    model, firmware = "virtual wallet reader", "1.0"

    def __init__(self, name: str, port: str) -> None:
        self.shown: list[str] = []
        self.orders: asyncio.Queue[Verified | Exception | None] = asyncio.Queue()

    async def run(self, tell):
        while True:
            order = await self.orders.get()
            if isinstance(order, Exception):
                raise order
            tell(order)

    async def signal(self, feedback, text):
        self.shown.append(text)


def a_reader() -> tuple[PluggedReader, list[VirtualWallet]]:
    opened: list[VirtualWallet] = []

    def open_one(name: str, port: str) -> VirtualWallet:
        opened.append(VirtualWallet(name, port))
        return opened[-1]

    return PluggedReader("phone", opened_by=open_one, port="/nowhere"), opened


def run(scenario):
    asyncio.run(asyncio.wait_for(scenario(), 20))


@pytest.mark.slow
def test_a_verified_pass_is_seen_until_it_has_gone():
    async def scenario():
        reader, opened = a_reader()
        async with watched(reader) as witness:
            await witness.until(lambda w: bool(w.found))
            opened[0].orders.put_nowait(PASS)
            await witness.until(lambda w: len(w.seen) >= 2)
            (card,) = witness.seen[0].cards
            assert (card.technology, card.assurance) == (Technology.WALLET, Assurance.AUTHENTICATED)
            opened[0].orders.put_nowait(None)
            await witness.until(lambda w: sum(not event.cards for event in w.seen) == 4)
            await reader.signal("granted", "Charging allowed")
            assert opened[0].shown == ["Charging allowed"]

    run(scenario)


def test_a_failing_program_is_an_outage_and_is_opened_again():
    async def scenario():
        reader, opened = a_reader()
        async with watched(reader) as witness:
            await witness.until(lambda w: bool(w.found))
            opened[0].orders.put_nowait(KeyError("04A23B4C5D6080"))
            await witness.until(lambda w: len(w.found) == 2)
            assert len(witness.lost) == 1
            assert "04A23B4C5D6080" not in repr(witness.lost)

    run(scenario)


@pytest.mark.parametrize("payload", [b"", b"x" * 257])
def test_a_payload_of_no_sense_is_not_taken(payload):
    async def scenario():
        reader, opened = a_reader()
        async with watched(reader) as witness:
            await witness.until(lambda w: bool(w.found))
            opened[0].orders.put_nowait(Verified(payload=payload, scheme="?"))
            opened[0].orders.put_nowait(PASS)
            await witness.until(lambda w: bool(w.seen))
            assert witness.seen[0].cards[0].uid == PASS.payload

    run(scenario)


def test_a_pass_names_its_token_and_no_card_of_the_same_bytes_does():
    token = Token(reference=wallet_reference(b"k" * 32, PASS.payload), label="anna's phone", group="g")
    identity = Identity(key=b"k" * 32, lookup={token.reference: token}.get)
    card = wallets.Card(uid=PASS.payload, technology=Technology.WALLET, assurance=Assurance.AUTHENTICATED)
    presented = identity.of(card)
    assert presented.token == token
    assert presented.credential.assurance is Known.AUTHENTICATED
    same_bytes = wallets.Card(uid=PASS.payload, technology=Technology.ISO14443A, assurance=Assurance.STATIC)
    assert identity.of(same_bytes).token is None
    assert "4711" not in repr(card) + str(card) + repr(PASS)


def test_plug_ins_are_found_by_name_and_missing_ones_are_named(monkeypatch):
    point = EntryPoint(name="virtual", value=f"{__name__}:VirtualWallet", group=wallets.GROUP)
    monkeypatch.setattr(wallets, "entry_points", lambda group: (point,))
    assert open_wallet("phone", plugin="virtual", port="").name == "phone"
    with pytest.raises(WalletUnknown, match="installed: virtual"):
        open_wallet("phone", plugin="other", port="")


def test_check_says_whether_plug_ins_and_card_keys_are_there(tmp_path):
    from agent.card_keys import CardKeyBox, read_seal
    from agent.config import Cards, Wallet
    from agent.environment import Verdict, usable, wallet

    assert wallet(Wallet(name="phone", plugin="missing", charger="bay")).verdict is Verdict.BAD
    assert Cards(keys=tmp_path / "card.keys").seal is None
    found = usable("card keys", tmp_path, lambda path: CardKeyBox(path, seal=read_seal(path), token_key=b"k" * 32))
    assert found.verdict is Verdict.BAD


def test_a_configured_plug_in_stands_for_a_charger_like_any_reader(tmp_path, monkeypatch):
    from agent.config import load
    from agent.runtime import setup_of, wallets_of

    point = EntryPoint(name="virtual", value=f"{__name__}:VirtualWallet", group=wallets.GROUP)
    monkeypatch.setattr(wallets, "entry_points", lambda group: (point,))
    (tmp_path / "roamkey.toml").write_text(
        '[device]\nfleet = "acme"\nname = "van"\n[[wallet]]\nname = "phone"\nplugin = "virtual"\ncharger = "bay"\n'
        '[[charger]]\nname = "bay"\n'
    )
    config = load(tmp_path / "roamkey.toml")
    assert list(wallets_of(config)) == ["phone"]
    assert setup_of(config).readers == {"phone": "bay"}
