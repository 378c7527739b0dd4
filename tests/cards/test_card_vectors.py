"""The published traces of secure cards, byte by byte: AN12196, AN10922, a public EV1 trace, icedevml/sdm-backend."""

from __future__ import annotations

import pytest

from drivers.cards import aes, ev1, ev2, sdm
from drivers.cards.apdu import CardRefused, NotGenuine
from drivers.cards.diversification import Algorithm, diversified, with_key
from tests.cards.scripted_card import ScriptedCard

ZERO_KEY = bytes(16)
EV2_FIRST = (
    "13C5DB8A5930439FC3DEF9A4C675360F",
    "A04C124213C186F22399D33AC2A30215",
    "90AF00002035C3E05A752E0144BAC0DE51C1F22C56B34408A23D8AEA266CAB947EA8E0118D00",
    "3FA64DB5446D1F34CD6EA311167F5E4985B89690C04A05F17FA7AB2F08120663",
    ("9D00C4DF", "1309C877509E5A215007FF0ED19CA564", "4C6626F5E72EA694202139295C7A7FC7"),
)
EV2_SECOND = (
    "B98F4C50CF1C2E084FD150E33992B048",
    "B875CEB0E66A6C5CD00898DC371F92D1",
    "90AF000020FF0306E47DFBC50087C4D8A78E88E62DE1E8BE457AA477C707E2F0874916A8B100",
    "0CC9A8094A8EEA683ECAAC5C7BF20584206D0608D477110FC6B3D5D3F65C3A6A",
    ("7614281A", "7A93D6571E4B180FCA6AC90C9A7488D4", "FC4AF159B62E549B5812394CAB1918CC"),
)
MASTER = bytes.fromhex("00112233445566778899AABBCCDDEEFF")


@pytest.mark.parametrize("trace", [EV2_FIRST, EV2_SECOND], ids=["first", "second"])
def test_ev2_authentication_is_the_one_of_an12196(trace):
    random_a, challenge, command, proof, (identifier, enc, mac) = trace
    card = ScriptedCard(("9071000002000000", challenge + "91AF"), (command, proof + "9100"))
    session = ev2.authenticate(card, ZERO_KEY, 0, random_a=bytes.fromhex(random_a))
    assert card.is_done
    assert (session._identifier.hex().upper(), session._enc.hex().upper(), session._mac.hex().upper()) == (
        identifier,
        enc,
        mac,
    )


def test_ev2_random_b_of_an12196_is_decrypted_with_a_zero_iv():
    plain = aes.decrypted(ZERO_KEY, bytes.fromhex(EV2_FIRST[1]))
    assert plain.hex().upper() == "B9E2FC789B64BF237CCCAA20EC7E6E48"


def test_get_file_settings_in_mac_mode():
    command = "90F5000009026597A457C8CD442C00"
    answer = "0040EEEE000100D1FE001F00004400004400002000006A00002A474282E7A479869100"
    session = session_of(ScriptedCard((command, answer)), "00" * 16, "8248134A386E86EB7FAF54A52E536CB6", "7A21085E")
    settings = session.maced(0xF5, b"\x02")
    assert settings.hex().upper() == "0040EEEE000100D1FE001F00004400004400002000006A0000"


def test_write_data_in_full_mode():
    identifier, enc, mac = EV2_SECOND[4]
    command = "908D00001F030000000A00006B5E6804909962FC4E3FF5522CF0F8436C0C53315B9C73AA00"
    session = session_of(ScriptedCard((command, "C26D236E4A7C046D9100")), enc, mac, identifier)
    header, data = bytes.fromhex("030000000A0000"), bytes.fromhex("0102030405060708090A")
    assert session.enciphered(0x8D, header, data) == b""


UID_TRACE = ("90510000088E2C155ADDA99BE300", "70756055688505B52A5E26E59E329CD6595F672298EA41B79100")
UID_KEYS = ("2B4D963C014DC36F24F69A50A394F875", "379D32130CE61705DD5FD8C36B95D764", "DF055522")


def test_the_encrypted_uid_of_an12196():
    uid = session_of(ScriptedCard(UID_TRACE), *UID_KEYS).card_uid()
    assert uid.hex().upper() == "04958CAA5C5E80"


def test_no_flipped_bit_of_the_encrypted_uid_is_accepted():
    command, answer = UID_TRACE
    raw = bytes.fromhex(answer)
    for bit in range(8 * (len(raw) - 2)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(NotGenuine):
            session_of(ScriptedCard((command, flipped.hex())), *UID_KEYS).card_uid()


def test_the_crc_of_a_changed_key_is_the_one_of_an12196():
    assert aes.crc32(bytes.fromhex("F3847D627727ED3BC9C4CC050489B966")).hex().upper() == "789DFADC"


def session_of(card, enc, mac, identifier):
    return ev2.Session(
        card, enc=bytes.fromhex(enc), mac=bytes.fromhex(mac), identifier=bytes.fromhex(identifier), counter=0
    )


EV1 = (
    ("90AA0000010000", "B969FDFE56FD91FC9DE6F6F213B8FD1E91AF"),
    (
        "90AF00002036AAD7DF6E436BA08D18613830A70D5AD43E3D3F4A8D47541EEE623A934E477400",
        "800DB680BC146BD121D6578F2D2E20599100",
    ),
)
EV1_RANDOM_A = bytes.fromhex("F44B26F5686F3A391CD38EBD10772281")


def test_ev1_authentication_is_the_one_of_the_public_trace():
    card = ScriptedCard(*EV1)
    session = ev1.authenticate(card, ZERO_KEY, 0, random_a=EV1_RANDOM_A)
    assert card.is_done
    assert session._key.hex().upper() == "F44B26F5C05DDD7110772281C4D066E8"
    assert aes.decrypted(ZERO_KEY, bytes.fromhex(EV1[0][1])[:16]).hex().upper() == "C05DDD714FD788A6B7B754F3C4D066E8"


def test_trap_ev1_chains_its_iv_where_ev2_begins_with_zero_each_time():
    """The same card answer, read the other way, is not the card's proof."""
    challenge, proof = bytes.fromhex(EV1[0][1])[:16], bytes.fromhex(EV1[1][1])[:16]
    token = bytes.fromhex(EV1[1][0])[5:37]
    wanted = aes.rotated(EV1_RANDOM_A)
    assert aes.decrypted(ZERO_KEY, proof, iv=token[-16:]) == wanted
    assert aes.decrypted(ZERO_KEY, proof) != wanted
    random_b = aes.decrypted(ZERO_KEY, challenge)
    assert aes.encrypted(ZERO_KEY, EV1_RANDOM_A + aes.rotated(random_b)) != token
    second = aes.decrypted(ZERO_KEY, bytes.fromhex(EV2_FIRST[3]))
    assert second[4:20] == aes.rotated(bytes.fromhex(EV2_FIRST[0])), "EV2 with IV 0"
    sent = bytes.fromhex(EV2_FIRST[2])[5:37]
    assert aes.decrypted(ZERO_KEY, bytes.fromhex(EV2_FIRST[3]), iv=sent[-16:])[4:20] != second[4:20]


def test_a_card_without_the_key_is_not_genuine_in_either_protocol():
    challenge, command = EV2_FIRST[1], EV2_FIRST[2]
    card = ScriptedCard(("9071000002000000", challenge + "91AF"), (command, "00" * 32 + "9100"))
    with pytest.raises(NotGenuine):
        ev2.authenticate(card, ZERO_KEY, 0, random_a=bytes.fromhex(EV2_FIRST[0]))
    with pytest.raises(NotGenuine):
        ev1.authenticate(ScriptedCard(EV1[0], (EV1[1][0], "00" * 16 + "9100")), ZERO_KEY, 0, random_a=EV1_RANDOM_A)


def test_a_card_that_does_not_take_our_key_refuses():
    card = ScriptedCard(("9071000002000000", EV2_FIRST[1] + "91AF"), (EV2_FIRST[2], "91AE"))
    with pytest.raises(CardRefused, match="authentication error") as refused:
        ev2.authenticate(card, ZERO_KEY, 0, random_a=bytes.fromhex(EV2_FIRST[0]))
    assert refused.value.status == 0xAE


def test_the_published_diversified_key():
    m = bytes.fromhex("04782E21801D80" + "3042F5" + "4E585020416275")
    assert diversified(Algorithm.AN10922, with_key(MASTER), m).hex().upper() == "A8DD63A3B89D54B37CA802473FDA9175"


@pytest.mark.parametrize(
    ("length", "an10922", "plain_cmac"),
    [
        (1, "281049D52ECBC8F60961993D34DE3D54", "6A2E557CA93A666A76BA10CDB5895D46"),
        (7, "E8B7F67C78C34AF1446E331EF7E6D3FF", "7590DDB26A001D5E8A14722C9B695354"),
        (15, "5A3C7F6F0687F24F82DEE7EDA0970D08", "8C28F13733B36FD71D999E679D13DD1D"),
        (16, "FEED9FBD36CDB16819A72D30BCF9240B", "FEED9FBD36CDB16819A72D30BCF9240B"),
        (31, "21C28CD89BB3147F66C7DBD4851CAB20", "21C28CD89BB3147F66C7DBD4851CAB20"),
    ],
)
def test_trap_the_two_diversifications_differ_for_short_inputs_only(length, an10922, plain_cmac):
    m = bytes(range(length))
    assert diversified(Algorithm.AN10922, with_key(MASTER), m).hex().upper() == an10922
    assert diversified(Algorithm.PLAIN_CMAC, with_key(MASTER), m).hex().upper() == plain_cmac
    assert aes.cmac(MASTER, b"\x01" + m).hex().upper() == plain_cmac


@pytest.mark.parametrize("length", [0, 32])
def test_a_diversifier_that_does_not_fit_is_refused(length):
    with pytest.raises(ValueError, match="1 to 31 bytes"):
        diversified(Algorithm.AN10922, with_key(MASTER), bytes(length))


SUN_PLAIN = sdm.Layout(picc=None, uid="uid", counter="ctr", mac="cmac")
URL = "https://card.example/"


def test_sun_with_an_empty_mac_input():
    url = f"{URL}?picc_data=EF963FF7828658A599F3041510671E88&cmac=94EED9EE65337086"
    sun = sdm.verified(url, sdm.Keys(file=ZERO_KEY, meta=ZERO_KEY), sdm.Layout())
    assert (sun.uid.hex().upper(), sun.counter, sun.file) == ("04DE5F1EACC040", 61, None)
    enc, mac = sdm.session_keys(ZERO_KEY, sun.uid, sun.counter)
    assert enc.hex().upper() == "DF38382B84FB90D2DDDB24E51AAFF7AC"
    assert mac.hex().upper() == "3FB5F6E3A807A03D5E3570ACE393776F"


def test_sun_with_file_data_and_the_name_of_the_mac_covered():
    url = f"{URL}?picc_data=FD91EC264309878BE6345CBE53BADF40&enc=CEE9A53E3E463EF1F459635736738962&cmac=ECC1E7F6C6C73BF6"
    layout = sdm.Layout(file="enc", mac_from="enc")
    sun = sdm.verified(url, sdm.Keys(file=ZERO_KEY, meta=ZERO_KEY), layout)
    assert (sun.uid.hex().upper(), sun.counter, sun.file) == ("04958CAA5C5E80", 8, b"x" * 16)


def test_sun_with_two_keys_and_the_name_of_the_mac_not_covered():
    url = f"{URL}?picc_data=8ACADDEF0A9B62CDAE39A16B83FC14DE&enc=B8436E11F627BB7F543FCC0C1E0D1A89&cmac=238B2543A8DEBAD8"
    keys = sdm.Keys(
        meta=bytes.fromhex("42AFF114F2CB3B6141BE6DC95DFC5416"), file=bytes.fromhex("B62A9BAF092439BD43C62AEE96B970C5")
    )
    sun = sdm.verified(url, keys, sdm.Layout(file="enc", mac_from="enc", with_name=False))
    assert (sun.uid.hex().upper(), sun.counter) == ("041D3C8A2D6B80", 291)
    assert sun.file == bytes.fromhex("4E545858716E6F5F6F42467077792D56")


def test_trap_the_counter_in_a_clear_url_stands_the_other_way_round():
    url = f"{URL}?uid=041E3C8A2D6B80&ctr=000006&cmac=4B00064004B0B3D3"
    sun = sdm.verified(url, sdm.Keys(file=ZERO_KEY), SUN_PLAIN)
    assert (sun.uid.hex().upper(), sun.counter) == ("041E3C8A2D6B80", 6)
    with pytest.raises(NotGenuine):
        sdm.check_mac(
            ZERO_KEY, sun.uid, int.from_bytes(bytes.fromhex("000006"), "little"), bytes.fromhex("4B00064004B0B3D3")
        )
    wrong_way = sdm.session_keys(ZERO_KEY, sun.uid, 0x060000)[1]
    assert aes.short_mac(wrong_way, b"").hex().upper() == "1E1D59AE6118031D"


def test_lrp_is_told_apart_and_refused():
    url = f"{URL}?picc_data=1FCBE61B3E4CAD980CBFDD333E7A4AC4A579569BAFD22C5F&cmac=4231608BA7B02BA9"
    with pytest.raises(NotGenuine, match="LRP"):
        sdm.verified(url, sdm.Keys(file=ZERO_KEY, meta=ZERO_KEY), sdm.Layout())


class Remembering:
    def __init__(self):
        self.highest = {}

    def advance(self, uid, counter):
        if counter <= self.highest.get(uid, -1):
            return False
        self.highest[uid] = counter
        return True


def test_a_replayed_message_is_refused_though_its_mac_is_right():
    url = f"{URL}?picc_data=EF963FF7828658A599F3041510671E88&cmac=94EED9EE65337086"
    keys, counters = sdm.Keys(file=ZERO_KEY, meta=ZERO_KEY), Remembering()
    assert sdm.accepted(url, keys, sdm.Layout(), counters).counter == 61
    with pytest.raises(NotGenuine, match="shown before"):
        sdm.accepted(url, keys, sdm.Layout(), counters)


def test_no_flipped_digit_of_a_message_is_accepted():
    url = f"{URL}?picc_data=EF963FF7828658A599F3041510671E88&cmac=94EED9EE65337086"
    keys = sdm.Keys(file=ZERO_KEY, meta=ZERO_KEY)
    for at in [index for index in range(url.index("=") + 1, len(url)) if url[index] in "0123456789ABCDEF"]:
        other = url[:at] + ("0" if url[at] != "0" else "1") + url[at + 1 :]
        with pytest.raises(NotGenuine):
            sdm.verified(other, keys, sdm.Layout())
