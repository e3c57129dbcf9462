"""Signing keys and clients, as settings write them. Parsers raise `ValueError`, and repeat nothing of the value."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, SecretStr

from proxy.errors import IdentifierError
from proxy.model import AccountSid
from proxy.settings.annotations import Sealed
from proxy.settings.values import parse_items, parse_text

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECRET_LENGTH: Final = range(32, 1025)
_HASH: Final = re.compile(r"sha256:[0-9a-f]{32}:[0-9a-f]{64}")


class Scope(enum.StrEnum):
    """Rights of a client."""

    MINT = "mint"
    READ = "read"
    DELETE = "delete"
    PURGE = "purge"
    REVOKE = "revoke"
    OBSERVE = "observe"


class AllAccounts(enum.Enum):
    """The accounts of a client that is bound to none: every account, now and later."""

    ALL = "*"


@dataclass(frozen=True, slots=True)
class SubaccountsOf:
    """Accounts that are not configured themselves and are reached through `account`."""

    account: AccountSid


class SigningKeySettings(BaseModel):
    """A key of the key ring. `kid` is public: every link has it."""

    model_config = ConfigDict(frozen=True)

    kid: str
    secret: SecretStr


def parse_id(written: object) -> str:
    """Parse the name of a key or of a client: 1 to 64 characters of `[A-Za-z0-9._-]`."""
    text = parse_text(written)
    if not _ID.fullmatch(text):
        raise ValueError("expected a name of 1 to 64 letters, digits, dots, underscores and hyphens")
    return text


def parse_secret(written: object) -> SecretStr:
    """Parse a secret of 32 to 1024 characters without a comma; white space around it is dropped."""
    text = parse_text(written)
    if len(text) not in _SECRET_LENGTH:
        raise ValueError(
            f"expected a secret of at least {_SECRET_LENGTH[0]} and at most {_SECRET_LENGTH[-1]} characters"
        )
    if "," in text:
        raise ValueError("expected a secret without a comma")
    return SecretStr(text)


def _named_secrets(written: object, form: str) -> Iterator[tuple[str, SecretStr]]:
    """Yield the entries of `name:secret,name:secret`, each name once."""
    seen: set[str] = set()
    for number, text in enumerate(parse_items(written), 1):
        name, colon, secret = text.partition(":")
        try:
            if not colon:
                raise ValueError(f"expected {form}")
            pair = parse_id(name), parse_secret(secret)
            if name in seen:
                raise ValueError("the name is used twice")
        except ValueError as error:
            raise ValueError(f"entry {number}: {error}") from None
        seen.add(name)
        yield pair


def parse_signing_keys(written: object) -> tuple[SigningKeySettings, ...]:
    """Parse `kid:secret,kid:secret`."""
    return tuple(SigningKeySettings(kid=kid, secret=secret) for kid, secret in _named_secrets(written, "kid:secret"))


def _parse_hash(written: object) -> SecretStr:
    text = parse_text(written)
    if not _HASH.fullmatch(text):
        raise ValueError("expected sha256:SALT:DIGEST of 32 and 64 lower-case hex digits, as `keygen --hash` prints it")
    return SecretStr(text)


def _parse_scopes(written: object) -> frozenset[Scope]:
    names = parse_items(written)
    if not names or not set(names) <= set(Scope):
        raise ValueError(f"expected one or more of {', '.join(Scope)}")
    return frozenset(Scope(name) for name in names)


_ALL_OF: Final = "/*"


def _parse_accounts(written: object) -> frozenset[AccountSid | SubaccountsOf] | AllAccounts:
    """Parse `["*"]`, or identifiers; `AC…/*` stands for that account and its subaccounts."""
    names = parse_items(written)
    if names == ("*",):
        return AllAccounts.ALL
    accounts: set[AccountSid | SubaccountsOf] = set()
    try:
        for name in names:
            account = AccountSid.parse(name.removesuffix(_ALL_OF))
            accounts.add(account)
            if name.endswith(_ALL_OF):
                accounts.add(SubaccountsOf(account))
    except IdentifierError:
        accounts.clear()
    if not accounts:
        raise ValueError('expected a list of account SIDs ("AC…/*" adds its subaccounts), or ["*"] for all')
    return frozenset(accounts)


class ClientSettings(BaseModel):
    """A client; it has either a `secret` or a `secret_hash`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: Annotated[str, BeforeValidator(parse_id)]
    secret: Annotated[SecretStr | None, BeforeValidator(parse_secret)] = None
    secret_hash: Annotated[SecretStr | None, BeforeValidator(_parse_hash)] = None
    scopes: Annotated[frozenset[Scope], BeforeValidator(_parse_scopes)]
    accounts: Annotated[
        frozenset[InstanceOf[AccountSid] | InstanceOf[SubaccountsOf]] | AllAccounts, BeforeValidator(_parse_accounts)
    ]


def parse_clients(written: object) -> tuple[ClientSettings, ...]:
    """Parse `id:secret,id:secret`: clients with the scopes mint, read and delete, and all accounts."""
    return tuple(
        ClientSettings.model_validate(
            {"id": name, "secret": secret.get_secret_value(), "scopes": ["mint", "read", "delete"], "accounts": ["*"]}
        )
        for name, secret in _named_secrets(written, "id:secret")
    )


class ClientVariables(BaseModel):
    """Clients with the ordinary scopes and every account."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    clients: Annotated[tuple[InstanceOf[ClientSettings], ...], BeforeValidator(parse_clients), Sealed()] = Field(
        (),
        description="`id:secret,…`: scopes `mint`, `read`, `delete`, all accounts; an id matches "
        "`[A-Za-z0-9._-]{1,64}`, a secret has 32 characters or more and no comma",
    )
