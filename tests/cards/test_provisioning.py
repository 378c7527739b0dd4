"""Blank virtual cards get their keys, also when they are torn away in between; afterwards they prove them."""

from __future__ import annotations

import pytest

from drivers.cards import provisioning
from drivers.cards.apdu import CardError, CardTorn
from drivers.cards.diversification import Algorithm, diversified, with_key
from drivers.cards.proof import Scheme, true_uid
from drivers.cards.provisioning import Step, card_set, kind_of, provision, steps_for
from drivers.cards.virtual_desfire import Generation, VirtualDesfire
from drivers.cards.virtual_ntag424 import VirtualNtag424

UID = bytes.fromhex("04958CAA5C5E80")
APPLICATION, MARK = bytes.fromhex("F51234"), b"northwind"
MASTER = bytes(range(16))


def derive(diversifier):
    return diversified(Algorithm.AN10922, with_key(MASTER), diversifier)


def keys_of(scheme, uid=UID):
    return card_set(derive, uid, scheme, application=APPLICATION, mark=MARK)


@pytest.fixture(params=["desfire", "ntag"])
def card(request):
    return VirtualDesfire(UID) if request.param == "desfire" else VirtualNtag424(UID)


def provisioned(card):
    kind = kind_of(card.apdu)
    keys = keys_of(kind.scheme)
    provision(card.apdu, keys, steps_for(card.apdu, kind.scheme, APPLICATION), UID)
    return keys


def test_what_lies_there_is_told_by_its_version():
    found = [kind_of(VirtualDesfire(UID, generation=generation).apdu).scheme for generation in Generation]
    assert found == [Scheme.DESFIRE_EV1, Scheme.DESFIRE_EV2, Scheme.DESFIRE_EV2]
    assert kind_of(VirtualNtag424(UID).apdu).scheme is Scheme.NTAG_424
    assert kind_of(VirtualDesfire(UID).apdu).uid == UID
    assert kind_of(VirtualDesfire(UID, random_id=True).apdu).uid == b""


def test_a_blank_card_proves_its_own_key_afterwards(card):
    keys = provisioned(card)
    for key in (keys.own, keys.introduction, keys.master):
        card.reset()
        assert true_uid(card.apdu, key) == UID


def test_no_two_keys_of_no_two_cards_are_the_same_but_for_the_introduction():
    one, other = keys_of(Scheme.DESFIRE_EV2), keys_of(Scheme.DESFIRE_EV2, uid=UID[:-1] + b"\x81")
    apart = [key.key for keys in (one, other) for key in (keys.master, keys.own)] + [one.introduction.key]
    assert len(set(apart)) == 5
    assert one.introduction == other.introduction
    assert MASTER not in apart


def test_looking_changes_nothing(card):
    before = {aid: {number: key.octets for number, key in keys.items()} for aid, keys in card.applications.items()}
    steps = steps_for(card.apdu, kind_of(card.apdu).scheme, APPLICATION)
    assert steps[-3:] == (Step.INTRODUCTION, Step.OWN, Step.MASTER)
    after = {aid: {number: key.octets for number, key in keys.items()} for aid, keys in card.applications.items()}
    assert before == after


def test_doing_it_again_does_nothing(card):
    provisioned(card)
    card.reset()
    assert steps_for(card.apdu, kind_of(card.apdu).scheme, APPLICATION) == ()
    card.reset()
    provisioned(card)


@pytest.mark.parametrize("gone_after", range(9))
def test_a_card_torn_away_at_any_command_is_finished_at_the_next_attempt(card, gone_after):
    kind = kind_of(card.apdu)
    card.reset()
    steps = steps_for(card.apdu, kind.scheme, APPLICATION)
    said = 0

    def torn(command):
        nonlocal said
        said += 1
        if said > gone_after:
            raise CardTorn("gone")
        return card.apdu(command)

    with pytest.raises(CardTorn):
        provision(torn, keys_of(kind.scheme), steps, UID)
    card.reset()
    provisioned(card)


def test_a_card_of_another_office_is_left_alone(card):
    provisioned(card)
    card.reset()
    other = card_set(
        lambda m: diversified(Algorithm.AN10922, with_key(b"other master key"), m),
        UID,
        kind_of(card.apdu).scheme,
        application=APPLICATION,
        mark=MARK,
    )
    card.reset()
    with pytest.raises(CardError):
        provision(card.apdu, other, steps_for(card.apdu, other.own.scheme, APPLICATION), UID)


def test_an_ev1_card_is_not_given_keys_here_and_proves_those_that_it_has():
    card = VirtualDesfire(UID, generation=Generation.EV1)
    assert steps_for(card.apdu, Scheme.DESFIRE_EV1, APPLICATION) == ()
    keys = keys_of(Scheme.DESFIRE_EV1)
    with pytest.raises(CardError):
        provision(card.apdu, keys, (), UID)
    card.install(APPLICATION, {key.key_no: key.key for key in (keys.master, keys.introduction, keys.own)})
    provision(card.apdu, keys, (), UID)


def test_the_own_key_may_not_read_the_files_of_an_ntag424():
    assert provisioning.OWN_NO[Scheme.NTAG_424] == 4
