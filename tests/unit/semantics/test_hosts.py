from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.semantics.hosts import is_host

PORTS = st.just("") | st.integers(0, 65_535).map(lambda port: f":{port}")


@pytest.mark.parametrize(
    "value",
    [
        "",
        ":80",
        "a",
        "a:",
        "a:80",
        "a:65535",
        "MEDIA.example.com",
        "media.example.com.",
        "under_score.example",
        "_",
        "xn--mnchen-3ya.example",
        "m%C3%BCnchen.example",
        "127.0.0.1",
        "127.0.0.1:8080",
        "999.0.0.1",
        "[::1]",
        "[::1]:8080",
        "[2001:DB8::1]",
        "[::ffff:192.0.2.1]",
        "[fe80::1%25eth0]:80",
        "[v1.a:b]",
        "a-b.c~d",
        "service!$&'()*+,;=name",
    ],
)
def test_rfc9110_7_2_names_addresses_and_nothing_are_hosts(value: str) -> None:
    assert is_host(value)


@pytest.mark.parametrize(
    "value",
    [
        "a b",
        " a",
        "a/../b",
        "a/",
        "/",
        "a@b",
        "user:pass@b",
        "a?b",
        "a#b",
        "a\\b",
        "a:b",
        "a:80:80",
        "a:-1",
        "a:+1",
        "a:٣",
        "a:65536",
        "a:99999",
        "a:100000",
        "http://a",
        "a\tb",
        "a\x00b",
        "a\n",
        'a"b',
        "<a>",
        "a|b",
        "a^b",
        "a`b",
        "{a}",
        "münchen.example",
        "a%",
        "a%2",
        "a%zz",
        "a%2fb",
        "a%40b",
        "a%20b",
        "a%00",
        "::1",
        "[::1",
        "::1]",
        "[]",
        "[a]",
        "[127.0.0.1]",
        "[::1]a",
        "[::1]:a",
        "[[::1]]",
        "[::1/64]",
        "[::1%eth0]",
        "[::1%25]",
        "[::1%25a%25b]",
        "[v.a]",
        "[v1.]",
        "[v1.a",
        "[vg.a]",
        "a[::1]",
    ],
)
def test_rfc9110_7_2_other_characters_or_parts_make_no_host(value: str) -> None:
    assert not is_host(value)


@given(st.ip_addresses(v=6), PORTS)
def test_every_ipv6_address_in_brackets_is_a_host(address: ipaddress.IPv6Address, port: str) -> None:
    assert is_host(f"[{address}]{port}")
    assert is_host(f"[{address.exploded.upper()}]{port}")
    assert not is_host(f"{address.exploded}{port}")


@given(st.from_regex(r"[A-Za-z0-9_.-]*", fullmatch=True), PORTS)
def test_every_name_is_a_host(name: str, port: str) -> None:
    assert is_host(f"{name}{port}")


@given(st.text(), st.sampled_from(' /?#@\\"<>^`{|}\t\r\n\x00\x7f'), st.text())
def test_nothing_with_a_delimiter_is_a_host(before: str, delimiter: str, after: str) -> None:
    assert not is_host(f"{before}{delimiter}{after}")
