"""Plays the provisioning service: makes the CertificateInstallationRes for a vehicle, right by default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from agent.contracts.key_store import KeyStore
from agent.contracts.pkcs11_keys import Pkcs11Keys
from agent.contracts.software_keys import SoftwareKeys
from agent.contracts.wallet import PROVISIONING_KEY, Wallet
from agent.core.contracts.exi_fragments import Reference, signed_info
from agent.core.contracts.installation import InstallationResponse, signed_elements
from agent.core.contracts.key_transport import wrap
from agent.core.contracts.signatures import raw_signature
from tests.contract_wallet.pki_builder import (
    CPS_LEAF,
    CPS_SUB_1,
    CPS_SUB_2,
    EMAID,
    LEAF,
    SUB_1,
    SUB_2,
    Wish,
    ders,
    p256,
)

VEHICLE_KEY = p256(30)
SENDER_KEY = p256(31)
PASSPHRASE = b"a passphrase of a machine"


def point_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def wrapped(scalar: int) -> bytes:
    return wrap(SENDER_KEY.exchange(ec.ECDH(), VEHICLE_KEY.public_key()), scalar, bytes(range(16)))


def signed_by_service(
    response: InstallationResponse,
    key: ec.EllipticCurvePrivateKey,
    references: Sequence[Reference] | None = None,
) -> InstallationResponse:
    told = tuple(references) if references is not None else signed_elements(response)
    signature = raw_signature(key.sign(signed_info(told), ec.ECDSA(hashes.SHA256())))
    return replace(response, references=told, signature=signature)


def a_response(
    leaf: Wish = LEAF, *, service: Sequence[Wish] = (CPS_LEAF, CPS_SUB_2, CPS_SUB_1), **changes: Any
) -> InstallationResponse:
    """For this contract's certificate and its key. `changes` are made before the service signs."""
    assert isinstance(leaf.key, ec.EllipticCurvePrivateKey)
    response = InstallationResponse(
        provisioning_chain=tuple(ders(*service)),
        contract_chain_id="id1",
        contract_leaf=leaf.der,
        contract_subs=tuple(ders(SUB_2, SUB_1)),
        encrypted_key_id="id2",
        encrypted_key=wrapped(leaf.key.private_numbers().private_value),
        dh_public_key_id="id3",
        dh_public_key=point_of(SENDER_KEY),
        emaid_id="id4",
        emaid=leaf.name if leaf.name != LEAF.name else EMAID,
        references=(),
        signature=b"",
    )
    key = service[0].key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return signed_by_service(replace(response, **changes), key)


def a_key_store(folder: Path) -> SoftwareKeys:
    """With the vehicle's provisioning key in it."""
    keys = SoftwareKeys(folder=folder / "keys", passphrase=PASSPHRASE)
    if PROVISIONING_KEY not in keys.names():
        keys.bring(PROVISIONING_KEY, VEHICLE_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return keys


class Home(Protocol):
    """Where a wallet keeps its contracts and keys: what holds for one kind holds for every kind."""

    folder: Path

    @property
    def folders(self) -> tuple[Path, ...]:
        """All that is on the disk."""
        return (self.folder,)

    def keys(self) -> KeyStore:
        """With the vehicle's provisioning key in it."""
        ...

    def wallet(self) -> Wallet:
        """Opened anew, as after a restart."""
        return Wallet(self.folder / "wallet", self.keys())


@dataclass
class FileHome(Home):
    folder: Path

    def keys(self) -> SoftwareKeys:
        return a_key_store(self.folder)


@dataclass
class TokenHome(Home):
    """One token for all tests of a process: it is emptied first."""

    folder: Path
    token: Pkcs11Keys
    tokens: Path

    @property
    def folders(self) -> tuple[Path, ...]:
        return self.folder, self.tokens

    def __post_init__(self) -> None:
        for name in self.token.names():
            self.token.destroy(name)
        self.token.bring(PROVISIONING_KEY, VEHICLE_KEY.private_numbers().private_value, point_of(VEHICLE_KEY))

    def keys(self) -> Pkcs11Keys:
        return self.token
