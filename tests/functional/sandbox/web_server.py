"""A web server whose files a test chooses, as an application's own would serve them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

from aiohttp import web
from yarl import URL

from proxy.semantics.fields import format_date


@dataclass
class Page:
    """An answer; one that has a validator is 304 to a request that has the same. A field with no value is not sent."""

    body: bytes = b"a picture"
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "image/png"})
    status: int = 200
    stalls: bool = False


@dataclass
class WebServer:
    """The files of a web server by path, and its requests."""

    url: str = ""
    pages: dict[str, Page] = field(default_factory=dict)
    requests: list[web.Request] = field(default_factory=list)
    arrived: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def put(
        self,
        path: str,
        body: bytes = b"a picture",
        status: int = 200,
        fields: Mapping[str, str] = MappingProxyType({}),
        **headers: str,
    ) -> str:
        """Serve something there; keywords are header fields with `_` for `-`. The address is returned.

        The answer is dated when the sandbox's held clock begins.
        """
        named = {
            "Date": format_date(1_800_000_000),
            **fields,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        self.pages[path] = Page(body, {"Content-Type": "image/png", **named}, status)
        return self.url + path

    def asked(self, name: str) -> list[str | None]:
        """Return a header field of each request, oldest first."""
        return [request.headers.get(name) for request in self.requests]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.arrived.release()
        page = self.pages.get(request.rel_url.raw_path_qs)
        if page is None:
            return web.Response(status=404)
        if page.stalls:
            await self.released.wait()
        etag = page.headers.get("ETag")
        since = page.headers.get("Last-Modified")
        unchanged = (etag is not None and request.headers.get("If-None-Match") == etag) or (
            etag is None and since is not None and request.headers.get("If-Modified-Since") == since
        )
        if unchanged:
            kept = {name: value for name, value in page.headers.items() if name != "Content-Type"}
            return web.Response(status=304, headers=kept)
        response = web.StreamResponse(status=page.status, headers=page.headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(page.body)
        await response.write_eof()
        return response


async def _drop_what_is_empty(request: web.Request, response: web.StreamResponse) -> None:
    for name in [name for name, value in response.headers.items() if not value]:
        del response.headers[name]


@asynccontextmanager
async def serving() -> AsyncIterator[WebServer]:
    server = WebServer()
    application = web.Application()
    application.on_response_prepare.append(_drop_what_is_empty)
    application.router.add_route("*", "/{rest:.*}", server.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = str(URL.build(scheme="http", host="127.0.0.1", port=runner.addresses[0][1])).rstrip("/")
        yield server
    finally:
        server.released.set()
        await runner.cleanup()
