"""Signing keys and the ring that holds them: the first signs, all verify."""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Self

from itsdangerous import Signer

from proxy.errors import SettingProblem, SettingsError

SALT: Final = b"media-gateway.link.v1"
MINIMUM_SECRET: Final = 32
_SETTING: Final = "GATEWAY_SIGNING_KEYS"
# Unreserved characters of RFC 3986 only, so that a key's name stands in a link as it is.
_KID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key: `kid` matches `[A-Za-z0-9._-]{1,64}`, `secret` has at least 32 characters (signed with as UTF-8).

    Raises `SettingsError`, which never repeats the secret.
    """

    kid: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        if not _KID.fullmatch(self.kid):
            raise _refused("a key's name is 1 to 64 of the characters A-Z a-z 0-9 . _ -")
        if len(self.secret) < MINIMUM_SECRET:
            raise _refused(f"the secret of key {self.kid} has fewer than {MINIMUM_SECRET} characters")
        try:
            self.secret.encode()
        except UnicodeEncodeError:
            raise _refused(f"the secret of key {self.kid} is not UTF-8") from None

    def derived(self) -> bytes:
        """Return the 32 bytes that sign: `dk = HMAC-SHA256(key=secret, msg="media-gateway.link.v1")`."""
        return Signer(self.secret, salt=SALT, key_derivation="hmac", digest_method=hashlib.sha256).derive_key()


class KeyedSigner(Signer):
    """A signer with a derived key that is set up once: a plain `Signer` does that at every signature."""

    def __init__(self, derived: bytes) -> None:
        super().__init__(derived, key_derivation="none", digest_method=hashlib.sha256)
        self._keyed = hmac.new(derived, digestmod=hashlib.sha256)

    def get_signature(self, value: str | bytes) -> bytes:
        """Return 43 characters of base64url. A text is signed as UTF-8."""
        running = self._keyed.copy()
        running.update(value.encode() if isinstance(value, str) else value)
        return urlsafe_b64encode(running.digest()).rstrip(b"=")


class KeyRing:
    """Signing keys, at least one, each name once. A ring is never changed: new settings make a new ring.

    A `Signer` derives its key at every signature, which is half of the signature's cost: here each is derived once.
    """

    __slots__ = ("_signers", "current")

    current: str
    """The name of the key that signs."""

    def __init__(self, keys: Iterable[SigningKey]) -> None:
        """Raise `SettingsError` if there is no key, or one name twice."""
        signers: dict[str, Signer] = {}
        for key in keys:
            if key.kid in signers:
                raise _refused(f"the key {key.kid} is there twice")
            signers[key.kid] = KeyedSigner(key.derived())
        if not signers:
            raise _refused("at least one key is needed")
        self._signers = signers
        self.current = next(iter(signers))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `kid:secret,kid:secret` as the gateway's settings do: white space and empty entries are dropped.

        Raises `SettingsError` with every bad entry, by its place and never by its content.
        """
        keys: list[SigningKey] = []
        problems: list[SettingProblem] = []
        entries = [stripped for entry in text.split(",") if (stripped := entry.strip())]
        for place, entry in enumerate(entries, 1):
            kid, colon, secret = entry.partition(":")
            if not colon:
                problems.append(SettingProblem(_SETTING, f"entry {place} is not kid:secret"))
                continue
            try:
                keys.append(SigningKey(kid, secret.strip()))
            except SettingsError as error:
                problems.extend(SettingProblem(p.name, f"entry {place}: {p.message}") for p in error.problems)
        if problems:
            raise SettingsError(problems)
        return cls(keys)

    @property
    def kids(self) -> tuple[str, ...]:
        """The names of the keys, the one that signs first."""
        return tuple(self._signers)

    def get(self, kid: str) -> Signer | None:
        """Return the signer of that key, or None if it is not on the ring."""
        return self._signers.get(kid)

    def sign(self, covered: str) -> str:
        """Return the signature of the current key: 43 characters of base64url. `covered` is ASCII."""
        return self._signers[self.current].get_signature(covered).decode("ascii")

    def __repr__(self) -> str:
        return f"KeyRing{self.kids!r}"


def _refused(message: str) -> SettingsError:
    return SettingsError([SettingProblem(_SETTING, message)])
