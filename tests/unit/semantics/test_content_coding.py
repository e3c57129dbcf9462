from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.semantics.content_coding import MAX_SHOWN, Coding, Unknown, content_coding
from proxy.semantics.fields import Fields


def _coding(*values: str) -> Coding | Unknown:
    return content_coding(Fields.of(("Content-Encoding", value) for value in values))


@pytest.mark.parametrize(
    "values",
    [(), ("",), (" ",), (",",), ("identity",), ("Identity",), ("aws-chunked",), ("AWS-Chunked",), ("aws-chunked,",),
     ("binary",), ("utf-8",), ("UTF-8",), ("identity, identity",), ("identity", "utf-8")],
)  # fmt: skip
def test_what_says_nothing_of_the_bytes_is_no_coding(values: tuple[str, ...]) -> None:
    assert _coding(*values) is Coding.NONE


@pytest.mark.parametrize(
    ("value", "coding"),
    [("gzip", Coding.GZIP), ("GZIP", Coding.GZIP), ("x-gzip", Coding.GZIP), ("gzip,", Coding.GZIP),
     ("deflate", Coding.DEFLATE), ("Deflate", Coding.DEFLATE)],
)  # fmt: skip
def test_rfc9110_8_4_1_gzip_and_deflate_in_any_case(value: str, coding: Coding) -> None:
    assert _coding(value) is coding


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (("br",), "br"),
        (("zstd",), "zstd"),
        (("compress",), "compress"),
        (("base64",), "base64"),
        (("gzip, gzip",), "gzip, gzip"),
        (("gzip", "br"), "gzip, br"),
        (("identity, gzip",), "identity, gzip"),
        (("aws-chunked,gzip",), "aws-chunked,gzip"),
        (("gzip;q=1",), "gzip?q?1"),
        (("<b>\u00e9\t\"'&\\",), "?b???????"),
        (("x" * 500,), "x" * MAX_SHOWN),
    ],
)
def test_any_other_coding_and_a_list_are_unknown_and_shown(values: tuple[str, ...], shown: str) -> None:
    assert _coding(*values) == Unknown(shown)


@given(st.text(max_size=200))
def test_what_is_shown_is_short_and_plain(value: str) -> None:
    found = _coding(value)
    if isinstance(found, Unknown):
        assert 0 < len(found.shown) <= MAX_SHOWN
        assert found.shown.isascii()
        assert found.shown.isprintable()
        assert not {"<", ">", "&", '"', "'", "\\", "/", ":"} & set(found.shown)
