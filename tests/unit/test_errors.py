"""The tree of errors: each class has a status, a stable name and a title of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from proxy import errors
from proxy.errors import GatewayError


def classes(root: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield root
    for below in root.__subclasses__():
        yield from classes(below)


ALL = sorted(set(classes(GatewayError)), key=lambda cls: cls.__name__)
PUBLIC = [cls for cls in ALL if not cls.__name__.startswith("_") and cls.__module__ == errors.__name__]


@pytest.mark.parametrize("cls", PUBLIC, ids=lambda cls: cls.__name__)
def test_an_error_has_a_status_a_slug_and_a_title(cls: type[GatewayError]) -> None:
    assert 400 <= cls.status <= 504
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", cls.kind)
    assert cls.title
    assert not cls.title.endswith(".")
    assert cls.__doc__


def test_no_two_errors_share_a_slug() -> None:
    # One without a slug of its own is its parent to a client, on purpose.
    slugs = [cls.kind for cls in PUBLIC if "kind" in vars(cls)]
    assert len(slugs) >= len(PUBLIC) - 1
    assert len(slugs) == len(set(slugs))


def test_a_note_is_no_part_of_what_is_said() -> None:
    error = errors.UpstreamError("Said.", note="kept")
    assert (error.detail, error.note, str(error)) == ("Said.", "kept", "Said.")
    assert str(errors.UpstreamError(note="kept")) == "The media could not be fetched"


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (errors.GatewayError(), {}),
        (errors.MethodNotAllowed(("GET", "HEAD")), {"Allow": "GET, HEAD"}),
        (errors.RangeRefused("bytes */5"), {"Content-Range": "bytes */5", "Accept-Ranges": "bytes"}),
        (errors.TooManyRequests(retry_after=7), {"Retry-After": "7"}),
        (errors.Overloaded(retry_after=0), {"Retry-After": "1"}),
        (errors.UpstreamBusy("Said.", retry_after=9, note="kept"), {"Retry-After": "9"}),
        (errors.Unauthorized(), {"WWW-Authenticate": 'Basic realm="media-gateway", charset="UTF-8"'}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_brings_the_fields_that_belong_to_it(error: GatewayError, headers: dict[str, str]) -> None:
    assert dict(error.headers) == headers


def test_settings_are_reported_all_at_once() -> None:
    problems = [errors.SettingProblem("A", "is bad"), errors.SettingProblem("B", "is worse")]
    error = errors.SettingsError(problems)
    assert (error.problems, str(error)) == (tuple(problems), "A: is bad; B: is worse")


def test_a_bad_request_names_every_field() -> None:
    bad = [errors.FieldProblem("ttl", "is bad"), errors.FieldProblem("media", "is worse")]
    for cls in (errors.BadRequest, errors.Forbidden, errors.Revoked):
        error = cls("Said.", errors=bad, note="kept")
        assert (error.detail, error.errors, error.note) == ("Said.", tuple(bad), "kept")
        assert str(error) == "Said. ttl: is bad; media: is worse"
        assert str(cls("Said.", note="kept")) == "Said."


def test_upstream_errors_are_of_one_family() -> None:
    for cls in (errors.MediaNotFound, errors.UpstreamBusy, errors.UpstreamTimeout, errors.UpstreamTooLarge):
        assert issubclass(cls, errors.UpstreamError)
