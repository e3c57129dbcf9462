from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.addresses import AddressInfo, AddressRefused, embedded, is_public, local_socket, public_socket

NOT_PUBLIC = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.168.0.1", "198.18.0.1",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "224.0.1.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00::1", "ff02::1", "ff0e::1", "100::1", "2001:db8::1",
    "3fff::1", "5f00::1", "4000::1", "64:ff9b:1::808:808", "2001:0:808:808::1",
    # assigned to protocols; releases of the standard library differ on these
    "2001:1::1", "2001:1::2", "2001:3::1", "2001:4:112::1", "2001:20::1", "2001:30::1",
    # addresses that stand for an IPv4 address that is not public
    "192.88.99.0", "192.88.99.1", "192.88.99.255", "192.31.196.1", "192.52.193.1", "192.175.48.1",
    "192.0.0.9", "192.0.0.10",
    "2620:4f:8000::1", "2001::1", "2001:1ff:ffff::1", "64:ff9b:1::1", "fec0:ffff::1", "::ffff:0:8.8.8.8",
    "::8.8.8.8", "::2",
    # ISATAP, with and without the universal and group bits, under a public and a 6to4 prefix
    "fe80::5efe:10.0.0.1", "2606:4700::5efe:10.0.0.1", "2606:4700::5efe:8.8.8.8", "2606:4700::200:5efe:8.8.8.8",
    "2606:4700::300:5efe:127.0.0.1", "2002:808:808::5efe:10.0.0.1",
    "::ffff:192.88.99.1", "2002:c058:6301::", "64:ff9b::c058:6301", "64:ff9b::100.64.0.1", "2002:6440:1::",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::10.0.0.1",
    "2002:7f00:1::", "2002:a00:1::1", "2002:a9fe:a9fe::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
]  # fmt: skip
PUBLIC = [
    "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "169.253.0.1", "2606:4700::1111",
    "2a00:1450::1", "192.88.98.255", "192.88.100.0", "192.0.1.0", "2001:200::1", "2620:4f:8001::1", "3ffe::1",
    "2606:4700::5eff:808:808", "2606:4700::400:5efe:808:808", "2606:4700:0:5efe::1", "::ffff:8.8.8.8",
    "64:ff9b::808:808", "2002:808:808::1",
]  # fmt: skip


def _info(text: str) -> AddressInfo:
    if ":" in text:
        return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (text, 443, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (text, 443)


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_rule_2_only_a_public_address_gets_a_socket(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))
    with pytest.raises(AddressRefused):
        public_socket(_info(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_rule_2_a_public_address_gets_its_family_s_socket(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))
    with public_socket(_info(text)) as made:
        assert made.family == _info(text)[0]


def test_a_zone_index_is_no_part_of_the_address() -> None:
    with pytest.raises(AddressRefused):
        public_socket(_info("fe80::1%eth0"))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_however_it_is_embedded(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    forms = [
        ipaddress.IPv6Address((0xFFFF << 32) | number),
        ipaddress.IPv6Address((0x64FF9B << 96) | number),
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80)),
    ]
    for form in forms:
        assert embedded(form) == address
        assert is_public(form) is is_public(address)


@pytest.mark.parametrize("text", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "8.8.8.8", "10.0.0.5"])
def test_the_configured_exceptions_are_loopback_public_and_the_literal_addresses(text: str) -> None:
    make = local_socket({ipaddress.ip_address("10.0.0.5")}.__contains__)
    with make(_info(text)) as made:
        assert made.family == _info(text)[0]


@pytest.mark.parametrize("text", ["10.0.0.6", "169.254.169.254", "0.0.0.0", "fe80::1", "::ffff:10.0.0.6"])
def test_the_configured_exceptions_open_no_other_private_address(text: str) -> None:
    make = local_socket({ipaddress.ip_address("10.0.0.5")}.__contains__)
    with pytest.raises(AddressRefused):
        make(_info(text))


# IANA's special-purpose address registries, and what was never allocated; as of 2025.
SPECIAL = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
    "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    "::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23", "2001:db8::/32",
    "2620:4f:8000::/48", "3fff::/20", "5f00::/16", "4000::/2", "8000::/1",
]  # fmt: skip


@given(st.sampled_from(SPECIAL).flatmap(lambda network: st.ip_addresses(network=network)))
def test_no_address_of_a_special_network_is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("network", SPECIAL)
def test_special_networks_are_not_public_from_first_to_last(network: str) -> None:
    whole = ipaddress.ip_network(network)
    assert not is_public(whole[0])
    assert not is_public(whole[-1])


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_outside_special_networks_is_public(address: ipaddress.IPv4Address) -> None:
    special = any(address in ipaddress.ip_network(network) for network in SPECIAL)
    assert is_public(address) is not special


@given(st.ip_addresses(network="2000::/3"))
def test_an_ipv6_address_outside_special_networks_is_public(address: ipaddress.IPv6Address) -> None:
    if address in ipaddress.ip_network("2002::/16") or (int(address) >> 32) & 0xFCFF_FFFF == 0x5EFE:
        return
    special = any(address in ipaddress.ip_network(network) for network in SPECIAL)
    assert is_public(address) is not special


@given(
    st.ip_addresses(network="2000::/3"),
    st.ip_addresses(v=4),
    st.sampled_from([0x0000_5EFE, 0x0100_5EFE, 0x0200_5EFE, 0x0300_5EFE]),
)
def test_no_isatap_address_is_public(
    prefix: ipaddress.IPv6Address, inner: ipaddress.IPv4Address, identifier: int
) -> None:
    network = int(prefix) >> 64 << 64
    assert not is_public(ipaddress.IPv6Address(network | identifier << 32 | int(inner)))
