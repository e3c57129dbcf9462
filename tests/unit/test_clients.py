"""Client authentication is HTTP Basic (RFC 7617) with `id:secret`; scopes and accounts bound a client."""

from __future__ import annotations

import base64
import hmac
import re

import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from pydantic import ValidationError

from proxy.clients import AllAccounts, Client, ClientRegistry, Scope, hash_secret, new_secret, new_signing_key
from proxy.errors import Forbidden, Unauthorized
from proxy.model import AccountSid, Provider
from proxy.settings import ClientSettings, load
from proxy.upstream.providers import Account, Accounts

ACCOUNT = AccountSid.parse("AC" + "0a" * 16)
OTHER = AccountSid.parse("AC" + "0b" * 16)
UNLISTED = AccountSid.parse("AC" + "0c" * 16)
NONE = Accounts([])
SECRET = "correct-horse:battery-staple-0123456789"
HASHED = "hashed-horse-battery-staple-0123456789"
UNICODE = "pferd-öäü-€-batterie-klammer-0123456789"


def settings(name: str, **secret: str) -> ClientSettings:
    values = {"id": name, "scopes": ["mint", "read"], "accounts": [str(ACCOUNT)], **secret}
    return ClientSettings.model_validate(values)


REGISTRY = ClientRegistry(
    [
        settings("app", secret=SECRET),
        settings("hashed", secret_hash=hash_secret(HASHED)),
        settings("umlaut", secret=UNICODE),
    ]
)


def basic(pair: str | bytes, scheme: str = "Basic") -> str:
    raw = pair.encode() if isinstance(pair, str) else pair
    return f"{scheme} {base64.b64encode(raw).decode()}"


def refusal(authorization: str | None) -> Unauthorized:
    with pytest.raises(Unauthorized) as caught:
        REGISTRY.authenticate(authorization)
    return caught.value


@pytest.mark.parametrize(("name", "secret"), [("app", SECRET), ("hashed", HASHED), ("umlaut", UNICODE)])
def test_a_client_is_known_by_its_id_and_secret(name: str, secret: str) -> None:
    client = REGISTRY.authenticate(basic(f"{name}:{secret}"))
    assert client == Client(name, frozenset({Scope.MINT, Scope.READ}), frozenset({ACCOUNT}))


@pytest.mark.parametrize("scheme", ["basic", "BASIC", "Basic", "Basic "])
def test_rfc_7617_the_scheme_has_no_case(scheme: str) -> None:
    assert REGISTRY.authenticate(basic(f"app:{SECRET}", scheme)).id == "app"


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic ",
        f"Bearer {SECRET}",
        basic(f"app:{SECRET}", "Basic2"),
        basic(f"app:{SECRET}", "Digest"),
        "Basic ***",
        "Basic YXBw",
        "Basic é",
        "Basic \udce9",
        basic(f"app:{SECRET}")[:-3] + "*=",
        basic(f"app:{SECRET}").replace("Basic ", "Basic\t"),
        basic(b"app:\xff\xfe"),
        basic(f"app:{SECRET}x"),
        basic(f"app:{SECRET[:-1]}"),
        basic(f"app:{HASHED}"),
        basic("app:"),
        basic(f"App:{SECRET}"),
        basic(f"nobody:{SECRET}"),
        basic(f":{SECRET}"),
        basic(f"app:{SECRET}, {basic('x:y')}"),
        basic(f"app:{SECRET}") + "," + basic(f"app:{SECRET}"),
        basic(f"hashed:{hash_secret(HASHED)}"),
    ],
)
def test_anything_else_is_401_and_never_says_why(authorization: str | None) -> None:
    error = refusal(authorization)
    assert error.status == 401
    assert error.headers["WWW-Authenticate"].startswith("Basic ")
    assert error.detail == Unauthorized().detail
    assert SECRET not in error.note


def test_the_log_tells_the_causes_apart() -> None:
    notes = [
        refusal(authorization).note
        for authorization in (
            None,
            "Bearer x",
            "Basic *",
            basic("app"),
            basic("nobody:x"),
            basic("app:x"),
            "Basic " + "A" * 9000,
        )
    ]
    assert len(set(notes)) == len(notes)
    assert all(notes)


def test_the_length_of_credentials_is_bounded() -> None:
    padded = f"app:{SECRET}"
    assert REGISTRY.authenticate(f"Basic {' ' * 100}{basic(padded)[6:]}").id == "app"
    assert refusal(f"Basic {' ' * 8192}{basic(padded)[6:]}").note == "credentials too long"


def test_the_longest_secret_fits_the_bound() -> None:
    secret = "€" * 1024
    registry = ClientRegistry([settings("k" * 64, secret=secret)])
    assert registry.authenticate(basic(f"{'k' * 64}:{secret}")).id == "k" * 64


def test_an_unknown_id_costs_a_comparison_like_a_wrong_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    really = hmac.compare_digest

    def counting(first: bytes, second: bytes) -> bool:
        compared.append(first)
        return really(first, second)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    refusal(basic("nobody:wrong"))
    refusal(basic("app:wrong"))
    REGISTRY.authenticate(basic(f"app:{SECRET}"))
    assert len(compared) == 3
    assert all(len(digest) == 32 for digest in compared)


def test_an_empty_registry_knows_nobody() -> None:
    with pytest.raises(Unauthorized):
        ClientRegistry([]).authenticate(basic(f"app:{SECRET}"))


def test_a_registry_holds_no_secret_as_written() -> None:
    assert SECRET not in repr(vars(ClientRegistry([settings("app", secret=SECRET)])))


@given(st.one_of(st.none(), st.text(max_size=60), st.binary(max_size=60).map(basic)))
def test_arbitrary_credentials_are_401(authorization: str | None) -> None:
    refusal(authorization)


@given(st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters=","), min_size=32, max_size=40))
@settings_of_hypothesis(max_examples=30)
def test_every_secret_of_the_settings_authenticates(secret: str) -> None:
    registry = ClientRegistry([settings("app", secret=secret)])
    assert registry.authenticate(basic(f"app:{secret}")).id == "app"


# --- scopes and accounts --------------------------------------------------------------------------------------


def test_a_client_may_what_its_scopes_say() -> None:
    client = Client("app", frozenset({Scope.MINT}), frozenset({ACCOUNT}))
    assert client.may(Scope.MINT)
    client.require(Scope.MINT)
    for scope in set(Scope) - {Scope.MINT}:
        assert not client.may(scope)
        with pytest.raises(Forbidden, match=scope):
            client.require(scope)


def test_a_client_sees_its_accounts() -> None:
    client = Client("app", frozenset(), frozenset({ACCOUNT}))
    assert client.sees(ACCOUNT, NONE)
    assert not client.sees(OTHER, NONE)


@pytest.mark.parametrize(
    ("written", "parent", "seen"),
    [
        ([f"{ACCOUNT}/*"], True, {ACCOUNT, UNLISTED}),
        ([f"{ACCOUNT}/*"], False, {ACCOUNT}),
        ([f"{OTHER}/*"], True, {OTHER}),
        ([str(ACCOUNT)], True, {ACCOUNT}),
        ([str(UNLISTED)], True, {UNLISTED}),
        ([f"{str(ACCOUNT).lower().replace('ac', 'AC')}/*", str(OTHER)], True, {ACCOUNT, OTHER, UNLISTED}),
        (["*"], True, {ACCOUNT, OTHER, UNLISTED}),
    ],
)
def test_a_wildcard_covers_an_account_and_its_subaccounts(
    written: list[str], parent: bool, seen: set[AccountSid]
) -> None:
    of_settings = ClientSettings.model_validate({"id": "a", "secret": SECRET, "scopes": ["mint"], "accounts": written})
    client = ClientRegistry([of_settings]).authenticate(basic(f"a:{SECRET}"))
    accounts = Accounts(
        Account.create(Provider.TWILIO, sid, "u", "p", "https://api.twilio.com", subaccounts=parent and sid == ACCOUNT)
        for sid in (ACCOUNT, OTHER)
    )
    assert {sid for sid in (ACCOUNT, OTHER, UNLISTED) if client.sees(sid, accounts)} == seen


@pytest.mark.parametrize(
    "written", ["*/*", "/*", "AC/*", f"{ACCOUNT}/", f"{ACCOUNT}/**", f"{ACCOUNT}/*/*", f" {ACCOUNT} /*"]
)
def test_no_other_pattern_names_accounts(written: str) -> None:
    with pytest.raises(ValidationError, match="expected a list of account SIDs"):
        ClientSettings.model_validate({"id": "a", "secret": SECRET, "scopes": ["mint"], "accounts": [written]})


def test_a_client_of_all_accounts_sees_every_one() -> None:
    client = Client("app", frozenset(), AllAccounts.ALL)
    assert client.sees(ACCOUNT, NONE)
    assert client.sees(OTHER, NONE)


def test_the_scopes_of_the_contract() -> None:
    assert {scope.value for scope in Scope} == {"mint", "read", "delete", "purge", "revoke", "observe"}


# --- making secrets -------------------------------------------------------------------------------------------


def test_a_new_secret_is_unique_and_valid_in_settings() -> None:
    first, second = new_secret(), new_secret()
    assert first != second
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", first)
    registry = ClientRegistry(load({"GATEWAY_CLIENTS": f"app:{first}"}, None).clients)
    assert registry.authenticate(basic(f"app:{first}")).accounts is AllAccounts.ALL


def test_a_new_signing_key_is_unique_and_valid_in_settings() -> None:
    first, second = new_signing_key(), new_signing_key()
    keys = load({"GATEWAY_SIGNING_KEYS": f"{first},{second}"}, None).signing_keys
    assert [f"{key.kid}:{key.secret.get_secret_value()}" for key in keys] == [first, second]


def test_a_hash_is_salted() -> None:
    assert re.fullmatch(r"sha256:[0-9a-f]{32}:[0-9a-f]{64}", hash_secret(SECRET))
    assert hash_secret(SECRET) != hash_secret(SECRET)


def test_the_published_form_of_a_hash() -> None:
    # SHA-256 of the 16 octets of the salt followed by the UTF-8 of the secret.
    digest = "833306811ebf5c74f32d11082e66e61fd16983a252ddf459e6f3d50dc1f3e194"
    registry = ClientRegistry([settings("app", secret_hash=f"sha256:{'00' * 15}01:{digest}")])
    assert registry.authenticate(basic(f"app:{SECRET}")).id == "app"
