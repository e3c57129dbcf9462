from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import (
    MediaNotFound,
    UpstreamBusy,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRefusedCredentials,
    UpstreamTooLarge,
)
from proxy.semantics.content_coding import Coding
from proxy.semantics.fields import Fields
from proxy.upstream.answers import body_coding, body_length, failure
from proxy.upstream.retry import Cause, Setback


def _length(*lines: tuple[str, str], most: int = 100) -> int | None:
    return body_length(Fields.of(lines), most)


def test_rfc9112_6_3_length_or_chunked_coding_tells_the_end() -> None:
    assert _length(("Content-Length", "5")) == 5
    assert _length(("content-length", "0")) == 0
    assert _length(("Content-Length", "5"), ("Content-Length", "5")) == 5
    assert _length(("Transfer-Encoding", "Chunked")) is None


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [("Content-Length", "5"), ("Content-Length", "6")],
        [("Content-Length", "5, 5")],
        [("Content-Length", "-5")],
        [("Content-Length", "+5")],
        [("Content-Length", "5.0")],
        [("Content-Length", "0x5")],
        [("Content-Length", "٥")],
        [("Content-Length", "")],
        [("Content-Length", "9" * 40)],
        [("Content-Length ", "5")],
        [("Content-Length", "5"), ("Transfer-Encoding", "chunked")],
        [("Transfer-Encoding", "gzip, chunked")],
        [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")],
        [("Transfer-Encoding", "identity")],
        [("Transfer-Encoding", "\x0bchunked")],
        [("Transfer-Encoding", "")],
    ],
)
def test_rfc9112_6_3_a_body_without_clear_end_is_malformed(lines: list[tuple[str, str]]) -> None:
    with pytest.raises(UpstreamMalformed):
        _length(*lines)


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "identity, gzip", "unknown"])
def test_a_coding_that_is_not_undone_is_malformed_and_named(coding: str) -> None:
    with pytest.raises(UpstreamMalformed) as caught:
        body_coding(Fields.of([("Content-Encoding", coding)]))
    assert caught.value.detail.endswith(f": {coding}")


def test_a_coding_that_is_undone_is_returned() -> None:
    assert body_coding(Fields.of([("Content-Encoding", "gzip")])) is Coding.GZIP
    assert body_coding(Fields()) is Coding.NONE


def test_rule_4_a_length_above_the_limit_is_refused() -> None:
    assert _length(("Content-Length", "100")) == 100
    with pytest.raises(UpstreamTooLarge):
        _length(("Content-Length", "101"))


@given(st.text(max_size=8))
def test_any_length_is_digits_or_malformed(value: str) -> None:
    try:
        length = _length(("Content-Length", value), most=10**9)
    except UpstreamMalformed:
        return
    assert length is not None
    assert value.strip(" \t").lstrip("0") == (str(length) if length else "")


def _failure(status: int, *, credentials: bool = True, fields: Fields = Fields()) -> tuple[UpstreamError, Cause | None]:  # noqa: B008
    found = failure(status, fields, credentials=credentials, now=0.0)
    return (found.error, found.cause) if isinstance(found, Setback) else (found, None)


@pytest.mark.parametrize(
    ("status", "credentials", "kind", "cause"),
    [
        (101, True, UpstreamMalformed, None),
        (204, True, UpstreamMalformed, None),
        (206, False, UpstreamMalformed, None),
        (300, True, UpstreamMalformed, None),
        (305, True, UpstreamMalformed, None),
        (400, False, UpstreamError, None),
        (401, True, UpstreamRefusedCredentials, None),
        (401, False, UpstreamError, None),
        (403, True, UpstreamRefusedCredentials, None),
        (403, False, UpstreamError, Cause.STALE_LOCATION),
        (404, True, MediaNotFound, Cause.NOT_FOUND),
        (404, False, MediaNotFound, Cause.NOT_FOUND),
        (410, True, MediaNotFound, None),
        (416, True, UpstreamError, None),
        (422, True, UpstreamError, None),
        (429, True, UpstreamBusy, Cause.BUSY),
        (500, True, UpstreamError, None),
        (501, True, UpstreamError, None),
        (502, True, UpstreamError, Cause.UNAVAILABLE),
        (503, True, UpstreamError, Cause.UNAVAILABLE),
        (504, False, UpstreamError, Cause.UNAVAILABLE),
        (599, True, UpstreamError, None),
        (999, True, UpstreamError, None),
    ],
)
def test_what_a_status_means(status: int, credentials: bool, kind: type[UpstreamError], cause: Cause | None) -> None:
    error, found = _failure(status, credentials=credentials)
    assert type(error) is kind
    assert found is cause


@given(st.integers(100, 999).filter(lambda status: status not in (404, 410, 429)), st.booleans())
def test_rule_7_no_upstream_status_becomes_the_clients_own(status: int, credentials: bool) -> None:
    error, _ = _failure(status, credentials=credentials)
    assert error.status == 502


def test_a_429_s_wait_is_passed_on_in_seconds() -> None:
    error, _ = _failure(429, fields=Fields.of([("Retry-After", "77")]))
    assert isinstance(error, UpstreamBusy)
    assert error.retry_after == 77
    silent, _ = _failure(429)
    assert isinstance(silent, UpstreamBusy)
    assert silent.retry_after == 1


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize(
    ("control", "memory"),
    [
        (None, math.inf),
        ("no-store", 0),
        ("no-cache, no-store, must-revalidate", 0),
        ("private", 0),
        ("max-age=0", 0),
        ("max-age=5", 5),
    ],
)
def test_rfc9111_5_2_2_a_404_bounds_its_own_memory(status: int, control: str | None, memory: float) -> None:
    error, _ = _failure(status, fields=Fields.of([] if control is None else [("Cache-Control", control)]))
    assert isinstance(error, MediaNotFound)
    assert error.memory == memory
