from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import parse_date as oracle_date
from werkzeug.http import parse_etags as oracle_etags

from proxy.semantics.fields import (
    EntityTag,
    Fields,
    format_date,
    is_safe_value,
    parse_date,
    parse_entity_tags,
    quote,
    split_list,
    unquote,
)

NOW = 1_795_305_600.0  # Sun, 22 Nov 2026 00:00:00 GMT


class TestFields:
    def test_names_are_compared_without_case_and_order_is_kept(self) -> None:
        fields = Fields.of([("ETag", '"a"'), ("VARY", " x\t"), ("etag", '"b"')])
        assert fields.all("Etag") == ('"a"', '"b"')
        assert fields.first("vary") == "x"
        assert "Vary" in fields
        assert "Date" not in fields
        assert list(fields) == [("ETag", '"a"'), ("VARY", "x"), ("etag", '"b"')]

    def test_rfc9110_5_3_lines_of_one_name_are_joined(self) -> None:
        assert Fields.of([("A", "1"), ("b", "x"), ("a", "2")]).combined("a") == "1, 2"
        assert Fields().combined("a") is None

    @pytest.mark.parametrize(("values", "single"), [((), None), (("1",), "1"), (("1", "1"), "1"), (("1", "2"), None)])
    def test_a_field_without_list_has_one_value_or_none(self, values: tuple[str, ...], single: str | None) -> None:
        assert Fields.of(("L", value) for value in values).single("l") == single


class TestStrings:
    @pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "a\x00b", "\x7f", "漢"])
    def test_rfc9110_5_5_a_value_splitting_a_message_is_unsafe(self, value: str) -> None:
        assert not is_safe_value(value)

    def test_rfc9110_5_5_text_tabs_and_obs_text_are_safe(self) -> None:
        assert is_safe_value("a\tb é")

    @given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
    def test_rfc9110_5_6_4_unquote_inverts_quote(self, text: str) -> None:
        assert unquote(quote(text)) == text

    @pytest.mark.parametrize("text", ["", "a", '"', '"a', 'a"', '"a"b"', '"a\\"', '"\n"'])
    def test_rfc9110_5_6_4_anything_else_is_no_quoted_string(self, text: str) -> None:
        assert unquote(text) is None

    @pytest.mark.parametrize(
        ("value", "members"),
        [
            ("", []),
            (" , ,", []),
            ("a,b", ["a", "b"]),
            ("a ,\tb , ", ["a", "b"]),
            ('a="x,y",b', ['a="x,y"', "b"]),
            ('a="x\\",y",b', ['a="x\\",y"', "b"]),
            ('a="x,b', ['a="x', "b"]),
        ],
    )
    def test_rfc9110_5_6_1_lists(self, value: str, members: list[str]) -> None:
        assert split_list(value) == members

    def test_an_unclosed_quote_ends_the_search_for_quoted_strings(self) -> None:
        # Only the first quote is tried, so the work stays linear in the length of a hostile field.
        assert split_list('"\\"x\x01, "a,b"') == ['"\\"x\x01', '"a', 'b"']

    @given(st.lists(st.from_regex(r"[a-z]{1,5}(=\"[a-z,;]{0,5}\")?", fullmatch=True)))
    def test_split_list_inverts_a_join(self, members: list[str]) -> None:
        assert split_list(" , ".join(members)) == members


class TestDates:
    @pytest.mark.parametrize(
        "text",
        [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "sun, 06 nov 1994 08:49:37 gmt",
        ],
    )
    def test_rfc9110_5_6_7_the_three_forms(self, text: str) -> None:
        assert parse_date(text, NOW) == 784_111_777

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "0",
            "784111777",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:00 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 0000 08:49:37 GMT",
            "Sun, 06 Xxx 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, ٠٦ Nov 1994 08:49:37 GMT",
        ],
    )
    def test_rfc9110_5_6_7_anything_else_is_no_date(self, text: str) -> None:
        assert parse_date(text, NOW) is None

    def test_rfc9110_5_6_7_a_leap_second_is_a_date(self) -> None:
        leap = parse_date("Sat, 31 Dec 2016 23:59:60 GMT", NOW)
        assert leap == parse_date("Sun, 01 Jan 2017 00:00:00 GMT", NOW)

    @pytest.mark.parametrize(
        ("now", "text", "year"),
        [
            ("Sun, 22 Nov 2026 00:00:00 GMT", "Sunday, 22-Nov-76 00:00:00 GMT", 2076),
            ("Sun, 22 Nov 2026 00:00:00 GMT", "Sunday, 22-Nov-76 00:00:01 GMT", 1976),
            ("Sun, 22 Nov 2026 00:00:00 GMT", "Sunday, 23-Nov-76 00:00:00 GMT", 1976),
            ("Thu, 31 Dec 2026 23:59:59 GMT", "Friday, 01-Jan-77 00:00:00 GMT", 1977),
            ("Thu, 31 Dec 2026 23:59:59 GMT", "Thursday, 31-Dec-76 23:59:59 GMT", 2076),
            ("Sun, 22 Nov 2026 00:00:00 GMT", "Sunday, 22-Nov-26 00:00:00 GMT", 2026),
            ("Mon, 22 Nov 2060 00:00:00 GMT", "Sunday, 22-Nov-05 00:00:00 GMT", 2105),
        ],
    )
    def test_rfc9110_5_6_7_short_years_reach_50_ahead(self, now: str, text: str, year: int) -> None:
        moment = parse_date(now, NOW)
        assert moment is not None
        seconds = parse_date(text, moment)
        assert seconds is not None
        assert format_date(seconds)[12:16] == str(year)

    @given(st.integers(min_value=-62_135_596_800, max_value=253_402_300_799))
    def test_rfc9110_5_6_7_parsing_inverts_formatting(self, seconds: int) -> None:
        assert parse_date(format_date(seconds), NOW) == seconds

    # From the year 1000 on: werkzeug takes 0050 for 2050.
    @given(st.integers(min_value=-30_610_224_000, max_value=253_402_300_799))
    def test_werkzeug_reads_the_same_moment(self, seconds: int) -> None:
        epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        assert oracle_date(format_date(seconds)) == epoch + dt.timedelta(seconds=seconds)


OPAQUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"'), max_size=8)
TAG = st.builds(EntityTag, OPAQUE, st.booleans())


class TestEntityTags:
    @given(TAG)
    def test_rfc9110_8_8_3_parsing_inverts_formatting(self, tag: EntityTag) -> None:
        assert EntityTag.parse(str(tag)) == tag

    @pytest.mark.parametrize("text", ["", "a", '"a', "'a'", 'w/"a"', 'W/ "a"', "W/a", '"a b"', '"a""', '"a", "b"', "*"])
    def test_rfc9110_8_8_3_anything_else_is_no_entity_tag(self, text: str) -> None:
        assert EntityTag.parse(text) is None

    @pytest.mark.parametrize(
        ("one", "other", "strong", "weak"),
        [
            ('W/"1"', 'W/"1"', False, True),
            ('W/"1"', 'W/"2"', False, False),
            ('W/"1"', '"1"', False, True),
            ('"1"', 'W/"1"', False, True),
            ('"1"', '"1"', True, True),
        ],
    )
    def test_rfc9110_8_8_3_2_comparison(self, one: str, other: str, *, strong: bool, weak: bool) -> None:
        first, second = EntityTag.parse(one), EntityTag.parse(other)
        assert first is not None
        assert second is not None
        assert first.strongly_equals(second) is strong
        assert first.weakly_equals(second) is weak

    @pytest.mark.parametrize("value", ["", ",", "a", '"a" "b"', '"a"b', '"a", b', '"a', '"a", *', '"a";"b"'])
    def test_rfc9110_13_1_1_a_malformed_list_is_none(self, value: str) -> None:
        assert parse_entity_tags(value) is None

    def test_rfc9110_13_1_1_tags_may_hold_commas_and_backslashes(self) -> None:
        assert parse_entity_tags(',"a,b" , ,W/"\\"\t,') == (EntityTag("a,b"), EntityTag("\\", weak=True))

    @given(st.lists(TAG, min_size=1, max_size=5), st.sampled_from([",", ", ", " ,\t", ",,"]))
    def test_rfc9110_13_1_1_lists_are_read_back(self, tags: list[EntityTag], separator: str) -> None:
        assert parse_entity_tags(separator.join(map(str, tags))) == tuple(tags)

    @given(st.lists(st.builds(EntityTag, st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True), st.booleans()), min_size=1))
    def test_werkzeug_reads_the_same_tags(self, tags: list[EntityTag]) -> None:
        value = ", ".join(map(str, tags))
        oracle = oracle_etags(value)
        assert {tag.opaque for tag in parse_entity_tags(value) or () if not tag.weak} == set(oracle.as_set())
        assert all(oracle.contains_weak(tag.opaque) for tag in tags)
