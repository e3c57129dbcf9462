"""RFC 9111 §5.2: the directives of responses and requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.semantics.directives import MAX_SECONDS, CacheControl, RequestDirectives, parse_seconds
from proxy.semantics.fields import Fields

FIELD_TEXT = st.text(st.sampled_from("\t \"\\,;='0123456789.-+aAeEgmnosx*/\xe9"), max_size=60)
DIRECTIVE = st.sampled_from(
    [
        "no-store",
        "no-cache",
        "private",
        "max-age",
        "s-maxage",
        "must-understand",
        "must-revalidate",
        "=",
        ",",
        ";",
        '"',
        " ",
        "60",
        "x",
        "\\",
    ]
)
HOSTILE = FIELD_TEXT | st.lists(DIRECTIVE, max_size=12).map("".join) | st.text(max_size=40)


def control(*values: str) -> CacheControl:
    return CacheControl.of(Fields.of(("Cache-Control", value) for value in values))


def asked(*lines: tuple[str, str]) -> RequestDirectives:
    return RequestDirectives.of(Fields.of(lines))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("3600", 3600),
        ("003600", 3600),
        ("000000000000000000003600", 3600),
        ("2147483647", 2147483647),
        ("2147483648", MAX_SECONDS),
        ("2147483649", MAX_SECONDS),
        ("99999999999", MAX_SECONDS),
        ("9" * 5000, MAX_SECONDS),
        ("0" * 5000, 0),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.0", None),
        ("1e3", None),
        ("0x10", None),
        ("1_000", None),
        ("1 000", None),
        (" 1", None),
        ("١٢", None),
        ("²", None),
        ("foo", None),
    ],
)
def test_s1_2_2_delta_seconds(text: str, seconds: int | None) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    ("value", "max_age"),
    [
        ("max-age=3600", 3600),
        ("MaX-aGe=3600", 3600),
        ('max-age="3600"', 3600),
        (r'max-age="36\00"', 3600),
        ("max-age=003600", 3600),
        ("max-age=0", 0),
        ("max-age=2147483648", MAX_SECONDS),
        ("max-age=99999999999999999999", MAX_SECONDS),
        ("foobar, max-age=3600", 3600),
        ("foobar=1, max-age=3600, baz", 3600),
        (",,max-age=3600, ,", 3600),
        ("max-age=3600,foo", 3600),
        ('extension="max-age=1", max-age=3600', 3600),
        ('extension="a, max-age=1, b", max-age=3600', 3600),
        ('extension="a\\", max-age=1, b", max-age=3600', 3600),
        ("xmax-age=1, max-agex=2, max-age=3600", 3600),
        ("max-age=3600, max-age=3600", 3600),
    ],
)
def test_s5_2_2_1_max_age_in_every_sound_spelling(value: str, max_age: int) -> None:
    assert control(value).max_age == max_age


@pytest.mark.parametrize(
    "value",
    [
        "max-age",
        "max-age=",
        'max-age=""',
        "max-age=foo",
        "max-age=-3600",
        "max-age=+3600",
        "max-age=3600.0",
        "max-age=3600,5, max-age=x",
        "max-age='3600'",
        "max-age =3600",
        "max-age= 3600",
        "max-age = 3600",
        "max-age\t=\t3600",
        "max-age=3600 s",
        "max-age=3600s",
        "max-age=3600;",
        "max-age=3600; foo=bar",
        "max-age: 3600",
        'max-age="3600',
        'max-age=3600"',
        'max-age="36" "00"',
        'max-age="3600"x',
        'max-age=" 3600"',
        'max-age="3600 "',
        "max-age==3600",
        "max-age=3600=",
        "max-age=1e3",
        "max-age=0x10",
        "max-age=١٢",
    ],
)
def test_s4_2_1_a_malformed_max_age_is_stale(value: str) -> None:
    assert control(value).max_age == 0


@pytest.mark.parametrize(
    ("values", "max_age"),
    [
        (("max-age=3600, max-age=60",), 60),
        (("max-age=60, max-age=3600",), 60),
        (("max-age=0, max-age=3600",), 0),
        (("max-age=3600, max-age=0",), 0),
        (("max-age=3600", "max-age=60"), 60),
        (("max-age=60", "max-age=3600"), 60),
        (("max-age=3600, max-age=foo",), 0),
        (("foo", "max-age=3600"), 3600),
    ],
)
def test_s4_2_1_of_duplicates_the_most_restrictive_counts(values: tuple[str, ...], max_age: int) -> None:
    assert control(*values).max_age == max_age


def test_s4_2_1_s_maxage_precedes_max_age_when_shared() -> None:
    assert control("s-maxage=1, max-age=3600").explicit_lifetime == 1
    assert control("max-age=1, s-maxage=3600").explicit_lifetime == 3600
    assert control("max-age=7").explicit_lifetime == 7
    assert control("s-maxage=x, max-age=3600").explicit_lifetime == 0
    assert control("public").explicit_lifetime is None


FLAGS = ["no-store", "no-cache", "private", "must-revalidate", "proxy-revalidate"]


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "max-age=60, {}",
        "{}, max-age=60",
        "{},",
        ", {}",
        "{}=",
        "{}=x",
        '{}="Set-Cookie"',
        '{}=""',
        '{}="unfinished',
        "{} = x",
        "max-age=60; {}",
        "{}; max-age=60",
        "foo {}",
        "foo\t{}",
        "{} foo",
        'foo="bar" {}',
        'foo="bar";{}',
        "{}:x",
        '"open, {}',
        'foo="open, {}',
    ],
)
def test_s5_2_2_a_restriction_counts_however_it_is_spelled(name: str, form: str) -> None:
    for text in (name, name.upper(), name.title()):
        parsed = control(form.format(text))
        assert getattr(parsed, name.replace("-", "_"))
        others = [other for other in FLAGS if other != name]
        assert not any(getattr(parsed, other.replace("-", "_")) for other in others)


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize(
    "form", ['foo="{}"', 'foo="a, {}, b"', 'foo="a;{}"', 'foo="a {} b"', "x{}", "{}x", "x-{}", "foo={}"]
)
def test_s5_2_3_an_extension_with_that_name_is_ignored(name: str, form: str) -> None:
    assert control(form.format(name)) == CacheControl()


@pytest.mark.parametrize(
    ("values", "forbidden"),
    [
        (("no-store",), True),
        (("max-age=60", "no-store"), True),
        (("private",), True),
        (('private="X-Foo"',), True),
        (("must-understand, no-store",), False),
        (("no-store", "must-understand"), False),
        (("must-understand, no-store, private",), True),
        (("must-understand=x, no-store",), True),
        (("must-understand; no-store",), True),
        (('no-store, must-understand="open',), True),
        (("no-store must-understand",), True),
        (("must-understand",), False),
        (("no-cache",), False),
        (("max-age=0, must-revalidate",), False),
        (("",), False),
        ((), False),
    ],
)
def test_s5_2_2_3_no_store_private_and_must_understand(values: tuple[str, ...], forbidden: bool) -> None:
    assert control(*values).forbids_storing is forbidden


@pytest.mark.parametrize(
    ("value", "forbidden"),
    [
        ("must-revalidate", True),
        ("proxy-revalidate", True),
        ("s-maxage=60", True),
        ("s-maxage=x", True),
        ("no-cache", True),
        ('no-cache="Set-Cookie"', True),
        ("max-age=60", False),
        ("public", False),
        ("stale-while-revalidate=60, stale-if-error=60", False),
    ],
)
def test_s4_2_4_directives_that_forbid_serving_stale(value: str, forbidden: bool) -> None:
    assert control(value).forbids_stale is forbidden


def test_rfc5861_windows_of_the_response() -> None:
    parsed = control("max-age=1, stale-while-revalidate=30, stale-if-error=600")
    assert (parsed.stale_while_revalidate, parsed.stale_if_error) == (30, 600)
    parsed = control("stale-while-revalidate, stale-if-error=x")
    assert (parsed.stale_while_revalidate, parsed.stale_if_error) == (0, 0)
    assert control("max-age=1").stale_while_revalidate is None
    assert control("max-age=1").stale_if_error is None


def test_s5_4_pragma_means_nothing_in_a_response() -> None:
    assert CacheControl.of(Fields.of([("Pragma", "no-cache")])) == CacheControl()


@given(st.lists(HOSTILE, max_size=4))
def test_parsing_never_raises_and_never_gives_a_negative_time(values: list[str]) -> None:
    parsed = control(*values)
    directives = asked(*(("Cache-Control", value) for value in values))
    asked(*(("Pragma", value) for value in values))
    for seconds in (
        parsed.max_age,
        parsed.s_maxage,
        parsed.stale_if_error,
        parsed.stale_while_revalidate,
        directives.max_age,
        directives.max_stale,
        directives.min_fresh,
    ):
        assert seconds is None or 0 <= seconds <= MAX_SECONDS


@given(HOSTILE, st.sampled_from(FLAGS))
def test_more_members_never_take_a_restriction_away(value: str, name: str) -> None:
    before = control(f"{name}, max-age=60")
    after = control(f"{name}, max-age=60", value)
    assert getattr(after, name.replace("-", "_"))
    assert after.max_age is not None
    assert before.max_age is not None
    assert after.max_age <= before.max_age


# --- requests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("no-cache", RequestDirectives(no_cache=True)),
        ("No-Cache, foo", RequestDirectives(no_cache=True)),
        ("max-age=0", RequestDirectives(max_age=0)),
        ("max-age=30, max-age=20", RequestDirectives(max_age=20)),
        ("max-age=foo", RequestDirectives(max_age=0)),
        ("min-fresh=10", RequestDirectives(min_fresh=10)),
        ("min-fresh=10, min-fresh=20", RequestDirectives(min_fresh=20)),
        ("min-fresh=foo", RequestDirectives(min_fresh=0)),
        ("max-stale", RequestDirectives(max_stale=MAX_SECONDS)),
        ("max-stale=10", RequestDirectives(max_stale=10)),
        ("max-stale=10, max-stale", RequestDirectives(max_stale=10)),
        ("max-stale=", RequestDirectives(max_stale=0)),
        ("max-stale=foo", RequestDirectives(max_stale=0)),
        ("max-stale;", RequestDirectives(max_stale=0)),
        ('max-stale="10', RequestDirectives(max_stale=0)),
        ("only-if-cached", RequestDirectives(only_if_cached=True)),
        ("no-store", RequestDirectives()),
        ("", RequestDirectives()),
    ],
)
def test_s5_2_1_request_directives(value: str, expected: RequestDirectives) -> None:
    assert asked(("Cache-Control", value)) == expected


def test_s5_4_pragma_counts_only_without_cache_control() -> None:
    assert asked(("Pragma", "no-cache")).no_cache
    assert asked(("Pragma", "foo, No-Cache")).no_cache
    assert not asked(("Pragma", "x-no-cache")).no_cache
    assert not asked(("Pragma", "no-cache"), ("Cache-Control", "max-age=60")).no_cache
    assert not asked(("Pragma", "no-cache"), ("Cache-Control", "")).no_cache
    assert asked() == RequestDirectives()
