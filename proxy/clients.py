"""Gateway clients: their authentication (HTTP Basic, RFC 7617) and their rights.

A client's secret is held as a salted SHA-256 digest. That is enough for secrets made by `new_secret`: 256 random bits
cannot be guessed, however cheap a guess is, and the check on every request costs a microsecond.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from proxy.errors import Forbidden, Unauthorized
from proxy.model import AccountSid
from proxy.settings import AllAccounts, ClientSettings, Scope, SubaccountsOf

__all__ = ["AllAccounts", "Client", "ClientRegistry", "Scope", "hash_secret", "new_secret", "new_signing_key"]

_SALT_BYTES: Final = 16
_CREDENTIALS_BYTES: Final = 8192
"""Longest `Authorization` value that is read: more than the longest id and secret need."""


class Parents(Protocol):
    """The accounts, as far as one is reached through another."""

    def parent(self, sid: AccountSid) -> AccountSid | None:
        """Return the account that this one is a subaccount of; None for an account of its own."""
        ...


@dataclass(frozen=True, slots=True)
class Client:
    """An authenticated client, with its scopes and accounts."""

    id: str
    scopes: frozenset[Scope]
    accounts: frozenset[AccountSid | SubaccountsOf] | AllAccounts

    def may(self, scope: Scope) -> bool:
        """Return whether the client has that scope."""
        return scope in self.scopes

    def sees(self, account: AccountSid, accounts: Parents) -> bool:
        """Return whether the client may use the account, by its identifier or as a subaccount."""
        if self.accounts is AllAccounts.ALL or account in self.accounts:
            return True
        parent = accounts.parent(account)
        return parent is not None and SubaccountsOf(parent) in self.accounts

    def require(self, scope: Scope) -> None:
        """Raise `Forbidden` unless the client has that scope."""
        if not self.may(scope):
            raise Forbidden(f"This client does not have the scope {scope}.", note=f"client {self.id}")


@dataclass(frozen=True, slots=True)
class _Digest:
    """A secret, salted and hashed; its text form is `sha256:SALT:DIGEST`, both in lower-case hex."""

    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, secret: str) -> _Digest:
        salt = secrets.token_bytes(_SALT_BYTES)
        return cls(salt, _salted(salt, secret))

    @classmethod
    def parse(cls, text: str) -> _Digest:
        _, salt, digest = text.split(":")
        return cls(bytes.fromhex(salt), bytes.fromhex(digest))

    def matches(self, secret: str) -> bool:
        return hmac.compare_digest(self.digest, _salted(self.salt, secret))

    def __str__(self) -> str:
        return f"sha256:{self.salt.hex()}:{self.digest.hex()}"


def _salted(salt: bytes, secret: str) -> bytes:
    return hashlib.sha256(salt + secret.encode()).digest()


def _digest(settings: ClientSettings) -> _Digest:
    if settings.secret_hash is not None:
        return _Digest.parse(settings.secret_hash.get_secret_value())
    assert settings.secret is not None, "a client has either a secret or its hash"
    return _Digest.of(settings.secret.get_secret_value())


class ClientRegistry:
    """The clients of the settings, by id."""

    def __init__(self, clients: Iterable[ClientSettings]) -> None:
        self._known = {
            client.id: (Client(client.id, client.scopes, client.accounts), _digest(client)) for client in clients
        }
        self._no_client = _Digest.of(new_secret())

    def authenticate(self, authorization: str | None) -> Client:
        """Return the client whose id and secret the value of an `Authorization` field holds.

        Raises `Unauthorized`, which is the same for every cause, but for its note. An unknown id costs the same work as
        a wrong secret.
        """
        name, secret = _parse_basic(authorization)
        client, digest = self._known.get(name, (None, self._no_client))
        if not digest.matches(secret) or client is None:
            raise Unauthorized(note="unknown client" if client is None else f"wrong secret of client {client.id}")
        return client


def _parse_basic(authorization: str | None) -> tuple[str, str]:
    """Return user-id and password of Basic credentials (RFC 7617 §2); the first colon splits them."""
    if authorization is None:
        raise Unauthorized(note="no credentials")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise Unauthorized(note="credentials of a scheme other than Basic")
    if len(authorization) > _CREDENTIALS_BYTES:
        raise Unauthorized(note="credentials too long")
    try:
        # UnicodeDecodeError and binascii.Error are both ValueErrors.
        pair = base64.b64decode(token.strip(" "), validate=True).decode()
    except ValueError:
        raise Unauthorized(note="credentials are not base64 of UTF-8") from None
    name, colon, secret = pair.partition(":")
    if not colon:
        raise Unauthorized(note="credentials without a colon")
    return name, secret


# --- making secrets -------------------------------------------------------------------------------------------


def new_secret() -> str:
    """Make a secret: 256 random bits in 43 characters of `[A-Za-z0-9_-]`."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """Return the `secret_hash` of a client in TOML: `sha256:SALT:DIGEST`, with a new salt."""
    return str(_Digest.of(secret))


def new_signing_key() -> str:
    """Make a `kid:secret` for `GATEWAY_SIGNING_KEYS`, with a random name."""
    return f"k{secrets.token_hex(3)}:{new_secret()}"
