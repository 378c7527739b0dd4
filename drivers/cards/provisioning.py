"""A card gets its keys: in the back office, once, over any antenna. Pure; where keys come from is the caller's.

    key 0   the application's master key: changes keys, stays in the office
    key 1   introduction: shared by the fleet's cards, so that one with a random UID can be asked who it is
    key 2   the card's own (4 on an NTAG 424, where 2 may read a file): authenticates, and nothing else

No file is made, so keys 1 and 2 can do nothing but authenticate. It can be done again at any time: a key's version
tells whether it was changed. Random UIDs are not switched on here: that cannot be undone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from drivers.cards import ev2
from drivers.cards.apdu import CardRefused, NotGenuine, Transceive, iso, native, whole
from drivers.cards.proof import NTAG_APPLICATION, CardKey, Scheme, select, true_uid

GET_VERSION, GET_KEY_VERSION, CREATE_APPLICATION = 0x60, 0x64, 0xCA
FACTORY_KEY = bytes(16)
OUR_VERSION = 1
MASTER_NO, INTRODUCTION_NO = 0, 1
OWN_NO = {Scheme.DESFIRE_EV1: 2, Scheme.DESFIRE_EV2: 2, Scheme.NTAG_424: 4}
NTAG_APPLICATION_NAME = bytes.fromhex("D2760000850101")
# Only the master key changes keys and settings; what there is may be listed.
KEY_SETTINGS, THREE_AES_KEYS = 0x0B, 0x83
DESFIRE_HARDWARE, NTAG_HARDWARE = 0x01, 0x04
EV1_MAJOR = 0x01
UID_BYTES = 7

Derive = Callable[[bytes], bytes]
"""The key for a diversifier: drivers.cards.diversification over the fleet's master key, wherever that is."""


class Step(StrEnum):
    CREATE = "create the application with three AES keys"
    INTRODUCTION = "change key 1 to the fleet's introduction key"
    OWN = "change the card's own key"
    MASTER = "change key 0 to the application's master key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What lies there. `uid` is empty where the card hides it."""

    scheme: Scheme
    major: int
    uid: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSet:
    """The keys of one card, all made from one master key."""

    master: CardKey
    introduction: CardKey
    own: CardKey


def kind_of(transceive: Transceive) -> Kind:
    """By GetVersion, which both families answer; NTAG 424 only inside its application."""
    try:
        told = whole(transceive, GET_VERSION)
    except CardRefused:
        iso(transceive, NTAG_APPLICATION)
        told = whole(transceive, GET_VERSION)
    if len(told) < 14 + UID_BYTES:
        raise NotGenuine("the card's version has a wrong length")
    hardware, major, uid = told[1], told[3], told[14 : 14 + UID_BYTES]
    match hardware & 0x0F:
        case 0x01:
            scheme = Scheme.DESFIRE_EV1 if major == EV1_MAJOR else Scheme.DESFIRE_EV2
        case 0x04:
            scheme = Scheme.NTAG_424
        case _:
            raise NotGenuine(f"a card of type {hardware:02X} is neither DESFire nor NTAG 424")
    return Kind(scheme=scheme, major=major, uid=uid if any(uid) else b"")


def card_set(derive: Derive, uid: bytes, scheme: Scheme, *, application: bytes, mark: bytes) -> CardSet:
    """M = UID | application | key number | the fleet's mark; the introduction key's has no UID."""
    named = NTAG_APPLICATION_NAME if scheme is Scheme.NTAG_424 else application

    def key(number: int, who: bytes) -> CardKey:
        made = derive(who + named + bytes([number]) + mark)
        return CardKey(scheme=scheme, key_no=number, key=made, application=application)

    return CardSet(master=key(MASTER_NO, uid), introduction=key(INTRODUCTION_NO, b""), own=key(OWN_NO[scheme], uid))


def steps_for(transceive: Transceive, scheme: Scheme, application: bytes) -> tuple[Step, ...]:
    """What is still to be done. Changes nothing."""
    if scheme is Scheme.DESFIRE_EV1:
        return ()  # it is given its keys elsewhere, made in the same way; here it proves them
    try:
        _enter(transceive, scheme, application)
    except CardRefused as error:
        if scheme is Scheme.NTAG_424 or error.status != 0xA0:
            raise
        return tuple(Step)
    numbers = {Step.INTRODUCTION: INTRODUCTION_NO, Step.OWN: OWN_NO[scheme], Step.MASTER: MASTER_NO}
    return tuple(step for step, number in numbers.items() if _version(transceive, number) == 0)


def provision(transceive: Transceive, keys: CardSet, steps: tuple[Step, ...], uid: bytes) -> None:
    """Do these steps, then let the card prove its own key. Raises a CardError; then it can be begun again."""
    scheme, application = keys.own.scheme, keys.own.application
    if Step.CREATE in steps:
        select(transceive, b"\x00\x00\x00")
        settings = application[::-1] + bytes([KEY_SETTINGS, THREE_AES_KEYS])
        answer = native(transceive, CREATE_APPLICATION, settings)
        if answer.status != 0:
            raise CardRefused("a new application", answer.status)
    if changes := [step for step in steps if step is not Step.CREATE]:
        _enter(transceive, scheme, application)
        master = FACTORY_KEY if Step.MASTER in steps else keys.master.key
        session = ev2.authenticate(transceive, master, MASTER_NO)
        for step in changes:
            match step:
                case Step.INTRODUCTION:
                    new = keys.introduction
                    session.change_key(new.key_no, new.key, version=OUR_VERSION, old=FACTORY_KEY)
                case Step.OWN:
                    session.change_key(keys.own.key_no, keys.own.key, version=OUR_VERSION, old=FACTORY_KEY)
                case _:  # always the last: it ends the session
                    session.change_key(MASTER_NO, keys.master.key, version=OUR_VERSION, old=None)
    for key in (keys.introduction, keys.own):
        if true_uid(transceive, key) != uid:
            raise NotGenuine("the card proves its new key with another UID")


def _enter(transceive: Transceive, scheme: Scheme, application: bytes) -> None:
    if scheme is Scheme.NTAG_424:
        iso(transceive, NTAG_APPLICATION)
    else:
        select(transceive, application)


def _version(transceive: Transceive, number: int) -> int:
    told = whole(transceive, GET_KEY_VERSION, bytes([number]))
    if len(told) != 1:
        raise NotGenuine("the card's key version has a wrong length")
    return told[0]
