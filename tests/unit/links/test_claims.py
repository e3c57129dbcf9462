from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadRequest
from proxy.links import NO_CLAIMS, Claims, LinkScope
from proxy.links.claims import decode_value, encode_value

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXT)
def test_a_values_one_encoding_decodes_to_it(text: str) -> None:
    encoded = encode_value(text)
    assert set(encoded) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%")
    assert decode_value(encoded) == text


@pytest.mark.parametrize(
    "raw", ["a+b", "%c3%a9", "%61", "%7E", "%FF", "%ED%A0%80", "%", "%4", "é", "a b", "%EF%BF%BD%80"]
)
def test_any_other_encoding_is_refused(raw: str) -> None:
    with pytest.raises(ValueError, match="canonical"):
        decode_value(raw)


def test_no_claims_are_no_parameters() -> None:
    assert Claims() == Claims.parse() == Claims.from_parameters({}) == NO_CLAIMS
    assert NO_CLAIMS.query() == ""


def test_claims_stand_in_the_minted_order() -> None:
    claims = Claims.parse(scope="message", disposition="attachment", filename="é.jpg", ip="::1", not_before=0)
    assert claims == Claims(0, IPv6Network("::1"), "é.jpg", "attachment", LinkScope.MESSAGE)
    assert claims.query() == ("&not_before=0&ip=%3A%3A1%2F128&filename=%C3%A9.jpg&disposition=attachment&scope=message")


@pytest.mark.parametrize(
    ("given_", "field"),
    [
        ({"not_before": -1}, "not_before"),
        ({"not_before": 10**12}, "not_before"),
        ({"ip": ""}, "ip"),
        ({"ip": "203.0.113.7/24"}, "ip"),
        ({"ip": "example.com"}, "ip"),
        ({"ip": "fe80::1%eth0"}, "ip"),
        ({"filename": ""}, "filename"),
        ({"filename": "a" * 256}, "filename"),
        ({"filename": "a\nb"}, "filename"),
        ({"filename": "a\x7f"}, "filename"),
        ({"filename": "a\x85"}, "filename"),
        ({"filename": "a\ud800"}, "filename"),
        ({"disposition": ""}, "disposition"),
        ({"disposition": "INLINE"}, "disposition"),
        ({"scope": ""}, "scope"),
        ({"scope": "account"}, "scope"),
    ],
)
def test_a_bad_claim_is_named(given_: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        Claims.parse(**given_)
    assert [problem.field for problem in refusal.value.errors] == [field]


def test_an_untyped_caller_gets_no_other_disposition_into_a_link() -> None:
    untyped: dict[str, Any] = {"disposition": "form-data"}
    with pytest.raises(BadRequest) as refusal:
        Claims(**untyped)
    assert [problem.field for problem in refusal.value.errors] == ["disposition"]


def test_every_bad_claim_is_named_at_once() -> None:
    with pytest.raises(BadRequest) as refusal:
        Claims.parse(not_before=-1, ip="x", filename="", disposition="x", scope="x")
    assert {p.field for p in refusal.value.errors} == {"not_before", "ip", "filename", "disposition", "scope"}


def test_the_longest_values_are_good() -> None:
    claims = Claims.parse(not_before=10**12 - 1, filename="é" * 255, disposition="inline", scope="media")
    assert claims.scope is LinkScope.MEDIA
    assert claims.filename == "é" * 255


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("203.0.113.7", "203.0.113.7/32"),
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::ffff:203.0.113.7", "203.0.113.7/32"),
        ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ],
)
def test_a_caller_may_spell_a_network_in_any_way(text: str, network: str) -> None:
    assert Claims.parse(ip=text).ip == ip_network(network)


def test_a_mapped_network_is_no_claim() -> None:
    with pytest.raises(BadRequest, match="claim"):
        Claims(ip=IPv6Network("::ffff:203.0.113.0/120"))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"not_before": "01"}, "not_before"),
        ({"not_before": "1e3"}, "not_before"),
        ({"not_before": "1" * 13}, "not_before"),
        ({"not_before": "\u0661"}, "not_before"),
        ({"ip": "203.0.113.7"}, "ip is not in its canonical form"),
        ({"ip": "203.0.113.7/24"}, "host bits"),
        ({"ip": "10.0.0.0/255.0.0.0"}, "canonical form"),
        ({"ip": "2001:DB8::/32"}, "canonical form"),
        ({"ip": "::ffff:203.0.113.0/120"}, "ip"),
        ({"ip": "::ffff:cb00:7100/120"}, "ip"),
        ({"ip": "fe80::%eth0/64"}, "zone"),
        ({"filename": "a\rb"}, "control"),
        ({"filename": "a" * 256}, "255"),
        ({"disposition": "form-data"}, "disposition"),
        ({"scope": "media"}, "scope"),
    ],
)
def test_a_links_claim_that_may_not_stand_is_refused(values: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Claims.from_parameters(values)


@pytest.mark.parametrize(
    ("network", "client", "admitted"),
    [
        ("203.0.113.0/24", "203.0.113.255", True),
        ("203.0.113.0/24", "203.0.114.0", False),
        ("203.0.113.0/24", "::ffff:203.0.113.9", True),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("::/0", "203.0.113.9", False),
        ("::/0", "::ffff:203.0.113.9", False),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("203.0.113.0/24", None, False),
        (None, None, True),
        (None, "203.0.113.9", True),
    ],
)
def test_a_client_is_admitted_by_its_network(network: str | None, client: str | None, admitted: bool) -> None:
    claims = Claims(ip=None if network is None else ip_network(network))
    assert claims.admits(None if client is None else ip_address(client)) is admitted


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_an_ipv4_client_and_its_mapped_form_are_one(address: Any, prefix: int) -> None:
    claims = Claims(ip=IPv4Network((int(address) >> (32 - prefix) << (32 - prefix), prefix)))
    assert claims.admits(address)
    assert claims.admits(ip_address(f"::ffff:{address}"))
