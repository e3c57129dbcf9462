"""Errors as clients see them: `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import json
from typing import Final

from aiohttp import web

from proxy.errors import BadRequest, Forbidden, GatewayError, NotReady
from proxy.reasons import reason_phrase

SERVER: Final = "media-gateway"
"""The `Server` of every answer (RFC 9110 §10.2.4)."""
PROBLEM_TYPE: Final = "application/problem+json"
_TYPE_PREFIX: Final = "urn:media-gateway:problem:"


def problem_body(error: GatewayError, request_id: str) -> bytes:
    """Return the JSON of an error: `type`, `title`, `status`, `detail`, `instance`, and extensions of some errors.

    Those are the `errors` of bad fields, and the parts of a gateway that is not ready (RFC 9457 §3.2).
    """
    body: dict[str, object] = {
        "type": _TYPE_PREFIX + error.kind,
        "title": error.title,
        "status": error.status,
        "detail": error.detail or f"{error.title}.",
        "instance": request_id,
    }
    if isinstance(error, BadRequest | Forbidden) and error.errors:
        body["errors"] = [{"field": problem.field, "message": problem.message} for problem in error.errors]
    if isinstance(error, NotReady):
        body.update(error.parts)
    return json.dumps(body, ensure_ascii=False).encode()


def problem(error: GatewayError, request_id: str) -> web.Response:
    """Return the answer to an error. It is never stored (RFC 9111 §5.2.2.5), and tells the error's own facts only."""
    return web.Response(
        status=error.status,
        reason=reason_phrase(error.status),
        body=problem_body(error, request_id),
        headers={
            "Content-Type": PROBLEM_TYPE,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Server": SERVER,
            "X-Request-Id": request_id,
            **error.headers,
        },
    )
