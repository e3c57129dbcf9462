"""Which other origins' scripts may read a media (the Fetch standard's CORS protocol): a small, fixed policy."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from proxy.settings import CorsOrigins

_METHODS: Final = "GET, HEAD, OPTIONS"
# The request fields that a player or a script sets and that are not allowed without asking.
_REQUEST_FIELDS: Final = "Range, If-Match, If-Modified-Since, If-None-Match, If-Range, If-Unmodified-Since"
_EXPOSED: Final = ", ".join(
    (
        "Accept-Ranges",
        "Age",
        "Cache-Status",
        "Content-Disposition",
        "Content-Length",
        "Content-Range",
        "ETag",
        "Retry-After",
        "X-Request-Id",
    )
)
_MAX_AGE: Final = "7200"


def is_media(path: str, mount: str) -> bool:
    """Whether a path is one of the signed links', with the mount or without."""
    return path.startswith("/media/") or (bool(mount) and path.startswith(f"{mount}/media/"))


def allow(request: web.Request, response: web.StreamResponse, origins: CorsOrigins, mount: str) -> None:
    """Add the CORS fields to an answer to a media request, an error as well."""
    if not (origins.every or origins.origins) or not is_media(request.path, mount):
        return
    origin = request.headers.get("Origin", "")
    if not origins.every:
        # The answer depends on who asks, and a cache has to know it (RFC 9110 §12.5.5).
        varies = response.headers.get("Vary")
        response.headers["Vary"] = "Origin" if varies is None else f"{varies}, Origin"
        if not origins.allows(origin):
            return
    response.headers["Access-Control-Allow-Origin"] = "*" if origins.every else origin
    response.headers["Access-Control-Expose-Headers"] = _EXPOSED
    if "Server-Timing" in response.headers:
        # Else a page of another origin is told nothing of it (Resource Timing §4.5.1).
        response.headers["Timing-Allow-Origin"] = response.headers["Access-Control-Allow-Origin"]
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = _METHODS
        response.headers["Access-Control-Allow-Headers"] = _REQUEST_FIELDS
        response.headers["Access-Control-Max-Age"] = _MAX_AGE
