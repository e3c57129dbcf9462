from __future__ import annotations

import pytest

from proxy.errors import SettingsError
from proxy.links import split_public_url


@pytest.mark.parametrize(
    ("text", "origin", "mount"),
    [
        ("https://media.example.com", "https://media.example.com", ""),
        ("https://media.example.com/", "https://media.example.com", ""),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", ""),
        ("http://[::1]:8080/gw/", "http://[::1]:8080", "/gw"),
        (" https://example.com/a/b.c~d ", "https://example.com", "/a/b.c~d"),
    ],
)
def test_a_public_url_is_an_origin_and_a_mount(text: str, origin: str, mount: str) -> None:
    assert split_public_url(text) == (origin, mount)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com",
        "ftp://example.com",
        "https://",
        "https://user@example.com",
        "https://example.com?x=1",
        "https://example.com/#x",
        "https://example.com//a",
        "https://example.com/a/../b",
        "https://example.com/.",
        "https://example.com/a b",
        "https://example.com/a%20b",
        "https://example.com/é",
        "https://example.com:port",
    ],
)
def test_anything_else_is_no_public_url(text: str) -> None:
    with pytest.raises(SettingsError, match="GATEWAY_PUBLIC_URL"):
        split_public_url(text)
