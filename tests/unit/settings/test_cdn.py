"""The answers of the media resource, and the drops that a CDN in front is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import SettingsError
from proxy.settings import ContentMode, Settings, load
from proxy.settings.cdn import parse_purge_header, parse_purge_url

CDN = {"GATEWAY_CDN": "1"}
URL = "https://api.example.com/zones/1/purge?key=in-the-query"


def refused(environ: Mapping[str, str]) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        load(environ, None)
    return {problem.name: problem.message for problem in caught.value.problems}


def with_url(url: str) -> Settings:
    return load({**CDN, "GATEWAY_CDN_PURGE_URL": url}, None)


def test_bytes_are_streamed_unless_told() -> None:
    assert load({}, None).content_mode is ContentMode.STREAM
    assert load({"GATEWAY_CONTENT_MODE": "Redirect"}, None).content_mode is ContentMode.REDIRECT
    assert set(refused({"GATEWAY_CONTENT_MODE": "both"})) == {"GATEWAY_CONTENT_MODE"}


def test_no_cdn_is_told_unless_its_url_is_written() -> None:
    settings = load({}, None)
    assert (settings.cdn_purge_url, settings.cdn_purge_header) == (None, None)


def test_a_purge_url_is_an_origin_and_a_target() -> None:
    url = with_url(URL).cdn_purge_url
    assert url is not None
    assert (str(url.origin), url.target) == ("https://api.example.com", "/zones/1/purge?key=in-the-query")
    bare = with_url("HTTPS://API.example.com:8443").cdn_purge_url
    assert bare is not None
    assert (str(bare.origin), bare.target) == ("https://api.example.com:8443", "/")


def test_plain_http_is_for_loopback() -> None:
    local = with_url("http://127.0.0.1:6081/purge").cdn_purge_url
    assert local is not None
    assert str(local.origin) == "http://127.0.0.1:6081"
    assert "loopback" in refused({**CDN, "GATEWAY_CDN_PURGE_URL": "http://cdn.example/purge"})["GATEWAY_CDN_PURGE_URL"]


@pytest.mark.parametrize(
    "url",
    [
        "api.example.com/purge",
        "ftp://api.example.com/",
        "https://",
        "https://user:pass@api.example.com/purge",
        "https://api.example.com/purge#part",
        "https://api.example.com?x",
        "https://api.example.com/a b",
        "https://api.example.com/é",
        "https://api.example.com:0/",
    ],
)
def test_what_is_no_purge_url_is_refused(url: str) -> None:
    assert set(refused({**CDN, "GATEWAY_CDN_PURGE_URL": url})) == {"GATEWAY_CDN_PURGE_URL"}


def test_a_purge_url_needs_a_cdn_in_front() -> None:
    assert refused({"GATEWAY_CDN_PURGE_URL": URL}) == {"GATEWAY_CDN_PURGE_URL": "needs GATEWAY_CDN=1"}
    assert set(refused({"GATEWAY_CDN": "perhaps", "GATEWAY_CDN_PURGE_URL": URL})) == {"GATEWAY_CDN"}


def test_a_purge_header_is_a_name_and_a_secret() -> None:
    settings = load(
        {**CDN, "GATEWAY_CDN_PURGE_URL": URL, "GATEWAY_CDN_PURGE_HEADER": "Authorization: Bearer a:b c"}, None
    )
    header = settings.cdn_purge_header
    assert header is not None
    assert (header.name, header.value.get_secret_value()) == ("Authorization", "Bearer a:b c")
    for shown in (repr(settings), repr(header), repr(settings.cdn_purge_url)):
        assert "Bearer" not in shown
        assert "in-the-query" not in shown


def test_a_purge_header_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "header"
    path.write_text("Fastly-Key: token\n")
    settings = load({**CDN, "GATEWAY_CDN_PURGE_URL": URL, "GATEWAY_CDN_PURGE_HEADER_FILE": str(path)}, None)
    assert settings.cdn_purge_header == parse_purge_header("Fastly-Key: token")


def test_a_purge_header_needs_a_purge_url() -> None:
    header = {"GATEWAY_CDN_PURGE_HEADER": "Fastly-Key: token"}
    assert refused({**CDN, **header}) == {"GATEWAY_CDN_PURGE_HEADER": "needs GATEWAY_CDN_PURGE_URL"}
    assert set(refused({**CDN, **header, "GATEWAY_CDN_PURGE_URL": "x"})) == {"GATEWAY_CDN_PURGE_URL"}


@pytest.mark.parametrize(
    "header",
    ["token", ": token", "Fastly-Key:", "Fastly Key: token", "Fastly-Key: a\tb", "Fastly-Key: é", "Content-Type: x/y",
     "surrogate-key: x", "HOST: x"],
)  # fmt: skip
def test_what_is_no_purge_header_is_refused_and_not_repeated(header: str) -> None:
    found = refused({**CDN, "GATEWAY_CDN_PURGE_URL": URL, "GATEWAY_CDN_PURGE_HEADER": header})
    assert set(found) == {"GATEWAY_CDN_PURGE_HEADER"}
    assert "token" not in found["GATEWAY_CDN_PURGE_HEADER"]


@given(st.text(max_size=80))
def test_any_text_is_a_purge_url_or_refused(text: str) -> None:
    for written in (text, f"https://a.example/{text}"):
        try:
            url = parse_purge_url(written)
        except ValueError:
            continue
        assert url.target.startswith("/")
        assert url.target.isascii()
        assert not set(url.target) & set("# \r\n")


@given(st.text(max_size=80))
def test_any_text_is_a_purge_header_or_refused(text: str) -> None:
    for written in (text, f"X-Key: {text}"):
        try:
            header = parse_purge_header(written)
        except ValueError:
            continue
        value = header.value.get_secret_value()
        assert value == value.strip()
        assert (value + header.name).isascii()
        assert (value + header.name).isprintable()
