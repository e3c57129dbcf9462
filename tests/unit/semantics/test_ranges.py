from __future__ import annotations

import email
import email.message
import email.policy
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import parse_content_range_header, parse_range_header

from proxy.semantics.conditional import Selected
from proxy.semantics.fields import EntityTag, Fields
from proxy.semantics.ranges import (
    MAX_PARTS,
    PART_OVERHEAD,
    Multiple,
    Resolution,
    Single,
    Span,
    Unsatisfiable,
    Whole,
    content_range,
    multipart,
    resolve,
    unsatisfied_range,
)

NOW = 1_795_305_600.0
SELECTED = Selected(EntityTag("a"), 784_111_777, 784_111_800)
BOUNDARY = "0123456789abcdef0123456789abcdef"


def ask(value: str, length: int | None = 1000, *lines: tuple[str, str], method: str = "GET") -> Resolution:
    return resolve(method, Fields.of([("Range", value), *lines]), length, SELECTED, NOW)


class TestSingleRanges:
    @pytest.mark.parametrize(
        ("value", "length", "resolution"),
        [
            ("bytes=0-0", 5, Single(0, 0)),
            ("bytes=0-4", 5, Single(0, 4)),
            ("bytes=0-5", 5, Single(0, 4)),
            ("bytes=0-", 5, Single(0, 4)),
            ("bytes=4-", 5, Single(4, 4)),
            ("bytes=-1", 5, Single(4, 4)),
            ("bytes=-5", 5, Single(0, 4)),
            ("bytes=-6", 5, Single(0, 4)),
            ("bytes=-0002", 5, Single(3, 4)),
            ("bytes=000-001", 5, Single(0, 1)),
            ("BYTES=1-2", 5, Single(1, 2)),
            ("bytes=1-2,", 5, Single(1, 2)),
            ("bytes=, ,1-2", 5, Single(1, 2)),
            ("bytes=1-2, 900-", 5, Single(1, 2)),
            (f"bytes=1-{'9' * 64}", 5, Single(1, 4)),
            (f"bytes=-{'9' * 64}", 5, Single(0, 4)),
        ],
    )
    def test_rfc9110_14_1_2_satisfiable(self, value: str, length: int, resolution: Resolution) -> None:
        assert ask(value, length) == resolution

    @pytest.mark.parametrize(
        ("value", "length"),
        [
            ("bytes=5-", 5),
            ("bytes=5-9", 5),
            ("bytes=-0", 5),
            ("bytes=7-8, 5-, -0", 5),
            (f"bytes={'9' * 64}-", 5),
            ("bytes=0-", 0),
            ("bytes=0-0", 0),
            ("bytes=-0", 0),
        ],
    )
    def test_rfc9110_15_5_17_unsatisfiable(self, value: str, length: int) -> None:
        assert ask(value, length) == Unsatisfiable()

    def test_rfc9110_14_1_2_a_suffix_of_nothing_is_whole(self) -> None:
        assert ask("bytes=-5", 0) == Whole()
        assert ask("bytes=0-, -5", 0) == Whole()

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=2-1",
            "bytes=0-1,2-1",
            "bytes=0-1;2-3",
            "bytes=--1",
            "bytes=1-2-3",
            "bytes=1 -2",
            "bytes=1- 2",
            "bytes=- 2",
            "bytes= 1-2",
            "bytes =1-2",
            "bytes=+1-2",
            "bytes=0x0-0x1",
            "bytes=1_0-2_0",
            "bytes=٠-١",
            "bytes=0-1 2-3",
            "bytes 0-1/5",
            f"bytes=0-{'9' * 65}",
            "items=0-1",
            "none",
        ],
    )
    def test_rfc9110_14_2_malformed_or_of_another_unit_is_ignored(self, value: str) -> None:
        assert ask(value, 5) == Whole()

    @pytest.mark.parametrize("method", ["HEAD", "POST", "DELETE", "get"])
    def test_rfc9110_14_2_on_another_method_it_is_ignored(self, method: str) -> None:
        assert ask("bytes=0-0", 5, method=method) == Whole()
        assert ask("bytes=9-", 5, method=method) == Whole()

    def test_no_range_is_whole(self) -> None:
        assert resolve("GET", Fields(), 5, SELECTED, NOW) == Whole()

    def test_a_repeated_range_is_ignored(self) -> None:
        assert ask("bytes=0-0", 5, ("range", "bytes=0-0")) == Whole()
        assert ask("bytes=0-0", 5, ("range", "bytes=9-")) == Whole()

    def test_while_the_length_is_unknown_the_answer_is_whole(self) -> None:
        assert ask("bytes=0-0", None) == Whole()


class TestIfRange:
    @pytest.mark.parametrize("value", ['"a"', "Sun, 06 Nov 1994 08:49:37 GMT"])
    def test_rfc9110_13_1_5_a_match_lets_the_range_stand(self, value: str) -> None:
        assert ask("bytes=0-0", 5, ("If-Range", value)) == Single(0, 0)
        assert ask("bytes=9-", 5, ("If-Range", value)) == Unsatisfiable()

    @pytest.mark.parametrize("value", ['"b"', 'W/"a"', "a", "", "Sun, 06 Nov 1994 08:49:38 GMT"])
    def test_rfc9110_13_1_5_else_the_range_is_ignored(self, value: str) -> None:
        assert ask("bytes=0-0", 5, ("If-Range", value)) == Whole()
        assert ask("bytes=9-", 5, ("If-Range", value)) == Whole()

    def test_a_repeated_if_range_does_not_pass(self) -> None:
        assert ask("bytes=0-0", 5, ("If-Range", '"a"'), ("If-Range", '"a"')) == Whole()


class TestSeveralRanges:
    @pytest.mark.parametrize(
        ("value", "resolution"),
        [
            ("bytes=0-9,200-209", Multiple((Span(0, 9), Span(200, 209)))),
            # in the order asked for
            ("bytes=200-209,0-9", Multiple((Span(200, 209), Span(0, 9)))),
            ("bytes=-10,0-9", Multiple((Span(990, 999), Span(0, 9)))),
            # overlapping, touching, and nearer than a part costs
            ("bytes=0-9,5-19", Single(0, 19)),
            ("bytes=0-9,0-9", Single(0, 9)),
            ("bytes=0-99,10-19", Single(0, 99)),
            ("bytes=0-9,10-19", Single(0, 19)),
            ("bytes=10-19,0-9", Single(0, 19)),
            (f"bytes=0-9,{9 + PART_OVERHEAD}-99", Single(0, 99)),
            (f"bytes=0-9,{10 + PART_OVERHEAD}-99", Multiple((Span(0, 9), Span(10 + PART_OVERHEAD, 99)))),
            # a joined part stands where its first one stood
            ("bytes=500-509,0-9,510-519", Multiple((Span(500, 519), Span(0, 9)))),
            ("bytes=510-519,0-9,500-509", Multiple((Span(500, 519), Span(0, 9)))),
            ("bytes=0-9,500-509,10-19", Multiple((Span(0, 19), Span(500, 509)))),
            # what is not satisfiable is left out
            ("bytes=0-9,1000-,200-209,-0", Multiple((Span(0, 9), Span(200, 209)))),
        ],
    )
    def test_rfc9110_15_3_7_2(self, value: str, resolution: Resolution) -> None:
        assert ask(value) == resolution

    @pytest.mark.parametrize(
        "value", ["bytes=0-,0-,0-", "bytes=0-9,5-14,10-19", "bytes=0-9,5-14,300-309,305-314", "bytes=0-999,1-1,500-500"]
    )
    def test_rfc9110_14_2_more_than_two_overlapping_ranges_are_ignored(self, value: str) -> None:
        assert ask(value) == Whole()

    def test_rfc9110_14_2_many_small_ranges_are_ignored(self) -> None:
        spans = [Span(first, first) for first in range(0, 1000 * (MAX_PARTS + 1), 1000)]
        value = [f"{span.first}-{span.last}" for span in spans]
        assert ask(f"bytes={','.join(value[:-1])}", 100_000) == Multiple(tuple(spans[:-1]))
        assert ask(f"bytes={','.join(value)}", 100_000) == Whole()

    def test_many_ranges_that_touch_are_one(self) -> None:
        assert ask(f"bytes={','.join(f'{n}-{n}' for n in range(100))}") == Single(0, 99)


SPEC = st.one_of(
    st.tuples(st.integers(0, 1200), st.integers(0, 1200)).map(lambda pair: f"{min(pair)}-{max(pair)}"),
    st.integers(0, 1200).map(lambda first: f"{first}-"),
    st.integers(0, 1200).map(lambda size: f"-{size}"),
)


def positions(spec: str, length: int) -> set[int]:
    first, _, last = spec.partition("-")
    if not first:
        return set(range(length)[-int(last) :]) if int(last) else set()
    return set(range(length)[int(first) : int(last) + 1 if last else length])


class TestProperties:
    @given(st.lists(SPEC, min_size=1, max_size=6), st.integers(1, 1000))
    def test_every_byte_asked_for_is_in_one_disjoint_span(self, specs: list[str], length: int) -> None:
        asked = set().union(*(positions(spec, length) for spec in specs))
        match ask(f"bytes={','.join(specs)}", length):
            case Whole():
                assert len(specs) > 2
            case Unsatisfiable():
                assert not asked
            case Single(first, last):
                assert 0 <= first <= last < length
                assert asked <= set(range(first, last + 1))
                assert {first, last} <= asked
            case Multiple(parts):
                assert len(parts) >= 2
                covered = [n for part in parts for n in range(part.first, part.last + 1)]
                assert len(covered) == len(set(covered))
                assert asked <= set(covered) <= set(range(length))
                ordered = sorted(parts, key=lambda part: part.first)
                for before, after in itertools.pairwise(ordered):
                    assert after.first - before.last > PART_OVERHEAD

    @given(st.text(max_size=30))
    def test_any_text_is_answered(self, text: str) -> None:
        ask(text)
        ask(f"bytes={text}")

    @given(SPEC, st.integers(1, 1000))
    def test_werkzeug_cuts_the_same_bytes_from_a_single_range(self, spec: str, length: int) -> None:
        value = f"bytes={spec}"
        content = bytes(n % 251 for n in range(length))
        parsed = parse_range_header(value)
        oracle = None if parsed is None else parsed.range_for_length(length)
        if spec.startswith("-") and int(spec[1:]) > length:
            oracle = (0, length)  # werkzeug refuses a suffix longer than the representation, RFC 9110 §14.1.2 does not
        ours = ask(value, length)
        if isinstance(ours, Single):
            assert oracle is not None
            assert content[slice(*oracle)] == content[ours.first : ours.last + 1]
        else:
            assert ours == Unsatisfiable()
            assert oracle is None or not content[slice(*oracle)]

    @given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(1, 10**12))
    def test_rfc9110_14_4_werkzeug_reads_our_content_range(self, first: int, size: int, rest: int) -> None:
        span = Span(first, first + size)
        length = span.last + rest
        parsed = parse_content_range_header(content_range(span, length))
        assert parsed is not None
        assert (parsed.units, parsed.start, parsed.stop, parsed.length) == ("bytes", first, span.last + 1, length)


def test_rfc9110_14_4_the_range_of_a_416() -> None:
    assert unsatisfied_range(5) == "bytes */5"
    parsed = parse_content_range_header(unsatisfied_range(5))
    assert parsed is not None
    assert (parsed.start, parsed.stop, parsed.length) == (None, None, 5)


class TestMultipart:
    @given(
        st.lists(st.tuples(st.integers(0, 299), st.integers(0, 299)).map(sorted), min_size=1, max_size=5),
        st.sampled_from(["image/jpeg", "text/plain; charset=utf-8", 'a/b; c="d, \\"e"']),
    )
    def test_rfc9110_14_6_length_is_exact_and_parts_parse(self, pairs: list[list[int]], content_type: str) -> None:
        content = bytes(b"abcdefghijklmnopqrstuvwxyz0123456789"[n % 36] for n in range(300))
        spans = [Span(first, last) for first, last in pairs]
        framed = multipart(spans, 300, content_type, BOUNDARY)
        body = (
            b"".join(part.head + content[part.span.first : part.span.last + 1] for part in framed.parts) + framed.tail
        )
        assert len(body) == framed.content_length
        head = f"Content-Type: {framed.content_type}\r\n\r\n".encode()
        message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
        assert message.get_content_type() == "multipart/byteranges"
        read = [part for part in message.iter_parts() if isinstance(part, email.message.EmailMessage)]
        assert [(part["Content-Range"], part.get_payload(decode=True)) for part in read] == [
            (content_range(span, 300), content[span.first : span.last + 1]) for span in spans
        ]
        assert {part.get_content_type() for part in read} == {content_type.partition(";")[0]}

    def test_rfc2046_5_1_1_the_first_part_begins_so(self) -> None:
        framed = multipart([Span(0, 0), Span(2, 2)], 5, "image/png", "b")
        assert [part.head for part in framed.parts] == [
            b"--b\r\nContent-Type: image/png\r\nContent-Range: bytes 0-0/5\r\n\r\n",
            b"\r\n--b\r\nContent-Type: image/png\r\nContent-Range: bytes 2-2/5\r\n\r\n",
        ]
        assert framed.tail == b"\r\n--b--\r\n"
        assert framed.content_type == "multipart/byteranges; boundary=b"

    @pytest.mark.parametrize("boundary", ["", "a b", 'a"', "a\r\nb", "a" * 71, "é"])
    def test_another_boundary_is_refused(self, boundary: str) -> None:
        with pytest.raises(ValueError, match="boundary"):
            multipart([Span(0, 0)], 5, "image/png", boundary)

    @pytest.mark.parametrize("content_type", ["image/png\r\nX: y", "image/png\nX: y", "imagé/png"])
    def test_a_content_type_that_is_no_field_value_is_refused(self, content_type: str) -> None:
        with pytest.raises(ValueError, match="Content-Type"):
            multipart([Span(0, 0)], 5, content_type, BOUNDARY)
