"""Signed meter records: read leniently, verified strictly, checked before they are billed. All are self-signed."""

from __future__ import annotations

import argparse
import base64
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cli import ocmf as verb
from agent.core.findings import is_sound
from agent.core.ocmf import Fault, Record, read, read_all
from agent.core.ocmf_checks import Checked, check
from agent.ocmf_signatures import CURVES as KNOWN_CURVES
from agent.ocmf_signatures import Verdict, verify

CURVES = {
    "secp192r1": ec.SECP192R1(),
    "secp224r1": ec.SECP224R1(),
    "secp256r1": ec.SECP256R1(),
    "secp256k1": ec.SECP256K1(),
    "secp384r1": ec.SECP384R1(),
    "secp521r1": ec.SECP521R1(),
    "brainpool256r1": ec.BrainpoolP256R1(),
    "brainpoolP256r1": ec.BrainpoolP256R1(),
    "brainpool384r1": ec.BrainpoolP384R1(),
    "brainpoolP512r1": ec.BrainpoolP512R1(),
}
KEY = ec.generate_private_key(ec.SECP256R1())
SECP192K1_KEY = (
    "3046301006072a8648ce3d020106052b8104001f03320004"
    "db4ff10ec057e9ae26b07d0280b7f4341da5d1b1eae06c7d9b2f2f6d9c5628a7844163d015be86344082aa88d95e2f9d"
)


def a_reading(**fields: object) -> dict[str, object]:
    plain = {"TM": "2026-03-02T09:00:00,000+0100 S", "TX": "B", "RV": 100.5, "RI": "1-b:1.8.0", "RU": "kWh", "ST": "G"}
    return {name: value for name, value in {**plain, "EF": "", **fields}.items() if value is not None}


BEGIN, END = a_reading(), a_reading(TX="E", TM="2026-03-02T10:00:00,000+0100 S", RV=112.75)


def a_payload(*readings: object, **fields: object) -> dict[str, object]:
    plain = {"FV": "1.0", "GS": "G1", "PG": "T1", "MS": "M1", "IS": True, "IL": "HEARSAY", "IT": "ISO14443"}
    payload = {**plain, "ID": "04A1B2C3D4E5F6", "RD": list(readings or (BEGIN, END)), **fields}
    return {name: value for name, value in payload.items() if value is not None}


def signed(
    payload: dict[str, object] | bytes,
    *,
    key: ec.EllipticCurvePrivateKey = KEY,
    algorithm: str | None = None,
    encoding: str = "hex",
) -> bytes:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signature = key.sign(body, ec.ECDSA(SHA256()))
    text = signature.hex() if encoding == "hex" else base64.b64encode(signature).decode()
    section = {"SA": algorithm, "SE": None if encoding == "hex" else encoding, "SD": text}
    return b"OCMF|" + body + b"|" + json.dumps({k: v for k, v in section.items() if v is not None}).encode()


def der(key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def verdict(data: bytes, key: str | bytes | None = None) -> Verdict:
    return verify(read(data).record, der() if key is None else key).verdict


def a_record(data: bytes) -> Record:
    record = read(data).record
    assert record is not None
    return record


def checked(*payloads: dict[str, object]) -> Checked:
    return check(tuple(a_record(signed(payload)) for payload in payloads))


def faults(*payloads: dict[str, object]) -> set[object]:
    return {finding.code for finding in checked(*payloads).findings}


# the signature


def test_every_curve_that_cryptography_has_is_known() -> None:
    known = {type(curve).__name__ for curve in KNOWN_CURVES.values()}
    kinds = [kind for kind in vars(ec).values() if isinstance(kind, type)]
    offered = {kind.__name__ for kind in kinds if issubclass(kind, ec.EllipticCurve)}

    assert known == offered - {"EllipticCurve"}


@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("name", CURVES)
def test_a_record_of_every_curve_and_encoding_is_valid_and_not_with_another_key(name: str, encoding: str) -> None:
    key, other = ec.generate_private_key(CURVES[name]), ec.generate_private_key(CURVES[name])
    data = signed(a_payload(), key=key, algorithm=f"ECDSA-{name}-SHA256", encoding=encoding)
    assert verdict(data, der(key)) is Verdict.VALID
    assert verdict(data, der(other)) is Verdict.BAD_SIGNATURE


KEY_FORMS: dict[str, Callable[[], str | bytes]] = {
    "DER": der,
    "hex": lambda: der().hex(),
    "HEX with line breaks": lambda: "\n".join(der().hex().upper()[i : i + 32] for i in range(0, 182, 32)) + "\n",
    "base64": lambda: base64.b64encode(der()).decode(),
    "base64 with line breaks": lambda: base64.encodebytes(der()),
    "PEM": lambda: KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "point": lambda: KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint).hex(),
}


@pytest.mark.parametrize("form", KEY_FORMS)
def test_the_key_is_taken_in_every_form_seen_in_the_field(form: str) -> None:
    assert verdict(signed(a_payload()), KEY_FORMS[form]()) is Verdict.VALID


def test_every_single_bit_of_the_payload_is_covered() -> None:
    data = signed(a_payload())
    begin, end = len(b"OCMF|"), data.rindex(b"|")
    for place in range(begin, end):
        for bit in range(8):
            changed = data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
            record = read(changed).record
            assert record is None or verify(record, der()).verdict is Verdict.BAD_SIGNATURE


def test_no_changed_bit_of_signature_or_key_is_valid() -> None:
    data = signed(a_payload())
    record = a_record(data)
    signature = bytes.fromhex(record.signature.text)
    for place in range(len(signature)):
        changed = signature[:place] + bytes([signature[place] ^ 1]) + signature[place + 1 :]
        other = data.replace(signature.hex().encode(), changed.hex().encode())
        assert verdict(other) in (Verdict.BAD_SIGNATURE, Verdict.BAD_SIGNATURE_ENCODING)
    for place in range(len(der())):
        changed = der()[:place] + bytes([der()[place] ^ 1]) + der()[place + 1 :]
        assert verify(record, changed).verdict is not Verdict.VALID


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda payload: json.dumps(dict(sorted(json.loads(payload).items()))).encode(),
        lambda payload: json.dumps(json.loads(payload), separators=(",", ":")).encode(),
        lambda payload: json.dumps(json.loads(payload), indent=2).encode(),
        lambda payload: payload + b" ",
        lambda payload: b"\n" + payload,
        lambda payload: payload.replace(b"112.75", b"112.750"),
    ],
    ids=["reordered", "compacted", "indented", "space after", "line before", "a zero more"],
)
def test_a_payload_written_again_is_no_longer_signed(rewrite: Callable[[bytes], bytes]) -> None:
    data = signed(a_payload())
    payload = a_record(data).payload
    assert verdict(data.replace(payload, rewrite(payload))) is Verdict.BAD_SIGNATURE


def test_white_space_that_was_signed_is_kept_and_white_space_around_the_record_is_not() -> None:
    spaced = b" \n" + json.dumps(a_payload(), indent=4).encode() + b"\r\n"
    data = signed(spaced)
    assert verdict(b"\xef\xbb\xbf\n" + data + b"\n\n") is Verdict.VALID
    assert a_record(data).payload == spaced
    assert a_record(b"\n" + data + b"\n").whole == data


@pytest.mark.parametrize(
    ("data", "key", "expected"),
    [
        (b"", None, Verdict.MALFORMED),
        (b"OCMF|{}", None, Verdict.MALFORMED),
        (b"OCMF|{}|[]", None, Verdict.MALFORMED),
        (b'OCMF|{"MS": "a|b"}|{"SD": "00"}', None, Verdict.MALFORMED),
        (b"OCMF|{\xff}|{}", None, Verdict.MALFORMED),
        (b"OCMF|" + b"[" * 100_000 + b"|{}", None, Verdict.MALFORMED),
        (b"OCMF|{}|{}", None, Verdict.BAD_SIGNATURE_ENCODING),
        (b'OCMF|{}|{"SD": "xyz"}', None, Verdict.BAD_SIGNATURE_ENCODING),
        (b'OCMF|{}|{"SD": "3006"}', None, Verdict.BAD_SIGNATURE_ENCODING),
        (b'OCMF|{}|{"SD": "' + b"00" * 64 + b'"}', None, Verdict.BAD_SIGNATURE_ENCODING),
        (b'OCMF|{}|{"SD": "00", "SM": "application/pkcs7"}', None, Verdict.BAD_SIGNATURE_ENCODING),
        (b'OCMF|{}|{"SD": "00", "SE": "rot13"}', None, Verdict.BAD_SIGNATURE_ENCODING),
        (signed(a_payload()), b"", Verdict.NO_KEY),
        (signed(a_payload()), "not a key", Verdict.BAD_KEY),
        (signed(a_payload()), "30", Verdict.BAD_KEY),
        (signed(a_payload()), "04" + "11" * 64, Verdict.BAD_KEY),
        (signed(a_payload()), der(ec.generate_private_key(ec.BrainpoolP256R1())), Verdict.BAD_KEY),
        (signed(a_payload()), SECP192K1_KEY, Verdict.UNSUPPORTED),
        (signed(a_payload(), algorithm="ECDSA-secp192k1-SHA256"), None, Verdict.UNSUPPORTED),
        (signed(a_payload(), algorithm="ECDSA-secp256r1-SHA512"), None, Verdict.UNSUPPORTED),
        (signed(a_payload(), algorithm="Ed25519"), None, Verdict.UNSUPPORTED),
    ],
    ids=[f"case {number}" for number in range(21)],  # keys and signatures are new in each run: they name nothing
)
def test_the_verdicts_are_told_apart(data: bytes, key: str | bytes | None, expected: Verdict) -> None:
    assert verdict(data, key) is expected


def test_the_identification_is_never_shown() -> None:
    found = read(signed(a_payload()))
    assert "04A1B2C3D4E5F6" not in repr(found)
    assert found.record is not None
    assert b"04A1B2C3D4E5F6" in found.record.whole


# the readings


def test_a_good_charge_says_its_energy_and_its_time() -> None:
    found = checked(a_payload())
    assert found.findings == ()
    assert (found.metered.energy_wh, found.metered.duration, found.metered.timed) == (12250, timedelta(hours=1), True)


def test_what_a_reading_omits_repeats_the_one_before_it() -> None:
    found = checked(a_payload(BEGIN, {"TM": "2026-03-02T10:00:00,000+0100 S", "TX": "E", "RV": 101}))
    assert (found.findings, found.metered.energy_wh) == ((), 500)


def test_begin_and_end_may_come_in_two_records() -> None:
    data = signed(a_payload(BEGIN)) + b"\n" + signed(a_payload(END, PG="T2")) + b"\n"
    records = tuple(one.record for one in read_all(data) if one.record is not None)
    assert [verify(record, der()).verdict for record in records] == [Verdict.VALID, Verdict.VALID]
    assert check(records).metered.energy_wh == 12250
    assert check(records).findings == ()


def test_compensated_registers_are_the_only_ones_counted_when_there_are_any() -> None:
    plain = [a_reading(RI="01-00:01.08.00.FF"), a_reading(TX="E", RI="01-00:01.08.00.FF", RV=120)]
    lossless = [a_reading(RI="01-00:B3.08.00*FF", RV=0), a_reading(TX="E", RI="01-00:B3.08.00*FF", RV=11)]
    found = checked(a_payload(*plain, *lossless))
    assert (found.findings, found.metered.energy_wh) == ((), 11000)


@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        (a_payload(PG=None), Fault.PAGINATION),
        (a_payload(PG="T01"), Fault.PAGINATION),
        (a_payload(PG="X1"), Fault.PAGINATION),
        (a_payload(BEGIN, BEGIN, END), Fault.BEGIN_AND_END),
        (a_payload(BEGIN), Fault.BEGIN_AND_END),
        (a_payload(RD=[]), Fault.NO_READINGS),
        (a_payload(BEGIN, {**END, "RV": 100.4}), Fault.VALUE_DECREASES),
        (a_payload(BEGIN, {**END, "TM": "2026-03-02T08:59:59,000+0100 S"}), Fault.TIME_DECREASES),
        (a_payload(BEGIN, {**END, "ST": "T"}), Fault.METER_STATE),
        (a_payload({**BEGIN, "EF": "E"}, END), Fault.ERROR_FLAGS),
        (a_payload(BEGIN, {**END, "EF": "Et"}), Fault.ERROR_FLAGS),
        (a_payload(BEGIN, {**END, "RU": "Ah"}), Fault.UNITS_DIFFER),
        (a_payload(BEGIN, {**END, "TM": "2026-03-02T10:00:00,000+0100"}), Fault.CLOCK_STATUS),
        (a_payload({**BEGIN, "TM": "2026-03-02T09:00:00,000+0100 R"}, END), Fault.CLOCK_STATUS),
        (a_payload(BEGIN, a_reading(TX="X"), END), Fault.EXCEPTION),
        (a_payload(a_reading(ST=None), END), Fault.READING_INCOMPLETE),
        (a_payload(a_reading(RU=None), END), Fault.READING_INCOMPLETE),
        (a_payload(a_reading(RI="1-0:2.8.0"), a_reading(TX="E", RI="1-0:2.8.0")), Fault.NOT_RELEVANT),
        (a_payload(IL="MISMATCH"), Fault.USER_ASSIGNMENT),
        (a_payload(MS=None, GS=None), Fault.SERIAL_MISSING),
    ],
)
def test_readings_that_are_not_fit_for_a_bill_are_errors(payload: dict[str, object], fault: Fault) -> None:
    found = checked(payload)
    assert fault in {finding.code for finding in found.findings}
    assert not is_sound(found.findings)


@pytest.mark.parametrize("status", ["U", "I"])
def test_an_uncertified_clock_bills_energy_and_not_time(status: str) -> None:
    found = checked(a_payload(BEGIN, {**END, "TM": f"2026-03-02T10:00:00,000+0100 {status}"}))
    assert {finding.code for finding in found.findings} == {Fault.CLOCK_NOT_FOR_BILLING}
    assert is_sound(found.findings)
    assert (found.metered.energy_wh, found.metered.timed) == (12250, False)


def test_a_missing_record_in_between_and_another_meter_are_noticed() -> None:
    assert Fault.PAGINATION in faults(a_payload(BEGIN), a_payload(END, PG="T3"))
    assert Fault.SOURCE_DIFFERS in faults(a_payload(BEGIN), a_payload(END, PG="T2", MS="M2"))


def test_a_fiscal_record_needs_no_begin_and_end() -> None:
    assert faults(a_payload(a_reading(TX=None), PG="F7")) == set()


@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        (a_payload({**BEGIN, "RV": "       9.038"}, END), Fault.NUMBER_AS_TEXT),
        (a_payload({**BEGIN, "RU": "sec"}, END), Fault.UNKNOWN_UNIT),
        (a_payload({**BEGIN, "TM": "yesterday"}, END), Fault.TIME_FORMAT),
        (a_payload({**BEGIN, "TX": "Q"}, END), Fault.WRONG_TYPE),
        (a_payload(MS=7), Fault.WRONG_TYPE),
        (a_payload(RD="x"), Fault.WRONG_TYPE),
        (a_payload("x"), Fault.WRONG_TYPE),
    ],
)
def test_odd_fields_are_read_as_far_as_they_go_and_told(payload: dict[str, object], fault: Fault) -> None:
    data = signed(payload)
    assert fault in {finding.code for finding in read(data).findings}
    assert verdict(data) is Verdict.VALID


@pytest.mark.parametrize(
    "time", ["2026-03-02T09:00:00.000+01:00 S", "2026-03-02T08:00:00Z S", "2026-03-02T09:00:00,0+0100 s"]
)
def test_other_spellings_of_the_time_are_taken(time: str) -> None:
    assert faults(a_payload({**BEGIN, "TM": time}, END)) == set()


def test_a_key_that_stands_twice_is_an_error_although_it_is_signed() -> None:
    data = signed(json.dumps(a_payload()).replace('"PG"', '"MS": "M2", "PG"').encode())
    assert verdict(data) is Verdict.VALID
    assert Fault.REPEATED_KEY in {finding.code for finding in read(data).findings}


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), st.binary(max_size=40))
def test_no_bytes_whatsoever_make_the_reader_raise(payload: bytes, signature: bytes) -> None:
    for data in (payload, b"OCMF|" + payload + b"|" + signature, signed(payload.replace(b"|", b""))):
        for found in read_all(data):
            verify(found.record, der())
            check(() if found.record is None else (found.record,))


TEXTS = ["B", "E", "kWh", "1-0:1.8.0", "G", "x", "1e999", "2026-03-02T09:00:00,000+0100 S"]


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["FV", "PG", "MS", "RD", "IL"]),
        st.none()
        | st.integers()
        | st.text("TF01. x", max_size=5)
        | st.lists(
            st.dictionaries(
                st.sampled_from(["TM", "TX", "RV", "RI", "RU", "ST", "EF"]),
                st.none()
                | st.integers()
                | st.floats()
                | st.sampled_from(["B", "E", "kWh", "1-0:1.8.0", "G", "x", "1e999"]),
            ),
            max_size=4,
        ),
    )
)
def test_no_payload_whatsoever_makes_the_checks_raise(payload: dict[str, object]) -> None:
    check((a_record(signed(payload)),))


# the verb


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return verb.main(parser.parse_args([str(word) for word in words]))


@pytest.mark.parametrize("literal", [True, False])
def test_the_verb_takes_the_key_itself_or_a_file_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], literal: bool
) -> None:
    (tmp_path / "record.ocmf").write_bytes(signed(a_payload()))
    (tmp_path / "key").write_bytes(der())
    key = der().hex() if literal else str(tmp_path / "key")
    assert run("verify", tmp_path / "record.ocmf", "--public-key", key, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["billable"], found["time_billable"], found["energy_wh"]) == (
        "VALID",
        True,
        True,
        12250,
    )
    assert found["records"][0]["pagination"] == "T1"
    assert "04A1B2C3D4E5F6" not in json.dumps(found)


@pytest.mark.parametrize(
    ("data", "words", "code", "said"),
    [
        (signed(a_payload()), ["--public-key", der().hex()], 0, "VALID"),
        (signed(a_payload()), [], 1, "NO_KEY"),
        (signed(a_payload(PG=None)), ["--public-key", der().hex()], 1, "PAGINATION"),
        (signed(a_payload()).replace(b"112.75", b"113.75"), ["--public-key", der().hex()], 1, "BAD_SIGNATURE"),
        (b"hello", [], 65, "MALFORMED"),
    ],
)
def test_the_verb_tells_people_and_scripts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes, words: list[str], code: int, said: str
) -> None:
    (tmp_path / "record.ocmf").write_bytes(data)
    assert run("verify", tmp_path / "record.ocmf", *words) == code
    assert said in capsys.readouterr().out


def test_the_verb_misses_its_file_politely(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", tmp_path / "none") == 66
    assert capsys.readouterr().err.startswith("roamkey: ")
