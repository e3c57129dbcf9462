from __future__ import annotations

import pytest

from proxy.semantics.fields import Fields
from proxy.semantics.navigation import wants_page

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


def asked(accept: str | None = None, *destinations: str) -> bool:
    accepts = [] if accept is None else [("Accept", accept)]
    return wants_page(Fields.of([*accepts, *(("Sec-Fetch-Dest", destination) for destination in destinations)]))


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "TEXT/HTML",
        BROWSER,
        "image/png, text/html",
        "text/html;q=0.001",
        "text/html; q=1.000",
        "text/html ; Q=0.5",
        "text/html;level=1",
        'text/html;a="b, c;q=0";q=0.5',
        "text/html;q=0, text/html;level=1;q=0.4",
        ", ,text/html,",
    ],
)
def test_rfc9110_12_5_1_html_that_is_named_is_wanted(accept: str) -> None:
    assert asked(accept)


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "",
        "*/*",
        "text/*",
        "text/*, */*;q=0.1",
        "application/xhtml+xml",
        "application/json",
        "text/html;q=0",
        "text/html;q=0.000",
        "text/html; q=0.0, */*",
        "text/html;q=",
        "text/html;q=much",
        "text/html;q=-1",
        "text/html;q=2",
        "text/html;q=0.5;q=0",
        "text/htmlx",
        "x-text/html",
        'x/y;a="text/html"',
        'x/y;a=", text/html"',
        "text / html",
    ],
)
def test_rfc9110_12_5_1_html_is_wanted_if_named(accept: str | None) -> None:
    assert not asked(accept)


@pytest.mark.parametrize("destination", ["document", "iframe", "embed"])
def test_what_is_shown_as_a_document_gets_a_page(destination: str) -> None:
    assert asked(BROWSER, destination)
    assert not asked("*/*", destination)


@pytest.mark.parametrize(
    "destinations",
    [("image",), ("video",), ("empty",), ("object",), ("",), ("Document",), ("document", "document")],
)
def test_what_is_not_shown_as_a_document_gets_no_page(destinations: tuple[str, ...]) -> None:
    assert not asked(BROWSER, *destinations)


def test_several_accept_lines_are_one_list() -> None:
    assert wants_page(Fields.of([("Accept", "*/*"), ("accept", "text/html")]))
