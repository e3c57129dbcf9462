from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.semantics.conditional import (
    Decision,
    NotModified,
    PreconditionFailed,
    Proceed,
    Selected,
    evaluate,
    if_range_passes,
)
from proxy.semantics.fields import EntityTag, Fields, format_date

NOW = 1_795_305_600.0
MODIFIED = 784_111_777
SAME = "Sun, 06 Nov 1994 08:49:37 GMT"
EARLIER = "Sun, 06 Nov 1994 08:49:36 GMT"
LATER = "Sun, 06 Nov 1994 08:49:38 GMT"
STRONG = Selected(EntityTag("a"), MODIFIED, MODIFIED + 60)
WEAK = Selected(EntityTag("a", weak=True), MODIFIED, MODIFIED + 60)
UNTAGGED = Selected(None, MODIFIED, MODIFIED + 60)
UNDATED = Selected(EntityTag("a"), None, None)

GO, SAME_COPY, FAILED = Proceed(), NotModified(), PreconditionFailed()


def decide(selected: Selected, *lines: tuple[str, str], method: str = "GET") -> Decision:
    return evaluate(method, Fields.of(lines), selected, NOW)


class TestIfMatch:
    @pytest.mark.parametrize(
        ("value", "selected", "decision"),
        [
            ('"a"', STRONG, GO),
            ('"b", "a"', STRONG, GO),
            ("*", STRONG, GO),
            ("*", UNTAGGED, GO),
            ('"b"', STRONG, FAILED),
            ('W/"a"', STRONG, FAILED),
            ('W/"a"', WEAK, FAILED),
            ('"a"', WEAK, FAILED),
            ('"a"', UNTAGGED, FAILED),
            ("a", STRONG, FAILED),
            ("", STRONG, FAILED),
            ('*, "a"', STRONG, FAILED),
            ('"a", b', STRONG, FAILED),
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
    def test_rfc9110_13_1_1(self, value: str, selected: Selected, decision: Decision, method: str) -> None:
        assert decide(selected, ("If-Match", value), method=method) == decision

    def test_rfc9110_5_3_field_lines_are_one_list(self) -> None:
        assert decide(STRONG, ("If-Match", '"b"'), ("if-match", '"a"')) == GO
        assert decide(STRONG, ("If-None-Match", '"b"'), ("if-none-match", '"a"')) == SAME_COPY


class TestIfNoneMatch:
    @pytest.mark.parametrize(
        ("value", "selected", "matches"),
        [
            ('"a"', STRONG, True),
            ('W/"a"', STRONG, True),
            ('"a"', WEAK, True),
            ('"b", W/"a"', WEAK, True),
            ("*", UNTAGGED, True),
            ('"b"', STRONG, False),
            ('"a"', UNTAGGED, False),
            ("a", STRONG, False),
            ('"a", b', STRONG, False),
            ("", STRONG, False),
        ],
    )
    def test_rfc9110_13_1_2(self, value: str, selected: Selected, *, matches: bool) -> None:
        line = ("If-None-Match", value)
        assert decide(selected, line) == (SAME_COPY if matches else GO)
        assert decide(selected, line, method="HEAD") == (SAME_COPY if matches else GO)
        assert decide(selected, line, method="DELETE") == (FAILED if matches else GO)


class TestIfModifiedSince:
    @pytest.mark.parametrize(
        ("value", "decision"),
        [
            (SAME, SAME_COPY),
            (LATER, SAME_COPY),
            (EARLIER, GO),
            ("Sunday, 06-Nov-94 08:49:37 GMT", SAME_COPY),
            ("Sun Nov  6 08:49:37 1994", SAME_COPY),
            ("yesterday", GO),
            ("", GO),
        ],
    )
    def test_rfc9110_13_1_3(self, value: str, decision: Decision) -> None:
        assert decide(UNTAGGED, ("If-Modified-Since", value)) == decision
        assert decide(UNTAGGED, ("If-Modified-Since", value), method="HEAD") == decision
        assert decide(UNTAGGED, ("If-Modified-Since", value), method="DELETE") == GO

    def test_rfc9110_13_1_3_several_dates_are_no_valid_date(self) -> None:
        assert decide(UNTAGGED, ("If-Modified-Since", SAME), ("If-Modified-Since", SAME)) == GO

    def test_rfc9111_4_3_2_without_last_modified_the_date_decides(self) -> None:
        selected = Selected(None, None, MODIFIED)
        assert decide(selected, ("If-Modified-Since", SAME)) == SAME_COPY
        assert decide(selected, ("If-Modified-Since", EARLIER)) == GO
        assert decide(UNDATED, ("If-Modified-Since", SAME)) == GO

    def test_rfc9111_4_3_2_last_modified_goes_before_the_date(self) -> None:
        assert decide(Selected(None, MODIFIED, 0), ("If-Modified-Since", EARLIER)) == GO


class TestIfUnmodifiedSince:
    @pytest.mark.parametrize(
        ("value", "decision"),
        [(SAME, GO), (LATER, GO), (EARLIER, FAILED), ("yesterday", GO), (f"{EARLIER}, {EARLIER}", GO)],
    )
    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
    def test_rfc9110_13_1_4(self, value: str, decision: Decision, method: str) -> None:
        assert decide(STRONG, ("If-Unmodified-Since", value), method=method) == decision

    def test_rfc9110_13_1_4_ignored_without_a_modification_date(self) -> None:
        assert decide(Selected(None, None, MODIFIED), ("If-Unmodified-Since", EARLIER)) == GO


class TestPrecedence:
    @pytest.mark.parametrize(
        ("lines", "decision"),
        [
            # step 1 fails before anything else is read
            ([("If-Match", '"b"'), ("If-None-Match", '"a"')], FAILED),
            # step 2 is skipped if If-Match is present
            ([("If-Match", '"a"'), ("If-Unmodified-Since", EARLIER)], GO),
            ([("If-Match", '"b"'), ("If-Unmodified-Since", SAME)], FAILED),
            # steps 1 and 2 go on to 3
            ([("If-Match", '"a"'), ("If-None-Match", '"a"')], SAME_COPY),
            ([("If-Unmodified-Since", SAME), ("If-None-Match", '"a"')], SAME_COPY),
            ([("If-Unmodified-Since", EARLIER), ("If-None-Match", '"a"')], FAILED),
            ([("If-Unmodified-Since", SAME), ("If-Modified-Since", SAME)], SAME_COPY),
            # step 4 is skipped if If-None-Match is present, malformed or not
            ([("If-None-Match", '"b"'), ("If-Modified-Since", LATER)], GO),
            ([("If-None-Match", "b"), ("If-Modified-Since", LATER)], GO),
            ([("If-None-Match", ""), ("If-Modified-Since", LATER)], GO),
            ([("If-None-Match", '"a"'), ("If-Modified-Since", EARLIER)], SAME_COPY),
            ([], GO),
        ],
    )
    def test_rfc9110_13_2_2(self, lines: list[tuple[str, str]], decision: Decision) -> None:
        assert decide(STRONG, *lines) == decision

    @pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "CONNECT"])
    def test_rfc9110_13_2_1_methods_without_representation_have_no_precondition(self, method: str) -> None:
        assert decide(STRONG, ("If-Match", '"b"'), ("If-None-Match", "*"), method=method) == GO

    def test_rfc9110_9_1_methods_are_case_sensitive(self) -> None:
        assert decide(STRONG, ("If-None-Match", '"a"'), method="get") == FAILED


class TestIfRange:
    @pytest.mark.parametrize(
        ("value", "selected", "passes"),
        [
            ('"a"', STRONG, True),
            ('"b"', STRONG, False),
            ('W/"a"', STRONG, False),
            ('W/"a"', WEAK, False),
            ('"a"', WEAK, False),
            ('"a"', UNTAGGED, False),
            (SAME, STRONG, True),
            (LATER, STRONG, False),
            (EARLIER, STRONG, False),
            ("Sunday, 06-Nov-94 08:49:37 GMT", STRONG, True),
            (SAME, UNDATED, False),
            (SAME, Selected(None, MODIFIED, None), False),
            (SAME, Selected(None, None, MODIFIED), False),
            ("a", STRONG, False),
            ("*", STRONG, False),
            ("", STRONG, False),
            ('"a", "b"', STRONG, False),
        ],
    )
    def test_rfc9110_13_1_5(self, value: str, selected: Selected, *, passes: bool) -> None:
        assert if_range_passes(value, selected, NOW) is passes

    @pytest.mark.parametrize(("seconds", "passes"), [(-1, False), (0, False), (1, True), (60, True)])
    def test_rfc9110_8_8_2_2_a_second_later_is_strong(self, seconds: int, *, passes: bool) -> None:
        assert if_range_passes(SAME, Selected(None, MODIFIED, MODIFIED + seconds), NOW) is passes

    @given(st.integers(0, 2**33), st.integers(0, 2**33))
    def test_rfc9110_13_1_5_a_date_passes_if_equal(self, modified: int, given_date: int) -> None:
        selected = Selected(None, modified, modified + 1)
        assert if_range_passes(format_date(modified), selected, NOW)
        assert if_range_passes(format_date(given_date), selected, NOW) is (modified == given_date)
