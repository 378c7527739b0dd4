from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.contracts.emaid import (
    check_character,
    din_check_character,
    din_of,
    names_of,
    read_din,
    read_emaid,
    read_typed_din,
    read_typed_emaid,
)
from agent.core.contracts.evse_id import read_evse_id
from agent.core.contracts.identifiers import NotAnIdentifier
from agent.core.contracts.pcid import read_pcid

PUBLISHED = (
    "NN123ABCDEFGHI-T", "FRXYZ123456789-2", "ITA1B2C3E4F5G6-4", "ESZU8WOX834H1D-R", "PT73902837ABCZ-Z",
    "DE83DUIEN83QGZ-D", "DE83DUIEN83ZGQ-M", "DE8AA001234567-0", "NLTNM000122045-U", "NLTNMC00122045-K",
    "NLTNM000722345-X",
)  # fmt: skip
PUBLISHED_DIN = (
    "INTNM000071-9", "INTNM000110-X", "INTNM000124-0", "INTNM000114-6", "INTNM000191-5", "NLTNM012204-5",
)  # fmt: skip
WRONG_IN_EVERYBODYS_TEST_PKI = "UKSWI123456791A"

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
canonical_emaids = st.builds(
    str.__add__, st.text(ALPHABET[10:], min_size=2, max_size=2), st.text(ALPHABET, min_size=12, max_size=12)
)


@pytest.mark.parametrize("vector", PUBLISHED)
def test_published_emaid_has_the_check_character_that_we_compute(vector: str) -> None:
    assert check_character(vector[:14]) == vector[15]
    assert read_typed_emaid(vector).canonical == vector[:14]


@pytest.mark.parametrize("vector", PUBLISHED_DIN)
def test_published_din_contract_has_the_check_character_that_we_compute(vector: str) -> None:
    assert din_check_character(vector[:11]) == vector[12]
    assert read_typed_din(vector).canonical == vector[:11]


@pytest.mark.parametrize(
    "text", ["DE8AA0012345670", "de-8aa-001234567-0", "DE-8AA-001234567", "DE8AA001234567", "DE-8AA0012345670"]
)
def test_separators_case_and_check_character_do_not_tell_contracts_apart(text: str) -> None:
    assert read_emaid(text).canonical == "DE8AA001234567"
    assert read_emaid(text).on_wire == "DE8AA0012345670"
    assert read_emaid(text).provider == "DE8AA"


def test_wrong_check_character_is_told_for_a_certificate_and_refused_for_a_person() -> None:
    emaid = read_emaid(WRONG_IN_EVERYBODYS_TEST_PKI)

    assert (emaid.canonical, emaid.check, emaid.check_is_wrong) == ("UKSWI123456791", "A", True)
    assert check_character(emaid.canonical) == "5"
    with pytest.raises(NotAnIdentifier, match="typing error"):
        read_typed_emaid(WRONG_IN_EVERYBODYS_TEST_PKI)
    with pytest.raises(NotAnIdentifier, match="typing error"):
        read_typed_din("IN-TNM-000071-8")


def test_white_space_is_forgiven_to_people_only() -> None:
    assert read_typed_emaid(" DE-8AA-001234567-0\n").canonical == "DE8AA001234567"
    with pytest.raises(NotAnIdentifier):
        read_emaid("DE8AA0012345670\n")


@pytest.mark.parametrize(
    "text",
    ["", "DE8AA00123456", "DE8AA00123456701", "D18AA0012345670", "DE8AA001234567\u0131", "\u017fE8AA0012345670",
     "DE--8AA0012345670", "DE8AA\u0660012345670", "DE*8AA*001234567*0", "DE8AA00123456\u00df"],
)  # fmt: skip
def test_what_is_no_emaid_is_not_made_one(text: str) -> None:
    with pytest.raises(NotAnIdentifier, match="no eMAID"):
        read_emaid(text)


@given(canonical_emaids, st.integers(0, 13), st.sampled_from(ALPHABET))
def test_every_single_wrong_character_is_noticed(canonical: str, at: int, other: str) -> None:
    wrong = canonical[:at] + other + canonical[at + 1 :]
    assert wrong == canonical or check_character(wrong) != check_character(canonical)


@given(canonical_emaids, st.integers(0, 12))
def test_every_swap_of_neighbours_is_noticed(canonical: str, at: int) -> None:
    swapped = canonical[:at] + canonical[at + 1] + canonical[at] + canonical[at + 2 :]
    assert swapped == canonical or check_character(swapped) != check_character(canonical)


def test_all_single_errors_and_swaps_of_200_contracts_are_noticed() -> None:
    for number in range(200):
        canonical = f"DE8AAC{number * 9973 % 10**8:08}"
        check = check_character(canonical)
        wrong = {canonical[:at] + other + canonical[at + 1 :] for at in range(14) for other in ALPHABET}
        wrong |= {canonical[:at] + canonical[at + 1] + canonical[at] + canonical[at + 2 :] for at in range(13)}
        assert all(check_character(each) != check for each in list(wrong)[number % 7 :: 7] if each != canonical)


def test_a_din_contract_and_its_emaids_are_one_contract() -> None:
    din = read_typed_din("NL-TNM-012204-5")

    assert str(din.emaid) == "NL-TNM-C00122045-K"
    assert str(din.old_emaid) == "NL-TNM-000122045-U"
    assert names_of(din.emaid) == names_of(din.old_emaid) == {"NLTNMC00122045", "NLTNM000122045"}
    assert din_of(din.emaid) == din_of(din.old_emaid) == read_din("NL*TNM*012204*5")


def test_an_emaid_that_was_no_din_contract_has_one_name() -> None:
    emaid = read_emaid("DE8AA0012345670")

    assert din_of(emaid) is None
    assert names_of(emaid) == {"DE8AA001234567"}


@pytest.mark.parametrize(
    ("text", "canonical", "operator"),
    [
        ("DE*AB7*E840*6487", "DEAB7E8406487", "DEAB7"),
        ("DEAB7E8406487", "DEAB7E8406487", "DEAB7"),
        ("de*ab7*e840*6487", "DEAB7E8406487", "DEAB7"),
        ("DE*DES*E*BMW*0113*2", "DEDESEBMW01132", "DEDES"),
        ("+49*810*000*438", "+49*810*000438", "810"),
        ("49*810*000*438", "+49*810*000438", "810"),
    ],
)
def test_evse_ids_are_compared_without_case_and_asterisks(text: str, canonical: str, operator: str) -> None:
    evse = read_evse_id(text)
    assert (evse.canonical, evse.operator, evse.doubt) == (canonical, operator, None)


@pytest.mark.parametrize(
    "text",
    ["NL*TNM*840*6487", "ZZ*AB7*E840*6487", "DE*AB7*E", "DE*AB7*E**", "", "DE*AB7*E" + "1" * 32, "+49*810*", "+49*81*1",
     "DE*AB7*E840\u0661"],
)  # fmt: skip
def test_what_is_no_evse_id_is_not_made_one(text: str) -> None:
    with pytest.raises(NotAnIdentifier, match="no EVSE id"):
        read_evse_id(text)


def test_a_country_code_of_test_set_ups_is_accepted_with_a_doubt() -> None:
    evse = read_evse_id("UK123E1234")
    assert evse.canonical == "UK123E1234"
    assert evse.doubt is not None


def test_a_pcid_has_seventeen_characters_and_perhaps_a_check() -> None:
    assert read_pcid("wmi1234567890abcd").canonical == "WMI1234567890ABCD"
    assert read_pcid("WMI1234567890ABCDX").check == "X"
    assert read_pcid("WMI-1234567890ABCD-X").canonical == read_pcid("WMI1234567890ABCDX").canonical
    assert read_pcid("WMI1234567890ABCD").maker == "WMI"
    for text in ("WMI1234567890ABC", "WMI1234567890ABCDEF", "WMI 234567890ABCD", "WMI1234567890ABC\u0131"):
        with pytest.raises(NotAnIdentifier, match="no PCID"):
            read_pcid(text)
