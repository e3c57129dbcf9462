"""The page of an error: words for every kind, nothing that runs, nothing of the request but its id."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from proxy import errors
from proxy.errors import GatewayError
from proxy.web.media.error_page import error_page

REQUEST_ID = "0123456789abcdef"


def kinds(root: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


def made(kind: type[GatewayError]) -> GatewayError:
    match kind:
        case errors.MethodNotAllowed:
            return errors.MethodNotAllowed(("GET",))
        case errors.RangeRefused:
            return errors.RangeRefused("bytes */7")
        case errors.UpstreamRefused:
            return errors.UpstreamRefused(400, 1, "<b>secret</b>", "https://example.com/secret")
        case errors.NotReady:
            return errors.NotReady("<b>secret</b>", {"cache": "<b>secret</b>"})
        case errors.SharedTierAway:
            return errors.SharedTierAway("<b>secret</b>")
        case errors.RevocationsFull:
            return errors.RevocationsFull(7)
        case errors.SettingsError:
            return errors.SettingsError([])
        case _:
            return kind("<b>secret</b>", note="secret")


def text(error: GatewayError, request_id: str = REQUEST_ID) -> str:
    body = error_page(error, request_id).body
    assert isinstance(body, bytes)
    return body.decode()


class Elements(HTMLParser):
    """The names of a page's elements and its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.parametrize("kind", list(dict.fromkeys(kinds())), ids=lambda kind: kind.__name__)
def test_every_error_has_a_page_that_tells_no_secret(kind: type[GatewayError]) -> None:
    error = made(kind)
    response, page = error_page(error, REQUEST_ID), text(error)
    assert response.status == error.status
    assert "secret" not in page
    assert "$" not in page
    assert f"Error {error.status}." in page
    assert page.count(REQUEST_ID) == 1
    assert re.search("<h1>[A-Z].+</h1>", page)
    assert {name: response.headers[name] for name in error.headers} == dict(error.headers)
    assert response.headers["Cache-Control"] == "no-store"


def test_a_page_has_nothing_that_runs_or_is_fetched() -> None:
    elements = Elements(text(errors.UpstreamTimeout()))
    assert elements.names.isdisjoint({"script", "link", "img", "iframe", "form", "base", "object"})
    assert elements.attributes.isdisjoint({"style", "src", "srcset", "onclick", "action"})
    assert "url(" not in text(errors.LinkExpired())


def test_the_policy_allows_the_style_of_the_page_alone() -> None:
    policy = error_page(errors.LinkExpired(), REQUEST_ID).headers["Content-Security-Policy"]
    (style,) = re.findall("<style>(.*?)</style>", text(errors.LinkExpired()), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
        "sandbox",
    ]


def test_an_id_is_shown_as_text() -> None:
    assert "<i>" not in text(errors.LinkExpired(), "<i>&</i>")


def test_each_kind_says_what_to_do() -> None:
    assert "ask for a new link" in text(errors.LinkExpired())
    assert "ask for a new link" in text(errors.LinkSignatureInvalid())
    assert "withdrawn" in text(errors.LinkRevoked())
    assert "cannot be checked" in text(
        errors.LinkRevoked("The gateway cannot tell at the moment whether this link is revoked.")
    )
    for error in (errors.UpstreamError(), errors.UpstreamBusy(), errors.Overloaded(), errors.UpstreamTimeout()):
        assert "Try again</a>" in text(error)
    for final in (errors.LinkExpired(), errors.LinkMalformed(), errors.TooManyRequests()):
        assert "Try again</a>" not in text(final)
