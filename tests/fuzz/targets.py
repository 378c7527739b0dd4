"""Every parser of bytes that somebody else made: what it may be fed with, and with which errors it may refuse them.

Anything else that is raised is a defect (promises.md, P11). Nothing is imported before a target is opened, so that
the guided run can instrument the code under test. Seeds are golden samples and profile vectors, not made up.
"""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[1]
GOLDEN = TESTS / "golden"
REGRESSIONS = Path(__file__).with_name("regressions")
LARGEST_PEAK_BYTES = 10_000_000  # of one input


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`parse` raises only what is in `refusals`; a value that says no is as good."""

    parse: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...] = ()
    seeds: tuple[bytes, ...]

    def feed(self, data: bytes) -> None:
        with suppress(*self.refusals):
            self.parse(data)

    def peak_bytes(self, data: bytes) -> int:
        """The most of Python's memory that this input takes at once."""
        tracemalloc.start()
        try:
            self.feed(data)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


def record() -> Target:
    from agent.wire import Unreadable, open_record

    return Target(parse=open_record, refusals=(Unreadable,), seeds=_files("records/*.json"))


def backend_record() -> Target:
    from sync.backend.records import read_record

    return Target(parse=lambda data: read_record(data, "/fleets/demo/devices/van"), seeds=_files("records/*.json"))


def batch() -> Target:
    from sync.batch import BadBatch, Codec, unpack

    def parse(data: bytes) -> object:
        """The first byte chooses the codec."""
        codecs = tuple(Codec)
        return unpack(data[1:], codecs[data[0] % len(codecs)]) if data else None

    seeds = tuple(
        bytes([number]) + (GOLDEN / "messages" / f"batch.{codec.value}").read_bytes()
        for number, codec in enumerate(Codec)
    )
    return Target(parse=parse, refusals=(BadBatch,), seeds=seeds)


def hello() -> Target:
    from sync.messages import BadMessage, parse_hello

    return Target(parse=parse_hello, refusals=(BadMessage,), seeds=_files("messages/hello*.json"))


def acknowledgement() -> Target:
    from sync.messages import BadMessage, parse_acknowledgement

    def parse(data: bytes) -> object:
        """Claims whose signature was good: a backend's own mistakes."""
        claims = json.loads(data)
        return parse_acknowledgement(claims) if isinstance(claims, dict) else None

    return Target(parse=parse, refusals=(BadMessage, ValueError, RecursionError), seeds=_files("messages/ack*.json"))


def question() -> Target:
    from sync.messages import BadMessage
    from sync.questions import parse_question

    return Target(parse=parse_question, refusals=(BadMessage,), seeds=_files("messages/question.json"))


def answer() -> Target:
    from sync.messages import BadMessage
    from sync.questions import parse_answer

    def parse(data: bytes) -> object:
        claims = json.loads(data)
        return parse_answer(claims) if isinstance(claims, dict) else None

    return Target(parse=parse, refusals=(BadMessage, ValueError, RecursionError), seeds=_files("messages/answer.json"))


def override() -> Target:
    from sync.messages import BadMessage
    from sync.overrides import parse_override

    def parse(data: bytes) -> object:
        claims = json.loads(data)
        return parse_override(claims) if isinstance(claims, dict) else None

    refusals = (BadMessage, ValueError, RecursionError)
    return Target(parse=parse, refusals=refusals, seeds=_files("messages/override.json"))


def ceilings() -> Target:
    from sync.ceilings import CEILINGS_FIELD, CeilingsUnfit, ceilings_of

    seed = {"signed": {CEILINGS_FIELD: {"override_hours": 8, "override_energy_wh": 30_000}}}
    return Target(parse=ceilings_of, refusals=(CeilingsUnfit,), seeds=(json.dumps(seed).encode(),))


def token() -> Target:
    from sync.messages import ACK_TYP
    from sync.signing import SigningError, thumbprint, verify

    key = (GOLDEN / "messages" / "service.jwk").read_text()
    keys = {thumbprint(key): key}
    return Target(
        parse=lambda data: verify(data, keys, typ=ACK_TYP),
        refusals=(SigningError,),
        seeds=_files("messages/ack*.jws"),
    )


def public_key() -> Target:
    from sync.signing import SigningError, thumbprint

    def parse(data: bytes) -> object:
        return thumbprint(data.decode("utf-8", "replace"))

    return Target(parse=parse, refusals=(SigningError,), seeds=_files("messages/*.jwk"))


def policy() -> Target:
    from agent.cache.documents import DocumentUnfit, read_policy

    seed = {
        "schema": 1,
        "fleet": "demo",
        "revision": 3,
        "key_check": "0123456789abcdef",
        "issued": "2026-11-01T00:00:00Z",
        "stale_after_hours": 24,
        "expired_after_hours": 72,
        "groups": {"vans": {"networks": ["DE*ABC"], "countries": ["DE"]}},
        "calendars": {},
    }
    return Target(parse=read_policy, refusals=(DocumentUnfit,), seeds=(json.dumps(seed).encode(),))


def sites() -> Target:
    from agent.cache.documents import DocumentUnfit, read_sites

    return Target(parse=read_sites, refusals=(DocumentUnfit,), seeds=(b'{"schema": 1, "sites": []}',))


def trust() -> Target:
    from agent.contracts.trust_documents import TrustUnfit, read_trust

    def parse(data: bytes) -> object:
        anchors, _, revocations = data.partition(b"\x00")
        return read_trust({"contracts/anchors.json": anchors, "contracts/revocations.json": revocations})

    seed = b'{"schema":1,"anchors":[]}\x00{"schema":1,"issued":"2026-11-01T00:00:00Z","revoked":[]}'
    return Target(parse=parse, refusals=(TrustUnfit,), seeds=(seed,))


def root_metadata() -> Target:
    from sync.documents import root_fleet

    seed = {
        "signed": {"_type": "root", "version": 1, "spec_version": "1.0.31", "keys": {}, "roles": {}},
        "signatures": [],
    }
    return Target(parse=root_fleet, seeds=(json.dumps(seed).encode(),))


def certificate() -> Target:
    from agent.core.contracts.certificates import Unreadable, read_certificate
    from tests.contract_wallet.pki_builder import CPS_LEAF, LEAF, ROOT, SUB_1, ders

    return Target(parse=read_certificate, refusals=(Unreadable,), seeds=tuple(ders(LEAF, SUB_1, ROOT, CPS_LEAF)))


def pem() -> Target:
    from agent.certificates import CertificateError, read_all
    from tests.contract_wallet.pki_builder import LEAF, SUB_1

    seeds = tuple(_pem_of(each.der) for each in (LEAF, SUB_1))
    return Target(parse=read_all, refusals=(CertificateError,), seeds=(*seeds, b"".join(seeds)))


def contract_chain() -> Target:
    from agent.core.contracts.verification import verify_chain
    from tests.contract_wallet.pki_builder import EMAID, LEAF, SUB_1, SUB_2, a_bundle, an_instant, ders

    bundle, now = a_bundle(), an_instant()
    chain = ders(LEAF, SUB_2, SUB_1)

    def parse(data: bytes) -> object:
        """The first byte says which certificate is replaced; 3: it comes as well."""
        at, body = (data[0] % 4, data[1:]) if data else (3, b"")
        return verify_chain([*chain[:at], body, *chain[at + 1 :]], claimed=EMAID, bundle=bundle, now=now)

    return Target(parse=parse, seeds=tuple(bytes([at]) + der for at, der in enumerate(chain)))


def ocsp_response() -> Target:
    from agent.core.contracts.verification import verify_chain
    from tests.contract_wallet import pki_builder as pki

    bundle, now = pki.a_bundle(), pki.an_instant()
    chain = pki.ders(pki.LEAF, pki.SUB_2, pki.SUB_1)

    def parse(data: bytes) -> object:
        return verify_chain(chain, claimed=pki.EMAID, bundle=bundle, now=now, stapled=[data])

    return Target(parse=parse, seeds=tuple(pki.an_ocsp_response(each) for each in (pki.LEAF, pki.SUB_2)))


def revocation_list() -> Target:
    from agent.core.contracts.verification import verify_chain
    from tests.contract_wallet.pki_builder import EMAID, LEAF, SUB_1, SUB_2, a_bundle, a_crl, an_instant, ders

    now = an_instant()
    chain = ders(LEAF, SUB_2, SUB_1)

    def parse(data: bytes) -> object:
        return verify_chain(chain, claimed=EMAID, bundle=a_bundle(crls=(data,)), now=now)

    return Target(parse=parse, seeds=(a_crl(SUB_2),))


def exi_request() -> Target:
    from agent.core.contracts.exi_fragments import authorization_request
    from agent.core.contracts.signing import Unsignable, authorization_request_of

    def parse(data: bytes) -> None:
        request = authorization_request_of(data)
        if authorization_request(request.id, request.challenge) != data:
            raise AssertionError("what is not canonical was taken for a request")

    return Target(
        parse=parse,
        refusals=(Unsignable,),
        seeds=(authorization_request("id1", bytes(16)), authorization_request("a" * 60, bytes(range(16)))),
    )


def emaid() -> Target:
    from agent.core.contracts.emaid import read_emaid
    from agent.core.contracts.identifiers import NotAnIdentifier

    def parse(data: bytes) -> object:
        return read_emaid(data.decode("utf-8", "replace"))

    return Target(parse=parse, refusals=(NotAnIdentifier,), seeds=(b"DE-8AA-001234567-0", b"DE8AA0012345670"))


def evse_id() -> Target:
    from agent.core.contracts.evse_id import read_evse_id
    from agent.core.contracts.identifiers import NotAnIdentifier

    def parse(data: bytes) -> None:
        """What is accepted is accepted again in its canonical form, and is the same."""
        read = read_evse_id(data.decode("utf-8", "replace"))
        if read_evse_id(read.canonical).canonical != read.canonical:
            raise AssertionError(f"{read.canonical} is not canonical")

    return Target(parse=parse, refusals=(NotAnIdentifier,), seeds=(b"DE*AB7*E840*6487", b"+49*810*000*438"))


def pcid() -> Target:
    from agent.core.contracts.identifiers import NotAnIdentifier
    from agent.core.contracts.pcid import read_pcid

    def parse(data: bytes) -> None:
        read = read_pcid(data.decode("utf-8", "replace"))
        if read_pcid(read.canonical).canonical != read.canonical:
            raise AssertionError(f"{read.canonical} is not canonical")

    return Target(parse=parse, refusals=(NotAnIdentifier,), seeds=(b"WMI1234567890ABCD", b"WMI-1234567890ABCD-X"))


def installation() -> Target:
    from agent.contracts.messages import MessageUnfit, read_installation
    from tests.contract_wallet.provisioning import a_response
    from tests.end_to_end.test_contracts import document_of

    def parse(data: bytes) -> object:
        return read_installation(json.loads(data))

    seed = json.dumps(document_of(a_response())).encode()
    return Target(parse=parse, refusals=(MessageUnfit, ValueError, RecursionError), seeds=(seed,))


def meter_record() -> Target:
    from agent.core.ocmf import read_all

    seed = (
        b'OCMF|{"FV":"1.0","GI":"x","GS":"1","PG":"T1","MV":"M","MS":"1","RD":[{"TM":"2026-11-01T10:00:00,000+0100 S",'
        b'"TX":"B","RV":1.5,"RI":"1-b:1.8.0","RU":"kWh","ST":"G"}]}|{"SD":"3045"}'
    )
    return Target(parse=read_all, seeds=(seed,))


def meter_signature() -> Target:
    from agent.core.ocmf import read
    from agent.ocmf_signatures import verify

    def parse(data: bytes) -> object:
        """A record, a zero byte, and a public key."""
        record, _, key = data.partition(b"\x00")
        return verify(read(record).record, key)

    seed = (
        b'OCMF|{"FV":"1.0","PG":"T1","RD":[]}|{"SA":"ECDSA-secp256r1-SHA256","SD":"3006020101020101"}\x00'
        b"3059301306072a8648ce3d020106082a8648ce3d030107034200046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d8"
        b"98c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
    )
    return Target(parse=parse, seeds=(seed,))


def gpsd_report() -> Target:
    from drivers.positions.gpsd_reports import NotGpsd, read_report

    seeds = (
        b'{"class":"VERSION","release":"3.22","rev":"3.22","proto_major":3,"proto_minor":14}',
        b'{"class":"TPV","mode":3,"time":"2026-11-01T10:00:00.000Z","lat":52.5,"lon":13.4,"eph":4.1}',
        b'{"class":"DEVICES","devices":[{"path":"/dev/ttyACM0"}]}',
        b'{"class":"ERROR","message":"no"}',
    )
    return Target(parse=read_report, refusals=(NotGpsd,), seeds=seeds)


def tariff() -> Target:
    from agent.ocpi.tariffs import read_tariffs

    seed = {
        "id": "1", "country_code": "DE", "party_id": "ABC", "currency": "EUR", "last_updated": "2026-11-01T00:00:00Z",
        "elements": [{"price_components": [{"type": "ENERGY", "price": 0.5, "vat": 19.0, "step_size": 1}],
                      "restrictions": {"start_time": "09:00", "day_of_week": ["MONDAY"]}}],
    }  # fmt: skip
    return Target(parse=read_tariffs, seeds=(json.dumps(seed).encode(),))


def charge_record() -> Target:
    from agent.ocpi.records import read_records

    seed = {
        "id": "1", "currency": "EUR",
        "start_date_time": "2026-11-01T00:00:00Z", "end_date_time": "2026-11-01T01:00:00Z",
        "charging_periods": [
            {"start_date_time": "2026-11-01T00:00:00Z", "dimensions": [{"type": "ENERGY", "volume": 9.5}]}],
        "total_cost": {"excl_vat": 4.0, "incl_vat": 4.76}, "total_energy": 9.5, "total_time": 1.0,
    }  # fmt: skip
    return Target(parse=read_records, seeds=(json.dumps(seed).encode(),))


def configuration() -> Target:
    from agent.config import ConfigError, load

    return _from_a_file(load, ConfigError, b'[device]\nfleet = "demo"\nname = "van"\nstate = "s"\n')


def profile() -> Target:
    from firmware_profiles import load_file
    from firmware_profiles.profile import ProfileError

    folder = TESTS.parent / "firmware_profiles" / "readers"
    return _from_a_file(
        load_file, ProfileError, *(_as_another(path.read_bytes()) for path in sorted(folder.glob("*.toml")))
    )


def charger_line() -> Target:
    from drivers.chargers.line_codec import (
        Garbled,
        Query,
        Start,
        Stop,
        Unplugged,
        encode,
        parse_command,
        parse_report,
        unseal,
    )  # fmt: skip

    def parse(data: bytes) -> None:
        body = unseal(data)
        for read in (parse_command, parse_report):
            try:
                read(body)
            except Garbled:
                continue

    seeds = (Query(), Start(session="s1", max_energy_wh=None), Stop(session="s1"), Unplugged())
    return Target(parse=parse, refusals=(Garbled,), seeds=tuple(encode(each).strip() for each in seeds))


def reader_frames() -> Target:
    """All codecs of readers: the first byte chooses the profile, the second how the rest is cut into chunks."""
    import firmware_profiles
    from drivers.readers.decoders import open_decoder

    names = [name for name in firmware_profiles.available() if name.startswith("readers/")]
    profiles = [profile for profile in map(firmware_profiles.load, names) if profile.uid is not None]
    readable = []
    for each in profiles:
        try:
            open_decoder(each)
        except ValueError:  # a driver that reads no cards by itself
            continue
        readable.append(each)

    def parse(data: bytes) -> None:
        if len(data) < 2:
            return
        decoder = open_decoder(readable[data[0] % len(readable)])
        step = data[1] or len(data)
        for at in range(2, len(data), step):
            decoder.feed(data[at : at + step])

    seeds = [bytes([number, 0]) + vector.raw for number, each in enumerate(readable) for vector in each.vectors.accept]
    return Target(parse=parse, seeds=tuple(seeds))


def card_blocks() -> Target:
    """What a card says in blocks, each frame behind its length: activation and the whole of GetVersion."""
    from drivers.cards.apdu import CardError, CardTorn
    from drivers.cards.iso_dep import IsoDep
    from drivers.cards.provisioning import kind_of
    from drivers.cards.virtual_desfire import VirtualDesfire
    from drivers.readers.virtual_cards import IsoDepCard

    def parse(data: bytes) -> object:
        rest = bytearray(data)

        def exchange(frame: bytes, wait_s: float) -> bytes:
            if not rest:
                raise CardTorn("nothing more")
            size = rest.pop(0)
            said = bytes(rest[:size])
            del rest[:size]
            return said

        blocks = IsoDep(exchange)
        blocks.activate()
        return kind_of(blocks.transceive)

    def heard(card: IsoDepCard) -> bytes:
        said = []

        def exchange(frame: bytes, wait_s: float) -> bytes:
            said.append(card.transceive(frame) or b"")
            return said[-1]

        blocks = IsoDep(exchange)
        blocks.activate()
        kind_of(blocks.transceive)
        return b"".join(bytes([len(each)]) + each for each in said)

    uid = bytes.fromhex("04958CAA5C5E80")
    cards = (IsoDepCard(VirtualDesfire(uid)), IsoDepCard(VirtualDesfire(uid), extensions=2, piece_bytes=5))
    return Target(parse=parse, refusals=(CardError,), seeds=tuple(heard(card) for card in cards))


def card_answer() -> Target:
    """An encrypted UID in a session; the seed is AN12196's."""
    from drivers.cards.apdu import CardError
    from drivers.cards.ev2 import Session

    enc, mac = bytes.fromhex("2B4D963C014DC36F24F69A50A394F875"), bytes.fromhex("379D32130CE61705DD5FD8C36B95D764")

    def parse(data: bytes) -> object:
        return Session(lambda command: data, enc=enc, mac=mac, identifier=bytes.fromhex("DF055522")).card_uid()

    seed = bytes.fromhex("70756055688505B52A5E26E59E329CD6595F672298EA41B79100")
    return Target(parse=parse, refusals=(CardError,), seeds=(seed,))


def tag_message() -> Target:
    """A tag's NDEF message, and the proof in its URL."""
    from drivers.cards import sdm
    from drivers.cards.apdu import CardError
    from drivers.cards.ndef import url_of

    keys, layout = sdm.Keys(file=bytes(16), meta=bytes(16)), sdm.Layout(file="enc", mac_from="enc")

    def parse(data: bytes) -> object:
        return sdm.verified(url_of(data), keys, layout)

    url = (
        b"\x04choose.url.com/ntag424?picc_data=FD91EC264309878BE6345CBE53BADF40"
        b"&enc=CEE9A53E3E463EF1F459635736738962&cmac=ECC1E7F6C6C73BF6"
    )
    return Target(parse=parse, refusals=(CardError,), seeds=(bytes([0xD1, 0x01, len(url)]) + b"U" + url,))


TARGETS: dict[str, Callable[[], Target]] = {
    function.__name__: function
    for function in (
        record, backend_record, batch, hello, acknowledgement, question, answer, override, ceilings, token,
        public_key, policy, sites, trust, root_metadata,
        certificate, pem, contract_chain, ocsp_response, revocation_list, exi_request,
        emaid, evse_id, pcid, installation,
        meter_record, meter_signature, gpsd_report,
        tariff, charge_record, configuration, profile, charger_line, reader_frames,
        card_blocks, card_answer, tag_message,
    )
}  # fmt: skip


def _files(pattern: str) -> tuple[bytes, ...]:
    found = tuple(path.read_bytes() for path in sorted(GOLDEN.glob(pattern)))
    if not found:
        raise FileNotFoundError(f"no golden sample is named {pattern}")
    return found


def _pem_of(der: bytes) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def _as_another(profile: bytes) -> bytes:
    """Under an id that is free: what is shipped cannot be replaced by a file."""
    return profile.replace(b'id = "readers/', b'id = "readers/another_', 1)


def _from_a_file(load: Callable[[Path], object], refusal: type[Exception], *seeds: bytes) -> Target:
    """What is only read from a path is written to memory first."""
    folder = Path("/dev/shm")
    path = (folder if folder.is_dir() else Path()) / f"roamkey-fuzz-{os.getpid()}.toml"

    def parse(data: bytes) -> None:
        path.write_bytes(data)
        try:
            load(path)
        finally:
            path.unlink()

    return Target(parse=parse, refusals=(refusal,), seeds=seeds)
