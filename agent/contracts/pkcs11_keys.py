"""Keys in a PKCS#11 token: SoftHSM2 in tests, a TPM through tpm2-pkcs11 in the field. Needs the extra `hsm`.

Keys are kept sensitive and not extractable; signing happens in the token. An ISO 15118-2 key travels wrapped in a way
that no token understands, so on its way in the scalar is in this process's memory for a moment, and nowhere else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from agent.contracts.key_store import KeyStoreError
from agent.core.contracts.key_transport import SCALAR_BYTES, private_key, sender_key, unwrap
from agent.core.contracts.signing import Signable, Signed, to_be_signed

_PREFIX = "roamkey:"  # a token may be shared; what has another label is not ours
_P256 = bytes.fromhex("06082a8648ce3d030107")  # the OID of secp256r1 in DER: CKA_EC_PARAMS
_POINT_HEADER = bytes.fromhex("0441")  # CKA_EC_POINT is an OCTET STRING around 04 || X || Y

T = TypeVar("T")


class Pkcs11Keys:
    """One session with one token. A session that is lost is opened again once for each call; a wrong PIN never is.

    Tokens lock after a few wrong PINs, so the first refusal is final until somebody puts the right one in place.
    """

    def __init__(self, *, module: Path, token: str, pin: str) -> None:
        self._pkcs11 = _library()
        self._module = module
        self._token = token
        self._pin = pin
        self._pin_refused = False
        self._session: Any = self._open()

    def names(self) -> frozenset[str]:
        return self._asked(self._names)

    def point(self, name: str) -> bytes:
        return self._asked(lambda: self._point(name))

    def sign(self, name: str, request: Signable) -> Signed:
        prepared = to_be_signed(request)
        digest = hashlib.sha256(prepared.signed_info).digest()
        signature = self._asked(lambda: bytes(self._private(name).sign(digest, mechanism=self._pkcs11.Mechanism.ECDSA)))
        return replace(prepared, signature=signature)

    def take_in(self, name: str, *, under: str, sender: bytes, field: bytes, point: bytes) -> None:
        sender_key(sender)  # a point off the curve would leak the token's key, and not every token looks
        agreement = self._asked(lambda: self._agreement(under, sender))
        scalar = unwrap(agreement, field)
        private_key(scalar, point)
        self._asked(lambda: self._keep(name, scalar.to_bytes(SCALAR_BYTES, "big"), point))

    def bring(self, name: str, scalar: int, point: bytes) -> None:
        """A key that was made elsewhere, on a workbench: a vehicle's provisioning key is best made in its token."""
        private_key(scalar, point)
        self._asked(lambda: self._keep(name, scalar.to_bytes(SCALAR_BYTES, "big"), point))

    def destroy(self, name: str) -> None:
        self._asked(lambda: self._destroy(name))

    def close(self) -> None:
        with suppress(self._pkcs11.PKCS11Error):
            self._session.close()

    def _names(self) -> frozenset[str]:
        label = self._pkcs11.Attribute.LABEL
        found = self._session.get_objects({self._pkcs11.Attribute.CLASS: self._pkcs11.ObjectClass.PRIVATE_KEY})
        labels = [each[label] for each in found]
        return frozenset(each.removeprefix(_PREFIX) for each in labels if each.startswith(_PREFIX))

    def _point(self, name: str) -> bytes:
        public = self._session.get_key(label=_PREFIX + name, object_class=self._pkcs11.ObjectClass.PUBLIC_KEY)
        return bytes(public[self._pkcs11.Attribute.EC_POINT]).removeprefix(_POINT_HEADER)

    def _private(self, name: str) -> Any:
        return self._session.get_key(label=_PREFIX + name, object_class=self._pkcs11.ObjectClass.PRIVATE_KEY)

    def _agreement(self, name: str, sender: bytes) -> bytes:
        """The shared secret as it is: ISO 15118-2 derives from it what no token derives."""
        attribute = self._pkcs11.Attribute
        secret = self._private(name).derive_key(
            self._pkcs11.KeyType.GENERIC_SECRET,
            8 * SCALAR_BYTES,
            mechanism_param=(self._pkcs11.KDF.NULL, None, sender),
            template={attribute.SENSITIVE: False, attribute.EXTRACTABLE: True, attribute.TOKEN: False},
        )
        try:
            return bytes(secret[attribute.VALUE])
        finally:
            secret.destroy()

    def _keep(self, name: str, scalar: bytes, point: bytes) -> None:
        """The public half first: a private one without it would be found by `names` and fail in `point`."""
        attribute, kind = self._pkcs11.Attribute, self._pkcs11.ObjectClass
        common = {
            attribute.KEY_TYPE: self._pkcs11.KeyType.EC,
            attribute.LABEL: _PREFIX + name,
            attribute.ID: hashlib.sha256(point).digest()[:20],
            attribute.TOKEN: True,
            attribute.EC_PARAMS: _P256,
        }
        self._destroy(name)
        self._session.create_object(
            {**common, attribute.CLASS: kind.PUBLIC_KEY, attribute.EC_POINT: _POINT_HEADER + point,
             attribute.PRIVATE: False, attribute.VERIFY: True}
        )  # fmt: skip
        self._session.create_object(
            {**common, attribute.CLASS: kind.PRIVATE_KEY, attribute.VALUE: scalar, attribute.PRIVATE: True,
             attribute.SENSITIVE: True, attribute.EXTRACTABLE: False, attribute.SIGN: True, attribute.DERIVE: True}
        )  # fmt: skip

    def _destroy(self, name: str) -> None:
        for found in list(self._session.get_objects({self._pkcs11.Attribute.LABEL: _PREFIX + name})):
            found.destroy()

    def _asked(self, question: Callable[[], T]) -> T:
        """Once more with a new session when the old one is gone: a token may be reset under us."""
        errors = self._pkcs11.exceptions
        gone = (
            errors.SessionHandleInvalid, errors.SessionClosed, errors.UserNotLoggedIn, errors.DeviceRemoved,
            errors.TokenNotPresent, errors.TokenNotRecognised,
        )  # fmt: skip
        try:
            try:
                return question()
            except gone:
                self._session = self._open()
                return question()
        except errors.NoSuchKey as error:
            raise KeyStoreError(f"the key is not in the token {self._token}") from error
        except self._pkcs11.PKCS11Error as error:
            raise KeyStoreError(
                f"the token {self._token} refuses ({type(error).__name__}): check that it is there and initialised"
            ) from error

    def _open(self) -> Any:
        errors = self._pkcs11.exceptions
        if self._pin_refused:
            raise KeyStoreError(f"the token {self._token} has refused the PIN: put the right one in place and restart")
        try:
            return _token(self._pkcs11, self._module, self._token).open(rw=True, user_pin=self._pin)
        except (errors.PinIncorrect, errors.PinLenRange, errors.PinInvalid, errors.PinLocked) as error:
            self._pin_refused = True
            raise KeyStoreError(
                f"the token {self._token} refuses the PIN ({type(error).__name__}): it is not tried again, "
                "since tokens lock; put the right one in place and restart"
            ) from error
        except (self._pkcs11.PKCS11Error, RuntimeError) as error:
            raise _not_there(self._module, self._token, error) from error


def block_cipher(module: Path, *, token: str, pin: str, label: str) -> Callable[[bytes], bytes]:
    """AES of one block under a key that stays in the token: enough to make cards' keys from a fleet's master key."""
    pkcs11 = _library()
    try:
        session = _token(pkcs11, module, token).open(user_pin=pin)  # for as long as the verb runs
        try:
            key = session.get_key(label=label, object_class=pkcs11.ObjectClass.SECRET_KEY)
        except pkcs11.exceptions.NoSuchKey as error:
            session.close()
            raise KeyStoreError(f"the token {token} has no secret key named {label}") from error
    except (pkcs11.PKCS11Error, RuntimeError) as error:
        raise _not_there(module, token, error) from error
    return lambda block: bytes(key.encrypt(block, mechanism=pkcs11.Mechanism.AES_ECB))


def find_token(module: Path, token: str) -> str:
    """Says what the token is, without logging in. Raises KeyStoreError when it is not there or is locked."""
    pkcs11 = _library()
    try:
        found = _token(pkcs11, module, token)
        locked = pkcs11.TokenFlag.USER_PIN_LOCKED in found.flags
    except (pkcs11.PKCS11Error, RuntimeError) as error:
        raise _not_there(module, token, error) from error
    if locked:
        raise KeyStoreError(f"the token {token} is locked: its PIN was wrong too often; the officer's PIN unlocks it")
    return f"the token {token} is there; whether its PIN is right is not tried, since tokens lock"


def _library() -> Any:
    try:
        import pkcs11
    except ImportError as error:
        raise KeyStoreError("PKCS#11 needs the extra `hsm`: install roamkey[hsm]") from error
    return pkcs11


def _token(pkcs11: Any, module: Path, label: str) -> Any:
    return pkcs11.lib(str(module)).get_token(token_label=label)


def _not_there(module: Path, token: str, error: Exception) -> KeyStoreError:
    return KeyStoreError(
        f"the token {token} cannot be opened through {module} ({type(error).__name__}: {error}): "
        "check that both are there"
    )
