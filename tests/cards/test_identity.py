"""From what a reader tells of a card to whom it names: canonical, by declared forms, or ambiguous and nobody."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

import firmware_profiles
from agent.cache.cache import Ambiguous
from agent.cache.tokens import TokensUnreadable, TokenTable, build_table
from agent.core.aliases import LOSING, Form, published, told_as, whole_readings
from agent.core.credentials import Assurance, CardDoubt, alias_reference, reference
from agent.core.policy import Token
from agent.identity import Identity
from drivers.readers import decoders
from drivers.readers.reader import Assurance as Read
from drivers.readers.reader import Card, Doubt, Technology
from drivers.readers.reader import Form as Told
from firmware_profiles.profile import AliasForm

KEY = b"k" * 32
NXP, TWIN, CLASSIC = "04A23B4C5D6080", "04A23B4C000000", "DEADBEEF"


def a_fleet(tmp_path: Path, *uids: str, forms: tuple[Form, ...] = ()) -> Identity:
    """The real table, built as a device builds it."""
    tokens = []
    for uid in uids:
        parts = published(bytes.fromhex(uid), forms)
        aliases = tuple(alias_reference(KEY, form, part.hex()) for form, part in parts.items())
        tokens.append(Token(reference=reference(KEY, uid), label=uid, group="g", aliases=aliases))
    path = tmp_path / "tokens.sqlite"
    build_table(path, sorted(tokens, key=lambda token: token.reference))
    table = TokenTable(path, shard=lambda reference: b"")
    return Identity(key=KEY, lookup=table.get, lookup_alias=table.alias)


def told(uid: str, *forms: Told, assurance=Read.STATIC, doubt=None) -> Card:
    return Card(uid=bytes.fromhex(uid), technology=Technology.ISO14443A, assurance=assurance, forms=forms, doubt=doubt)


def named(identity: Identity, card: Card) -> str | None:
    presented = identity.of(card)
    return presented.token.label if presented.token is not None else None


def test_the_three_lists_of_forms_are_one():
    assert [form.value for form in Form] == [form.value for form in Told] == list(AliasForm.__args__)


def test_without_declared_forms_only_the_uid_itself_counts(tmp_path):
    fleet = a_fleet(tmp_path, NXP, forms=(Form.FIRST_4,))
    assert named(fleet, told(NXP)) == NXP
    assert named(fleet, told("80605D4C3BA204")) is None
    assert named(fleet, told("04A23B4C", assurance=Read.LOSSY)) is None


def test_a_part_of_a_uid_names_the_one_card_it_fits_by_that_card_s_own_reference(tmp_path):
    fleet = a_fleet(tmp_path, NXP, CLASSIC, forms=(Form.FIRST_4,))
    presented = fleet.of(told("04A23B4C", Told.FIRST_4, assurance=Read.LOSSY))
    assert presented.token is not None
    assert presented.credential.reference == reference(KEY, NXP), "so that the same card stops it at another reader"
    assert presented.credential.assurance is Assurance.LOSSY
    assert named(fleet, told(CLASSIC, Told.FIRST_4, assurance=Read.LOSSY)) == CLASSIC, "a short card loses nothing"


def test_a_part_that_fits_two_cards_is_ambiguous_and_nobody(tmp_path):
    fleet = a_fleet(tmp_path, NXP, TWIN, forms=(Form.FIRST_4,))
    presented = fleet.of(told("04A23B4C", Told.FIRST_4, assurance=Read.LOSSY))
    assert (presented.token, presented.doubt) == (None, CardDoubt.AMBIGUOUS)


def test_a_part_that_is_also_another_card_s_whole_uid_is_ambiguous(tmp_path):
    fleet = a_fleet(tmp_path, NXP, "04A23B4C", forms=(Form.FIRST_4,))
    presented = fleet.of(told("04A23B4C", Told.FIRST_4, assurance=Read.LOSSY))
    assert (presented.token, presented.doubt) == (None, CardDoubt.AMBIGUOUS)


def test_a_reader_that_may_turn_a_uid_round_names_either_but_never_both(tmp_path):
    backwards = bytes.fromhex(NXP)[::-1].hex().upper()
    assert named(a_fleet(tmp_path, NXP), told(backwards, Told.REVERSED)) == NXP
    (tmp_path / "tokens.sqlite").unlink()
    both = a_fleet(tmp_path, NXP, backwards)
    assert both.of(told(backwards, Told.REVERSED)).doubt is CardDoubt.AMBIGUOUS
    assert named(both, told(backwards)) == backwards


def test_a_uid_filled_up_to_eight_bytes_is_found_whatever_its_length(tmp_path):
    fleet = a_fleet(tmp_path, NXP, CLASSIC, "DEADBEEF000000")
    assert named(fleet, told(NXP + "00", Told.PADDED_8)) == NXP
    assert fleet.of(told(CLASSIC + "00000000", Told.PADDED_8)).doubt is CardDoubt.AMBIGUOUS


def test_a_part_that_is_not_published_names_nobody(tmp_path):
    fleet = a_fleet(tmp_path, NXP, forms=())
    presented = fleet.of(told("04A23B4C", Told.FIRST_4, assurance=Read.LOSSY))
    assert (presented.token, presented.doubt) == (None, None)


@pytest.mark.parametrize("doubt", Doubt)
def test_a_doubt_goes_with_the_claim(tmp_path, doubt):
    presented = a_fleet(tmp_path, NXP).of(told(NXP, doubt=doubt))
    assert presented.doubt is CardDoubt(doubt.value)
    assert presented.credential.reference == reference(KEY, NXP)


def test_a_random_uid_is_never_looked_up_and_leaves_no_reference(tmp_path):
    def never(reference):
        raise AssertionError("looked up")

    presented = Identity(key=KEY, lookup=never, lookup_alias=never).of(
        told("08AABBCC", Told.REVERSED, Told.FIRST_4, assurance=Read.RANDOM, doubt=Doubt.PHONE)
    )
    assert (presented.credential.reference, presented.token, presented.doubt) == ("", None, CardDoubt.PHONE)


def test_a_table_that_cannot_be_read_is_said_so(tmp_path):
    def fails(reference):
        raise TokensUnreadable("flash")

    presented = Identity(key=KEY, lookup=lambda reference: None, lookup_alias=fails).of(told("04A23B4C", Told.FIRST_4))
    assert presented.lookup_failed


def test_three_cards_with_one_part_are_as_ambiguous_as_two(tmp_path):
    fleet = a_fleet(tmp_path, NXP, TWIN, "04A23B4C111111", forms=(Form.FIRST_4, Form.LAST_3))
    with pytest.raises(Ambiguous):
        fleet.lookup_alias(alias_reference(KEY, "first_4", "04A23B4C"))
    assert fleet.lookup_alias(alias_reference(KEY, "last_3", "111111")) == reference(KEY, "04A23B4C111111")


def test_a_decayed_row_of_an_alias_is_noticed(tmp_path):
    fleet = a_fleet(tmp_path, NXP, forms=(Form.FIRST_4,))
    path = tmp_path / "tokens.sqlite"
    raw = path.read_bytes()
    alias = bytes.fromhex(alias_reference(KEY, "first_4", "04A23B4C"))
    at = raw.index(alias) + len(alias)
    path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    table = TokenTable(path, shard=lambda reference: b"")
    with pytest.raises(TokensUnreadable, match="damaged"):
        table.alias(alias.hex())
    assert fleet.key == KEY


uids = some.sampled_from((4, 7, 10)).flatmap(lambda size: some.binary(min_size=size, max_size=size))


@given(uid=uids, form=some.sampled_from(Form))
def test_what_a_form_tells_is_undone_or_published(uid, form):
    """No form is lost between the two sides: a reading leads back to its card by the one way or the other."""
    reading = told_as(uid, form) if form is not Form.PADDED_8 or len(uid) <= 8 else uid
    if form in LOSING:
        assert published(uid, [form]).get(form, uid) == reading or len(reading) == len(uid)
    else:
        assert uid in whole_readings(reading, [form])


@settings(max_examples=40)
@given(first=uids, second=uids, form=some.sampled_from(sorted(LOSING)))
def test_two_cards_are_told_alike_or_found_apart(tmp_path_factory, first, second, form):
    """Aliases are injective, or refused: whoever is named is the card that was told."""
    fleet = a_fleet(tmp_path_factory.mktemp("fleet"), *{first.hex().upper(), second.hex().upper()}, forms=(form,))
    for uid in (first, second):
        presented = fleet.of(told(told_as(uid, form).hex(), Told(form.value), assurance=Read.LOSSY))
        if presented.token is None:
            assert presented.doubt is CardDoubt.AMBIGUOUS or form.endswith("reversed")
        else:
            assert presented.token.label == uid.hex().upper()


def test_profiles_that_lose_bytes_declare_how_and_their_cards_carry_it():
    profile = firmware_profiles.load("readers/keba_p30")
    assert decoders.forms_of(profile.uid) == (Told.FIRST_4,)
    accepted = [card for vector in profile.vectors.accept for card in vector.cards or ()]
    decoder = decoders.open_decoder(profile)
    cards = list(itertools.chain.from_iterable(decoder.feed(profile.vectors.accept[0].raw)))
    assert accepted
    for sighting in cards:
        for card in sighting if isinstance(sighting, tuple) else (sighting,):
            assert card.forms == (Told.FIRST_4,)
