from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.model import IPAddress
from proxy.semantics.trusted_proxies import (
    MAX_HOPS,
    TrustedProxies,
    client_address,
    forwarded_host,
    forwarded_scheme,
    parse_address,
    unmapped,
)

TRUSTED = TrustedProxies.parse("10.0.0.0/8, ::1, fd00::/8, unix")
NOBODY = TrustedProxies()


def ip(text: str) -> IPAddress:
    return ipaddress.ip_address(text)


class TestTrustedProxies:
    def test_networks_addresses_and_unix(self) -> None:
        assert (
            TrustedProxies(
                (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128"), ipaddress.ip_network("fd00::/8")),
                unix=True,
            )
            == TRUSTED
        )
        assert TrustedProxies.parse(" UNIX ,, ") == TrustedProxies((), unix=True)
        assert TrustedProxies.parse("") == NOBODY

    @pytest.mark.parametrize("bad", ["localhost", "10.0.0.1/8", "10.0.0.0/33", "10", "::1%lo", "unix:/x", "[::1]"])
    def test_a_bad_member_is_named(self, bad: str) -> None:
        with pytest.raises(ValueError, match="not an address") as caught:
            TrustedProxies.parse(f"10.0.0.0/8,{bad}")
        assert repr(bad) in str(caught.value)

    @pytest.mark.parametrize(
        ("peer", "trusted"),
        [
            ("10.1.2.3", True),
            ("::ffff:10.1.2.3", True),
            ("::1", True),
            ("fd00::5", True),
            ("11.0.0.1", False),
            ("::2", False),
        ],
    )
    def test_membership(self, peer: str, *, trusted: bool) -> None:
        assert (ip(peer) in TRUSTED) is trusted
        assert ip(peer) not in NOBODY

    def test_a_unix_socket_is_trusted_only_where_written(self) -> None:
        assert None in TRUSTED
        assert None not in TrustedProxies.parse("0.0.0.0/0, ::/0")

    def test_rfc4291_2_5_5_2_a_mapped_network_is_ipv4(self) -> None:
        assert ip("10.1.2.3") in TrustedProxies.parse("::ffff:10.0.0.0/104")
        assert ip("11.1.2.3") not in TrustedProxies.parse("::ffff:10.0.0.0/104")


class TestAddresses:
    @pytest.mark.parametrize(
        ("text", "address"),
        [
            ("1.2.3.4", "1.2.3.4"),
            ("1.2.3.4:80", "1.2.3.4"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("[2001:DB8::1]:443", "2001:db8::1"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("[::ffff:102:304]:80", "1.2.3.4"),
        ],
    )
    def test_an_address_with_or_without_brackets_and_port(self, text: str, address: str) -> None:
        assert parse_address(text) == ip(address)

    @pytest.mark.parametrize(
        "text",
        [
            "", "unknown", "_hidden", "1.2.3", "1.2.3.256", "01.2.3.4", "1.2.3.4:", "1.2.3.4:x", "1.2.3.4:123456",
            "[1.2.3.4]", "[::1", "::1]", "[::1]80", "fe80::1%eth0", "[fe80::1%eth0]", "1.2.3.4 ", "host:80", '"::1"',
            "1" * 5000, "１.2.3.4",
        ],
    )  # fmt: skip
    def test_anything_else_is_none(self, text: str) -> None:
        assert parse_address(text) is None

    @given(st.ip_addresses(), st.integers(0, 65535))
    def test_written_addresses_are_read_back(self, address: IPAddress, port: int) -> None:
        wanted = unmapped(address)
        bracketed = f"[{address}]" if address.version == 6 else str(address)
        assert parse_address(str(address)) == parse_address(bracketed) == parse_address(f"{bracketed}:{port}") == wanted


class TestClientAddress:
    @pytest.mark.parametrize(
        ("peer", "lines", "client"),
        [
            # a peer that is not trusted is the client, whatever it says
            ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
            ("203.0.113.9", [], "203.0.113.9"),
            ("::ffff:203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
            # the rightmost untrusted one
            ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", ["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", ["198.51.100.1, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", ["198.51.100.1", "203.0.113.9", "10.0.0.2, [fd00::1]:80"], "203.0.113.9"),
            ("10.0.0.1", ["203.0.113.9, ::ffff:10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
            (None, ["198.51.100.1, 203.0.113.9:1234"], "203.0.113.9"),
            # only trusted ones: the leftmost
            ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", [], "10.0.0.1"),
            ("10.0.0.1", ["", " , "], "10.0.0.1"),
            # a malformed member stops the walk
            ("10.0.0.1", ["203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", ["203.0.113.9, unknown"], "10.0.0.1"),
            ("10.0.0.1", ['203.0.113.9, "10.0.0.2", 10.0.0.4'], "10.0.0.4"),
            # empty members are none
            ("10.0.0.1", ["203.0.113.9, , 10.0.0.2,"], "203.0.113.9"),
            (None, [], None),
            (None, ["unknown"], None),
        ],
    )
    def test_the_rightmost_untrusted_address(self, peer: str | None, lines: list[str], client: str | None) -> None:
        found = client_address(ip(peer) if peer else None, tuple(lines), TRUSTED)
        assert found == (ip(client) if client else None)

    def test_a_unix_socket_that_is_not_trusted_tells_nothing(self) -> None:
        assert client_address(None, ("198.51.100.1",), NOBODY) is None

    def test_the_walk_is_bounded(self) -> None:
        chain = ["203.0.113.9", *(f"10.0.1.{n}" for n in range(MAX_HOPS))]
        assert client_address(ip("10.0.0.1"), (", ".join(chain),), TRUSTED) == ip("10.0.1.0")
        assert client_address(ip("10.0.0.1"), (", ".join([chain[0], *chain[2:]]),), TRUSTED) == ip("203.0.113.9")

    @given(st.lists(st.text(max_size=12), max_size=4), st.ip_addresses(v=4))
    def test_client_text_never_hides_the_address_its_proxy_saw(
        self, forged: list[str], client: ipaddress.IPv4Address
    ) -> None:
        line = ", ".join([*forged, str(client)])
        found = client_address(ip("10.0.0.1"), (line,), TrustedProxies.parse("10.0.0.1"))
        assert found == client or client == ip("10.0.0.1")


class TestSchemeAndHost:
    @pytest.mark.parametrize(
        ("lines", "scheme"),
        [
            (["https"], "https"), (["HTTP"], "http"), (["http, https"], "https"), (["http", "https"], "https"),
            (["https, "], "https"), (["https,ftp"], None), (["javascript"], None), ([""], None), ([], None),
        ],
    )  # fmt: skip
    def test_the_scheme_a_trusted_peer_says(self, lines: list[str], scheme: str | None) -> None:
        assert forwarded_scheme(ip("10.0.0.1"), tuple(lines), TRUSTED) == scheme
        assert forwarded_scheme(None, tuple(lines), TRUSTED) == scheme
        assert forwarded_scheme(ip("203.0.113.9"), tuple(lines), TRUSTED) is None
        assert forwarded_scheme(None, tuple(lines), NOBODY) is None

    @pytest.mark.parametrize(
        ("line", "host"),
        [
            ("media.example", "media.example"),
            ("evil.example, Media.Example:8443", "media.example:8443"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
            ("a_b-c.example.", "a_b-c.example."),
            ("media.example:0", None),
            ("media.example:65536", None),
            ("media.example:", None),
            ("media.example/x", None),
            ("user@media.example", None),
            ("a b", None),
            ("a..b", None),
            ("[::g]", None),
            ("[1.2.3.4]", None),
            ("::1", None),
            ('"a"', None),
            ("exämple", None),
            ("a" * 64, None),
            (".".join(["a" * 60] * 5), None),
            ("", None),
        ],
    )
    def test_the_host_a_trusted_peer_says(self, line: str, host: str | None) -> None:
        assert forwarded_host(ip("10.0.0.1"), (line,), TRUSTED) == host
        assert forwarded_host(ip("203.0.113.9"), (line,), TRUSTED) is None
