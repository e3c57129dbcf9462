"""Values as settings write them: sizes, flags, hosts, origins, addresses, networks."""

from __future__ import annotations

import ipaddress
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.settings import (
    CorsOrigins,
    PublicUrl,
    RedirectHost,
    TcpAddress,
    UnixAddress,
    is_loopback,
    parse_host,
    parse_listen,
)
from proxy.settings.addresses import (
    parse_cors_origins,
    parse_origin,
    parse_public_url,
    parse_redirect_hosts,
    parse_trusted,
    parse_upstream,
)
from proxy.settings.values import format_size, parse_field_name, parse_flag, parse_items, parse_text, size, whole

# --- names of header fields -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["X-Original-URI", "X-Forwarded-Uri", "x", "x" * 100])
def test_rfc_9110_s5_1_a_field_name_is_a_token(name: str) -> None:
    assert parse_field_name(f" {name} ") == name


@pytest.mark.parametrize("name", ["", "X Original", "X-Original-URI:", "é", "x\ny", "x" * 101, 1])
def test_what_is_no_field_name_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match=r"is empty|has a control|name of a header field|expected text"):
        parse_field_name(name)


# --- numbers, sizes, flags ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        (" 512 ", 512),
        ("512b", 512),
        ("10GB", 10_000_000_000),
        ("256mb", 256_000_000),
        ("3 kB", 3_000),
        ("2TB", 2_000_000_000_000),
        ("64KiB", 65_536),
        ("1MIB", 1_048_576),
        ("1gib", 1_073_741_824),
        ("1TiB", 1_099_511_627_776),
        (7, 7),
    ],
)
def test_sizes(text: object, expected: int) -> None:
    assert size(0)(text) == expected


@pytest.mark.parametrize("text", ["", "x", "10G", "1.5GB", "-1", "1 0", "GB", "1_000", "٣", -1, 1.5, True, None])
def test_bad_sizes(text: object) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        size(0)(text)


def test_a_size_has_a_least() -> None:
    assert size(5)("5") == 5
    with pytest.raises(ValueError, match="5 or more"):
        size(5)("4")


def test_sizes_are_formatted_in_the_largest_exact_unit() -> None:
    assert [format_size(number) for number in (0, 1, 65_536, 10**9)] == ["0", "1", "64KiB", "1GB"]


@given(st.integers(0, 10**14))
def test_a_formatted_size_reads_back(number: int) -> None:
    assert size(0)(format_size(number)) == number


@pytest.mark.parametrize("text", ["", "+1", "1.0", "x", "٣", True, 1.0, None, [], 4, 11, "11"])
def test_bad_whole_numbers(text: object) -> None:
    with pytest.raises(ValueError, match="from 5 to 10"):
        whole(5, 10)(text)


@pytest.mark.parametrize("text", [5, "5", " 5\n"])
def test_whole_numbers(text: object) -> None:
    assert whole(5, 10)(text) == 5
    assert whole(5, 10)("10") == 10


def test_a_truth_value_is_no_number() -> None:
    with pytest.raises(ValueError, match="whole number"):
        whole(0, 1)(True)


@pytest.mark.parametrize(
    ("written", "flag"), [("0", False), ("1", True), (" 1 ", True), (0, False), (1, True), (True, True), (False, False)]
)
def test_flags(written: object, flag: bool) -> None:
    assert parse_flag(written) is flag


@pytest.mark.parametrize("written", ["yes", "true", "2", 2, 1.0, None, ""])
def test_bad_flags(written: object) -> None:
    with pytest.raises(ValueError, match=r"expected|empty"):
        parse_flag(written)


def test_text_is_printable_and_not_empty() -> None:
    assert parse_text(" a b ") == "a b"
    for bad in ("", " \n", "a\nb", "a\x00", 1, None):
        with pytest.raises(ValueError, match=r"empty|control|text"):
            parse_text(bad)


def test_lists_are_comma_separated_or_arrays() -> None:
    assert parse_items(" a, b,,c ,") == ("a", "b", "c")
    assert parse_items([" a ", "b,c"]) == ("a", "b,c")
    with pytest.raises(ValueError, match="text"):
        parse_items(["a", 1])
    with pytest.raises(ValueError, match="list"):
        parse_items(1)


# --- hosts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("media_gateway", "media_gateway"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("10.1.2.3", "10.1.2.3"),
        ("[2001:DB8:0::1]", "2001:db8::1"),
        ("[::ffff:10.0.0.1]", "10.0.0.1"),
    ],
)
def test_hosts_are_normalised(text: str, host: str) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a..b",
        "-a",
        "a-",
        "a b",
        "*.example.com",
        "bücher.example",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "1.2.3.256",
        "example.1",
        "01.2.3.4",
        "[::1",
        "[::1%lo]",
        "[127.0.0.1]",
        "a" * 64,
        ".".join(["a" * 60] * 5),
    ],
)
def test_bad_hosts(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_host(text)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "api.localhost",
        "127.0.0.1",
        "127.255.0.9",
        "::1",
        "[::1]",
        "::ffff:127.0.0.1",
        "[::ffff:127.0.0.1]",
    ],
)
def test_hosts_that_are_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["localhost.example", "notlocalhost", "128.0.0.1", "10.0.0.1", "::2", "[::2]", "example.com"]
)
def test_hosts_that_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)


# --- origins and the public URL -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("HTTPS://Example.com", "https://example.com"),
        ("https://example.com:443/", "https://example.com"),
        ("http://example.com:80", "http://example.com"),
        ("http://example.com:443", "http://example.com:443"),
        ("https://[::1]:8443", "https://[::1]:8443"),
    ],
)
def test_origins_are_normalised(text: str, origin: str) -> None:
    assert str(parse_origin(text)) == origin


@pytest.mark.parametrize(
    "text",
    [
        "example.com",
        "ftp://example.com",
        "https://",
        "https://user@example.com",
        "https://u:p@example.com",
        "https://example.com?x",
        "https://example.com#x",
        "https://example.com/path",
        "https://example.com//",
        "https://example.com:0",
        "https://example.com:65536",
        "https://example.com:",
        "https://exa mple.com",
        "https://0.0.0.0",
        "https://[::]",
        "https://example.com\\@evil.example",
        "null",
        "*",
    ],
)
def test_bad_origins(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|wildcard"):
        parse_origin(text)


def test_credentials_go_over_plain_http_to_loopback_only() -> None:
    assert parse_upstream("http://127.0.0.1:1").loopback
    assert not parse_upstream("https://example.com").loopback
    with pytest.raises(ValueError, match="expected https"):
        parse_upstream("http://example.com")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://m.example", PublicUrl("https://m.example")),
        ("https://m.example/", PublicUrl("https://m.example")),
        ("http://m.example:8080/a/b-._~9", PublicUrl("http://m.example:8080", "/a/b-._~9")),
        ("https://m.example/a/", PublicUrl("https://m.example", "/a")),
        ("https://m.example/...", PublicUrl("https://m.example", "/...")),
    ],
)
def test_public_urls(text: str, url: PublicUrl) -> None:
    assert parse_public_url(text) == url
    assert str(url) == url.origin + url.mount


@pytest.mark.parametrize(
    "mount", ["//", "/a//b", "/a//", "/.", "/..", "/a/../b", "/a/.", "/%41", "/a b", "/ä", "/a?x", "/a#x", "/a;b"]
)
def test_bad_mounts(mount: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_public_url("https://m.example" + mount)


# --- listening ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", TcpAddress("127.0.0.1", 8080)),
        ("localhost:0", TcpAddress("localhost", 0)),
        ("[::1]:65535", TcpAddress("::1", 65535)),
        ("unix:/run/g.sock", UnixAddress(PurePosixPath("/run/g.sock"))),
    ],
)
def test_listen_addresses_read_back(text: str, address: TcpAddress | UnixAddress) -> None:
    assert parse_listen(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        ":8080",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:x",
        "::1:8080",
        "unix:",
        "unix:run/g.sock",
        "unix:/" + "a" * 107,
        "http://127.0.0.1:80",
        "127.0.0.1:80/x",
    ],
)
def test_bad_listen_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|empty"):
        parse_listen(text)


def test_wildcard_addresses() -> None:
    assert TcpAddress("0.0.0.0", 1).wildcard
    assert TcpAddress("::", 1).wildcard
    assert not TcpAddress("127.0.0.1", 1).wildcard


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(0, 65535))
def test_every_ip_address_can_be_listened_at(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> None:
    host = f"[{address}]" if address.version == 6 else str(address)
    parsed = parse_listen(f"{host}:{port}")
    assert isinstance(parsed, TcpAddress)
    assert parse_listen(str(parsed)) == parsed
    assert parsed.port == port


# --- lists ----------------------------------------------------------------------------------------------------


def test_redirect_hosts_are_normalised_and_stand_once() -> None:
    assert parse_redirect_hosts("CDN.example., cdn.example, [2001:db8::1]:443,127.0.0.1:80") == (
        RedirectHost("cdn.example"),
        RedirectHost("2001:db8::1", 443),
        RedirectHost("127.0.0.1", 80),
    )
    assert str(RedirectHost("2001:db8::1", 443)) == "[2001:db8::1]:443"
    assert str(RedirectHost("cdn.example")) == "cdn.example"


@pytest.mark.parametrize(
    "text",
    [
        "https://cdn.example",
        "*.example",
        "cdn.example/x",
        "cdn.example:0",
        "cdn.example:99999",
        "u@cdn.example",
        "::1",
        "0.0.0.0:80",
        "[::]:80",
        "localhost",
        "[::1]",
        "127.0.0.1",
    ],
)
def test_bad_redirect_hosts_are_told_by_number(text: str) -> None:
    with pytest.raises(ValueError, match=r"^entry 2: "):
        parse_redirect_hosts(f"ok.example,{text}")


def test_cors_origins() -> None:
    some = parse_cors_origins("https://A.example, http://b.example:8080")
    assert some == CorsOrigins(frozenset({"https://a.example", "http://b.example:8080"}))
    assert some.allows("https://a.example")
    assert not some.allows("https://a.example.evil.example")
    assert not some.allows("null")
    every = parse_cors_origins("*")
    assert every.every
    assert every.allows("https://anything.example")


@pytest.mark.parametrize(
    "text", ["*,https://a.example", "https://ok.example,a.example", "https://ok.example,https://a.example/x"]
)
def test_bad_cors_origins(text: str) -> None:
    with pytest.raises(ValueError, match=r"alone|entry 2: "):
        parse_cors_origins(text)


def test_trusted_networks() -> None:
    trusted = parse_trusted("10.0.0.0/8, ::1,unix,192.0.2.1")
    assert [str(network) for network in trusted.networks] == ["10.0.0.0/8", "::1/128", "192.0.2.1/32"]
    assert trusted.unix
    assert not parse_trusted("10.0.0.0/8").unix


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "example.com", "*"])
def test_bad_trusted_networks_are_told_by_number(text: str) -> None:
    with pytest.raises(ValueError, match=r"^entry 2: expected a network"):
        parse_trusted(f"unix,{text}")
