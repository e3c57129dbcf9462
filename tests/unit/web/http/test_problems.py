"""An error as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import json

from proxy.errors import BadRequest, FieldProblem, LinkExpired, RangeRefused, UpstreamError
from proxy.web.http.problems import problem, problem_body


def test_a_problem_has_the_five_members() -> None:
    assert json.loads(problem_body(LinkExpired("The link has expired."), "abc")) == {
        "type": "urn:media-gateway:problem:link-expired",
        "title": "This link has expired",
        "status": 410,
        "detail": "The link has expired.",
        "instance": "abc",
    }


def test_the_title_and_no_note_stands_in_for_a_detail() -> None:
    body = problem_body(UpstreamError(note="http://internal.example/"), "abc")
    assert json.loads(body)["detail"] == "The media could not be fetched."
    assert b"internal" not in body


def test_bad_fields_are_named() -> None:
    body = json.loads(problem_body(BadRequest(errors=[FieldProblem("ttl", "is too long")]), "abc"))
    assert body["errors"] == [{"field": "ttl", "message": "is too long"}]
    assert "errors" not in json.loads(problem_body(BadRequest(), "abc"))


def test_the_answer_is_not_stored_and_brings_the_errors_fields() -> None:
    response = problem(RangeRefused("bytes */5"), "abc")
    assert response.status == 416
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Range"] == "bytes */5"
    assert response.headers["X-Request-Id"] == "abc"
    assert response.headers["Server"] == "media-gateway"
