"""Reason phrases: the same to a client whatever Python the gateway runs on."""

from __future__ import annotations

import ast
from http import HTTPStatus
from pathlib import Path

import pytest

import proxy
from proxy import errors
from proxy.errors import GatewayError
from proxy.model import Provider
from proxy.reasons import reason_phrase
from proxy.sandbox.documents import Document
from proxy.sandbox.state import answer
from proxy.web.api.errors import ProviderErrors
from proxy.web.api.resources import Form
from proxy.web.http.problems import problem

RENAMED = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
"""The statuses that releases of the standard library call differently, with their names in RFC 9110."""


def statuses(root: type[GatewayError]) -> set[int]:
    return {root.status}.union(*(statuses(subclass) for subclass in root.__subclasses__()))


@pytest.mark.parametrize(("status", "phrase"), RENAMED.items())
def test_a_status_has_the_name_of_its_rfc(status: int, phrase: str) -> None:
    assert reason_phrase(status) == phrase


def test_every_error_has_the_phrase_of_its_status() -> None:
    for status in statuses(GatewayError):
        assert reason_phrase(status), status


@pytest.mark.parametrize("status", sorted(set(HTTPStatus) - RENAMED.keys()))
def test_the_other_phrases_are_those_of_the_standard_library(status: int) -> None:
    assert reason_phrase(status) in {HTTPStatus(status).phrase, ""}


def test_a_status_that_no_rfc_names_has_no_phrase() -> None:
    assert reason_phrase(599) == ""


@pytest.mark.parametrize(
    "error",
    [errors.ContentTooLarge(), errors.RangeRefused("bytes */5"), errors.UpstreamRefused(422, 20422, "No.", "")],
)
def test_a_status_line_does_not_depend_on_the_python(error: GatewayError) -> None:
    assert problem(error, "abc").reason == reason_phrase(error.status)
    for provider in Provider:
        answered = ProviderErrors(provider, Form.JSON, "/").answer(error, "abc")
        assert answered.reason == reason_phrase(answered.status)


@pytest.mark.parametrize("status", RENAMED)
def test_the_sandbox_names_a_status_alike_on_every_python(status: int) -> None:
    assert answer(Document("text/plain", b""), status).reason == RENAMED[status]


def test_no_module_takes_a_phrase_from_the_standard_library() -> None:
    root = Path(proxy.__file__).parent
    taken = [
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in {"phrase", "responses", "REASON_PHRASES"}
    ]
    assert taken == []
