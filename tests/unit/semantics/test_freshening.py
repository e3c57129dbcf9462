"""RFC 9111 §3.2 and §4.3.4: what a 304 changes in a stored response."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.semantics.fields import Fields, format_date
from proxy.semantics.freshening import Mismatch, freshen
from proxy.semantics.freshness import FreshnessPolicy, current_age, freshness_lifetime
from proxy.semantics.stored import NotStorable, StoredMetadata, StoringBar, storable

T = 1_790_000_000.0
POLICY = FreshnessPolicy(default_lifetime=777)
OLD = format_date(T - 9000)
OLDER = format_date(T - 90_000)
OLDER_RFC850 = "Sunday, 20-Sep-26 13:13:20 GMT"

Lines = list[tuple[str, str]]
BASE: Lines = [
    ("Date", format_date(T)),
    ("Age", "50"),
    ("ETag", '"a"'),
    ("Content-Type", "image/jpeg"),
    ("Content-Length", "123"),
    ("Cache-Control", "max-age=60"),
]


def stored(lines: Lines) -> StoredMetadata:
    sent = Fields.of([("Accept-Encoding", "identity")])
    return StoredMetadata.received(Fields.of(lines), sent, requested_at=T - 1, answered_at=T)


def freshened(lines: Lines, base: Lines = BASE) -> StoredMetadata:
    result = freshen(stored(base), Fields.of(lines), requested_at=T + 100, answered_at=T + 101)
    assert isinstance(result, StoredMetadata)
    return result


def test_s4_3_4_a_304_refreshes_by_its_own_times() -> None:
    later = format_date(T + 100)
    result = freshened([("Date", later), ("ETag", '"a"'), ("Cache-Control", "max-age=600"), ("Vary", "Origin")])
    assert (result.requested_at, result.answered_at) == (T + 100, T + 101)
    assert result.presented == stored(BASE).presented
    assert result.fields.all("Cache-Control") == ("max-age=600",)
    assert result.fields.all("Date") == (later,)
    assert result.fields.all("Vary") == ("Origin",)
    assert freshness_lifetime(result.fields, result.answered_at, POLICY) == 600
    assert current_age(result, T + 101) == 1


def test_s3_2_every_line_of_an_updated_field_is_replaced() -> None:
    base = [*BASE, ("Cache-Control", "no-cache"), ("cache-control", "must-revalidate")]
    result = freshened([("Cache-Control", "max-age=5"), ("CACHE-CONTROL", "foo")], base)
    assert result.fields.all("Cache-Control") == ("max-age=5", "foo")


def test_s3_2_a_field_that_the_304_lacks_stays() -> None:
    result = freshened([], [*BASE, ("Last-Modified", OLD), ("Expires", format_date(T + 5))])
    assert result.fields.first("Last-Modified") == OLD
    assert result.fields.first("Cache-Control") == "max-age=60"
    assert result.fields.first("Expires") == format_date(T + 5)
    assert result.fields.first("ETag") == '"a"'


def test_s4_2_3_old_age_and_date_are_replaced() -> None:
    result = freshened([])
    assert "Age" not in result.fields
    assert "Date" not in result.fields
    assert current_age(result, T + 101) == 1
    assert current_age(freshened([("Age", "30")]), T + 101) == 31


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Length", "0"),
        ("content-length", "999"),
        ("Content-Type", "text/html"),
        ("Content-Encoding", "gzip"),
        ("Content-Language", "de"),
        ("Content-Range", "bytes 0-1/2"),
        ("Set-Cookie", "a=b"),
        ("Transfer-Encoding", "chunked"),
        ("X-Unknown", "1"),
        ("Location", "https://cdn.example/secret"),
    ],
)
def test_s3_2_a_304_keeps_fields_the_body_depends_on(name: str, value: str) -> None:
    result = freshened([(name, value)])
    assert result.fields.all(name) == stored(BASE).fields.all(name)


def test_s3_2_fields_of_the_connection_do_not_update() -> None:
    result = freshened([("Connection", "Cache-Control"), ("Cache-Control", "max-age=9999")])
    assert result.fields.first("Cache-Control") == "max-age=60"


@pytest.mark.parametrize(
    ("base", "lines"),
    [
        ([("ETag", '"a"')], [("ETag", '"a"')]),
        ([("ETag", '"a"')], []),
        ([("ETag", '"a"')], [("ETag", 'W/"a"')]),
        ([("ETag", 'W/"a"')], [("ETag", 'W/"a"')]),
        ([("ETag", "unquoted")], [("ETag", "unquoted")]),
        ([("ETag", '"a"'), ("Last-Modified", OLD)], [("ETag", '"a"'), ("Last-Modified", OLDER)]),
        ([("ETag", '"a"'), ("Last-Modified", OLD)], [("Last-Modified", OLD)]),
        ([("Last-Modified", OLDER)], [("Last-Modified", OLDER)]),
        ([("Last-Modified", OLDER)], [("Last-Modified", OLDER_RFC850)]),
        ([("Last-Modified", "odd")], [("Last-Modified", "odd")]),
        ([("Last-Modified", OLD)], []),
        ([], []),
    ],
)
def test_s4_3_4_a_304_that_selects_the_stored_response(base: Lines, lines: Lines) -> None:
    result = freshened(lines, base)
    assert result.fields.all("ETag") == stored(base).fields.all("ETag")


@pytest.mark.parametrize(
    ("base", "lines"),
    [
        ([("ETag", '"a"')], [("ETag", '"b"')]),
        ([("ETag", '"a"')], [("ETag", '"A"')]),
        ([("ETag", '"a"')], [("ETag", 'W/"b"')]),
        ([("ETag", 'W/"a"')], [("ETag", '"a"')]),
        ([("ETag", 'W/"a"')], [("ETag", 'W/"b"')]),
        ([("ETag", '"a"')], [("ETag", "a")]),
        ([("ETag", "a")], [("ETag", '"a"')]),
        ([("ETag", '"a"')], [("ETag", '"a"'), ("ETag", '"b"')]),
        ([("ETag", '"a"'), ("Last-Modified", OLD)], [("ETag", '"b"'), ("Last-Modified", OLD)]),
        ([("Last-Modified", OLD)], [("ETag", '"b"'), ("Last-Modified", OLD)]),
        ([("Last-Modified", OLD)], [("Last-Modified", OLDER)]),
        ([("Last-Modified", OLD)], [("Last-Modified", "odd")]),
        ([("Last-Modified", OLD)], [("Last-Modified", OLD), ("Last-Modified", OLDER)]),
        ([("ETag", '"a"')], [("Last-Modified", OLD)]),
        ([], [("ETag", '"b"')]),
    ],
)
def test_s4_3_4_a_304_about_another_is_a_mismatch(base: Lines, lines: Lines) -> None:
    result = freshen(stored(base), Fields.of(lines), requested_at=T + 100, answered_at=T + 101)
    assert result == Mismatch()


@pytest.mark.parametrize(
    ("line", "bar"),
    [
        (("Cache-Control", "no-store"), StoringBar.NO_STORE),
        (("Cache-Control", "private"), StoringBar.PRIVATE),
        (("Vary", "*"), StoringBar.VARY),
    ],
)
def test_s4_3_4_a_304_may_forbid_further_storing(line: tuple[str, str], bar: StoringBar) -> None:
    assert storable(200, freshened([line]).fields) == NotStorable(bar)


NAMES = st.sampled_from(
    [
        "ETag",
        "etag",
        "Last-Modified",
        "Content-Type",
        "content-length",
        "Content-Encoding",
        "Content-Range",
        "Cache-Control",
        "Connection",
        "Age",
        "Set-Cookie",
        "Vary",
    ]
)
VALUES = st.sampled_from(['"a"', '"b"', 'W/"a"', "a", "*", "Content-Type", "ETag", "0", OLD]) | st.text(max_size=10)
LINES = st.lists(st.tuples(NAMES, VALUES), max_size=6)


@given(LINES, LINES)
def test_s3_2_freshening_keeps_the_content_and_only_listed_fields(base: Lines, lines: Lines) -> None:
    before = stored(base)
    after = freshen(before, Fields.of(lines), requested_at=T + 1, answered_at=T + 2)
    if isinstance(after, Mismatch):
        return
    for name in ("ETag", "Content-Type", "Content-Length", "Content-Encoding", "Content-Range"):
        assert after.fields.all(name) == before.fields.all(name)
    assert "Set-Cookie" not in after.fields
    assert "Connection" not in after.fields
    assert replace(after, fields=before.fields, requested_at=T - 1, answered_at=T) == before
