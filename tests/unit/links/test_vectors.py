"""The published vectors hold for the gateway, and for a minter written from the contract's text alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import LinkError, LinkExpired
from proxy.links import Claims, Disposition, KeyRing, LinkMinter, LinkPolicy, LinkScope, SigningKey, verify
from proxy.model import MediaRef

VECTORS: dict[str, Any] = json.loads(Path(__file__).parents[2].joinpath("vectors", "links.json").read_text("utf-8"))
SECRETS: dict[str, str] = {key["kid"]: key["secret"] for key in VECTORS["keys"]}
POLICY = LinkPolicy(max_ttl=VECTORS["policy"]["max_ttl"], window=VECTORS["policy"]["window"])
DISPOSITIONS: tuple[Disposition | None, ...] = (None, "inline", "attachment")
CLAIMS = ("not_before", "ip", "filename", "disposition", "scope")


def ring(first: str) -> KeyRing:
    return KeyRing(SigningKey(kid, SECRETS[kid]) for kid in sorted(SECRETS, key=lambda kid: kid != first))


def independent(secret: str, window: int, given: dict[str, Any]) -> dict[str, Any]:
    """Return covered bytes, signature and URL from the words of the link's form alone; the package is not used."""
    derived = hmac.new(secret.encode("utf-8"), b"media-gateway.link.v1", hashlib.sha256).digest()
    expires = math.ceil((given["now"] + given["ttl"]) / window) * window
    query = f"?expires={expires}&key={given['key']}"
    for name in CLAIMS:
        if name in given:
            query += f"&{name}={quote(str(given[name]), safe='')}"
    message = f"/media/{given['account_sid']}/{given['message_sid']}/"
    covered = (message if given.get("scope") == "message" else message + given["media_sid"]) + query
    digest = hmac.new(derived, covered.encode("ascii"), hashlib.sha256).digest()
    signature = base64.b64encode(digest).decode().replace("+", "-").replace("/", "_").rstrip("=")
    url = f"{given['public_url']}{message}{given['media_sid']}{query}&signature={signature}"
    return {"covered": covered, "signature": signature, "url": url, "expires_at": expires}


def by_name(section: str) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in VECTORS[section]]


def check(vector: dict[str, Any], target: str, now: float, mount: str) -> MediaRef:
    client = None if vector["client"] is None else ip_address(vector["client"])
    return verify(target, keys=ring("k1"), policy=POLICY, now=now, client=client, mount=mount).ref


@pytest.mark.parametrize("key", VECTORS["keys"], ids=lambda key: key["kid"])
def test_the_derived_key_is_hmac_of_the_salt(key: dict[str, str]) -> None:
    secret = key["secret"].encode()
    assert hmac.digest(secret, VECTORS["salt"].encode(), "sha256").hex() == key["derived_key_hex"]
    assert SigningKey(key["kid"], key["secret"]).derived().hex() == key["derived_key_hex"]


@pytest.mark.parametrize("vector", by_name("links"))
def test_a_vector_follows_from_the_contracts_text(vector: dict[str, Any]) -> None:
    expected = independent(SECRETS[vector["input"]["key"]], POLICY.window, vector["input"])
    assert {name: vector[name] for name in expected} == expected


@pytest.mark.parametrize("vector", by_name("links"))
def test_the_minter_gives_the_vectors_url(vector: dict[str, Any]) -> None:
    given = vector["input"]
    minter = LinkMinter(given["public_url"], ring(given["key"]), POLICY, clock=lambda: float(given["now"]))
    ref = MediaRef.parse(given["account_sid"], given["message_sid"], given["media_sid"])
    claims = Claims.parse(**{name: given[name] for name in CLAIMS if name in given})
    link = minter.mint(ref, ttl=given["ttl"], claims=claims)
    assert (link.url, link.expires_at, link.refresh_at) == (vector["url"], vector["expires_at"], vector["refresh_at"])


@pytest.mark.parametrize("vector", by_name("links"))
def test_a_vector_is_good_until_its_last_second(vector: dict[str, Any]) -> None:
    given, url = vector["input"], urlsplit(vector["url"])
    mount = urlsplit(given["public_url"]).path
    target = f"{url.path}?{url.query}"
    for now in vector["valid_at"]:
        assert str(check(vector, target, now, mount)) == "/".join(
            given[name] for name in ("account_sid", "message_sid", "media_sid")
        )
    with pytest.raises(LinkExpired):
        check(vector, target, vector["expired_at"], mount)


@pytest.mark.parametrize("vector", by_name("accepted"))
def test_a_further_target_is_accepted(vector: dict[str, Any]) -> None:
    assert check(vector, vector["target"], vector["now"], vector["mount"]).account.value.islower() is False


@pytest.mark.parametrize("vector", by_name("refused"))
def test_a_refused_target_is_refused_for_the_reason_it_names(vector: dict[str, Any]) -> None:
    with pytest.raises(LinkError) as refusal:
        check(vector, vector["target"], vector["now"], vector["mount"])
    assert (refusal.value.status, refusal.value.kind) == (vector["status"], vector["kind"])


def test_every_name_stands_once() -> None:
    names = [vector["name"] for section in ("links", "accepted", "refused") for vector in VECTORS[section]]
    assert len(names) == len(set(names))


HEX = st.text("0123456789abcdef", min_size=32, max_size=32)


@settings(max_examples=60)
@given(
    ids=st.tuples(HEX, HEX, HEX),
    secret=st.text(st.characters(exclude_categories=["Cs"]), min_size=32, max_size=80),
    now=st.floats(0, 4e9),
    ttl=st.integers(1, 86_400),
    window=st.integers(1, 3_600),
    ip=st.none() | st.ip_addresses(v=4).map(IPv4Network) | st.ip_addresses(v=6).map(IPv6Network),
    filename=st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20),
    disposition=st.sampled_from(DISPOSITIONS),
    scope=st.sampled_from(LinkScope),
)
def test_the_minter_and_the_contracts_text_give_the_same_bytes(
    ids: tuple[str, str, str],
    secret: str,
    now: float,
    ttl: int,
    window: int,
    ip: IPv4Network | IPv6Network | None,
    filename: str | None,
    disposition: Disposition | None,
    scope: LinkScope,
) -> None:
    if isinstance(ip, IPv6Network) and ip.network_address.ipv4_mapped:
        ip = None
    ref = MediaRef.parse(f"AC{ids[0]}", f"SM{ids[1]}", f"ME{ids[2]}")
    claims = Claims(int(now), ip, filename, disposition, scope)
    policy = LinkPolicy(window=window)
    minter = LinkMinter("https://example.com", KeyRing([SigningKey("k", secret)]), policy, clock=lambda: now)
    given = {
        "public_url": "https://example.com",
        "key": "k",
        "now": now,
        "ttl": ttl,
        "account_sid": ref.account.value,
        "message_sid": ref.message.value,
        "media_sid": ref.media.value,
        **{
            name: value
            for name, value in (
                ("not_before", int(now)),
                ("ip", ip),
                ("filename", filename),
                ("disposition", disposition),
                ("scope", scope if scope is LinkScope.MESSAGE else None),
            )
            if value is not None
        },
    }
    assert minter.mint(ref, ttl=ttl, claims=claims).url == independent(secret, window, given)["url"]
