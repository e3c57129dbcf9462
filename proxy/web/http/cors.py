"""CORS (Fetch standard) for media: a small, fixed policy for the scripts of other origins."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from proxy.settings import CorsOrigins

_METHODS: Final = "GET, HEAD, OPTIONS"
# Request fields that a player or a script sets, and that CORS does not allow by itself.
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
    """Return whether a path is that of a signed link, with the mount path or without."""
    return path.startswith("/media/") or (bool(mount) and path.startswith(f"{mount}/media/"))


def allow(request: web.Request, response: web.StreamResponse, origins: CorsOrigins, mount: str) -> None:
    """Add the CORS fields to the answer to a media request, good or bad."""
    if not (origins.every or origins.origins) or not is_media(request.path, mount):
        return
    origin = request.headers.get("Origin", "")
    if not origins.every:
        # The answer depends on the asking origin, and a cache has to know that (RFC 9110 §12.5.5).
        varies = response.headers.get("Vary")
        response.headers["Vary"] = "Origin" if varies is None else f"{varies}, Origin"
        if not origins.allows(origin):
            return
    response.headers["Access-Control-Allow-Origin"] = "*" if origins.every else origin
    response.headers["Access-Control-Expose-Headers"] = _EXPOSED
    if "Server-Timing" in response.headers:
        # Without it, browsers hide the field from pages of other origins (Resource Timing §4.5.1).
        response.headers["Timing-Allow-Origin"] = response.headers["Access-Control-Allow-Origin"]
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = _METHODS
        response.headers["Access-Control-Allow-Headers"] = _REQUEST_FIELDS
        response.headers["Access-Control-Max-Age"] = _MAX_AGE
