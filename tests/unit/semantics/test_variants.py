"""RFC 9111 §4.1: which stored response a request selects."""

from __future__ import annotations

import pytest

from proxy.semantics.fields import Fields
from proxy.semantics.variants import ANY, VaryNames, selecting, selection, selects, vary

Lines = list[tuple[str, str]]


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([], frozenset()),
        ([""], frozenset()),
        ([", ,"], frozenset()),
        (["Accept-Encoding"], frozenset({"accept-encoding"})),
        (["Accept, ACCEPT , accept"], frozenset({"accept"})),
        (["Accept", "Origin"], frozenset({"accept", "origin"})),
        (["*"], ANY),
        ([" * "], ANY),
        (["*, *"], ANY),
        (["*", "Accept"], ANY),
        (["Accept", "*"], ANY),
        (["Accept,,*"], ANY),
        (["Accept *"], ANY),
        (['"Accept"'], ANY),
        (["Accept;q=1"], ANY),
    ],
)
def test_rfc9110_s12_5_5_vary(values: list[str], names: VaryNames) -> None:
    assert vary(Fields.of(("Vary", value) for value in values)) == names


@pytest.mark.parametrize(
    ("names", "original", "presented", "matches"),
    [
        ("", [("Foo", "1")], [("Foo", "2")], True),
        ("Foo", [("Foo", "1")], [("Foo", "1")], True),
        ("Foo", [("Foo", "1")], [("foo", "1")], True),
        ("FOO", [("Foo", "1")], [("Foo", "2")], False),
        ("Foo", [("Foo", "1")], [], False),
        ("Foo", [], [("Foo", "1")], False),
        ("Foo", [], [], True),
        ("Foo", [("Foo", "")], [], False),
        ("Foo", [("Foo", "1")], [("Foo", "1"), ("Bar", "2")], True),
        ("Foo, Bar", [("Foo", "1"), ("Bar", "2")], [("Bar", "2"), ("Foo", "1")], True),
        ("Foo, Bar", [("Foo", "1"), ("Bar", "2")], [("Foo", "1"), ("Bar", "3")], False),
        ("Foo, Bar", [("Foo", "1"), ("Bar", "2")], [("Foo", "1")], False),
        ("Foo", [("Foo", "1,2")], [("Foo", "1,  2")], True),
        ("Foo", [("Foo", "1,2")], [("Foo", "1"), ("Foo", "2")], True),
        ("Foo", [("Foo", "1,2")], [("Foo", "2,1")], False),
        ("Foo", [("Foo", "a")], [("Foo", "A")], False),
        ("Foo", [("Foo", '"a,  b"')], [("Foo", '"a, b"')], False),
        ("Accept-Encoding", [("Accept-Encoding", "gzip, br")], [("Accept-Encoding", "BR,gzip")], True),
        ("Accept-Encoding", [("Accept-Encoding", "gzip;q=0.5")], [("Accept-Encoding", "gzip; q=0.5")], True),
        ("Accept-Encoding", [("Accept-Encoding", "identity")], [("Accept-Encoding", "gzip")], False),
        ("Accept-Charset", [("Accept-Charset", "utf-8, latin1")], [("Accept-Charset", "latin1,UTF-8")], True),
        ("Accept-Language", [("Accept-Language", "en, de")], [("Accept-Language", "de, EN")], True),
        ("Accept-Language", [("Accept-Language", "en;q=0.5, de")], [("Accept-Language", "en, de;q=0.5")], False),
        ("*", [("Foo", "1")], [("Foo", "1")], False),
        ("Foo, *", [("Foo", "1")], [("Foo", "1")], False),
    ],
)
def test_s4_1_selection(names: str, original: Lines, presented: Lines, matches: bool) -> None:
    response = Fields.of([("Vary", names)])
    assert selects(response, Fields.of(original), Fields.of(presented)) is matches
    one, other = selection(response, Fields.of(original)), selection(response, Fields.of(presented))
    assert (one is not None and one == other) is matches


def test_s4_1_the_gateways_own_credentials_do_not_select() -> None:
    # They are those of the account, which is part of the identity, and rotate without another representation.
    response = Fields.of([("Vary", "Authorization, Accept-Encoding")])
    before = Fields.of([("Authorization", "Basic b2xk"), ("Accept-Encoding", "identity")])
    after = Fields.of([("Authorization", "Basic bmV3"), ("Accept-Encoding", "identity")])
    assert selects(response, selecting(before), selecting(after))
    assert selection(response, before) == (("accept-encoding", "identity"),)


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "Connection",
        "Host",
        "If-None-Match",
        "If-Modified-Since",
    ],
)
def test_s4_1_credentials_conditions_and_hop_fields_never_select(name: str) -> None:
    kept = selecting(Fields.of([(name, "x"), ("Origin", "y")]))
    assert kept == Fields.of([("Origin", "y")])
    response = Fields.of([("Vary", name)])
    assert selects(response, kept, Fields.of([(name, "z")]))


def test_s4_1_a_key_tells_absent_from_empty() -> None:
    response = Fields.of([("Vary", "Foo"), ("Vary", "Bar, Baz")])
    assert selection(response, Fields.of([("Foo", ""), ("Bar", "x ,y")])) == (
        ("bar", "x, y"),
        ("baz", None),
        ("foo", ""),
    )
    assert selection(Fields.of([("Vary", "*")]), Fields()) is None
