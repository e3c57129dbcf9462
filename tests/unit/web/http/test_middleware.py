"""Errors of aiohttp's own become the gateway's."""

from __future__ import annotations

import pytest
from aiohttp import web

from proxy.errors import BadRequest, ContentTooLarge, GatewayError, LinkExpired, MethodNotAllowed, NotFound
from proxy.web.http.middleware import translated


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (web.HTTPNotFound(), NotFound),
        (web.HTTPRequestEntityTooLarge(1, 2), ContentTooLarge),
        (web.HTTPMethodNotAllowed("PUT", ["POST", "GET"]), MethodNotAllowed),
        (web.HTTPUnprocessableEntity(), BadRequest),
        (LinkExpired(), LinkExpired),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_has_its_own(raised: GatewayError | web.HTTPException, kind: type[GatewayError]) -> None:
    error = translated(raised)
    assert type(error) is kind
    if isinstance(error, MethodNotAllowed):
        assert error.allow == ("GET", "POST")
