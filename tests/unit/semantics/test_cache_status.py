"""RFC 9211: `Cache-Status`."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.semantics.cache_status import CacheStatus, Fwd


@pytest.mark.parametrize(
    ("status", "value"),
    [
        (CacheStatus(), "media-gateway"),
        (CacheStatus(hit=True), "media-gateway; hit"),
        (CacheStatus(hit=True, ttl=376), "media-gateway; hit; ttl=376"),
        (CacheStatus(hit=True, ttl=-412), "media-gateway; hit; ttl=-412"),
        (CacheStatus(hit=True, ttl=0), "media-gateway; hit; ttl=0"),
        (CacheStatus(fwd=Fwd.URI_MISS), "media-gateway; fwd=uri-miss"),
        (
            CacheStatus(fwd=Fwd.URI_MISS, fwd_status=200, stored=True),
            "media-gateway; fwd=uri-miss; fwd-status=200; stored",
        ),
        (
            CacheStatus(fwd=Fwd.STALE, fwd_status=304, stored=True, collapsed=True, ttl=60, detail="freshened"),
            "media-gateway; fwd=stale; fwd-status=304; stored; collapsed; ttl=60; detail=freshened",
        ),
        (CacheStatus(fwd=Fwd.MISS, detail="two words"), 'media-gateway; fwd=miss; detail="two words"'),
        (CacheStatus(fwd=Fwd.MISS, detail='a"\\'), 'media-gateway; fwd=miss; detail="a\\"\\\\"'),
        (CacheStatus(fwd=Fwd.MISS, detail=""), 'media-gateway; fwd=miss; detail=""'),
        (CacheStatus(fwd=Fwd.MISS, detail="9lives"), 'media-gateway; fwd=miss; detail="9lives"'),
        (CacheStatus(detail="only-if-cached"), "media-gateway; detail=only-if-cached"),
        (CacheStatus(hit=True, ttl=10**20), "media-gateway; hit; ttl=999999999999999"),
        (CacheStatus(hit=True, ttl=-(10**20)), "media-gateway; hit; ttl=-999999999999999"),
    ],
)
def test_s2_serialisation(status: CacheStatus, value: str) -> None:
    assert str(status) == value


def test_s2_2_the_registered_reasons() -> None:
    assert {str(reason) for reason in Fwd} == {
        "bypass",
        "method",
        "uri-miss",
        "vary-miss",
        "miss",
        "request",
        "stale",
        "partial",
    }


def test_s2_hit_and_fwd_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="not forwarded"):
        CacheStatus(hit=True, fwd=Fwd.STALE)


@pytest.mark.parametrize(
    ("fwd_status", "stored", "collapsed"), [(200, False, False), (None, True, False), (None, False, True)]
)
def test_s2_what_describes_a_forwarded_request_needs_fwd(fwd_status: int | None, stored: bool, collapsed: bool) -> None:
    with pytest.raises(ValueError, match="need fwd"):
        CacheStatus(hit=True, fwd_status=fwd_status, stored=stored, collapsed=collapsed)


@pytest.mark.parametrize("detail", ["a\r\nSet-Cookie: x", "tab\there", "naïve", "\x00"])
def test_rfc9651_s3_3_3_detail_is_printable_ascii(detail: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        CacheStatus(detail=detail)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40))
def test_any_printable_detail_stays_one_parameter(detail: str) -> None:
    value = str(CacheStatus(hit=True, detail=detail)).removeprefix("media-gateway; hit; detail=")
    bare = re.fullmatch(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*", value)
    quoted = re.fullmatch(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"', value)
    assert bare or quoted
    assert (value if bare else re.sub(r"\\(.)", r"\1", value[1:-1])) == detail
