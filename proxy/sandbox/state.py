"""The state that the two servers of one sandbox share, and the application around each of their handlers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from proxy.reasons import reason_phrase
from proxy.sandbox.creation import Creation
from proxy.sandbox.documents import Document
from proxy.sandbox.fault_board import FaultBoard
from proxy.sandbox.faults import Dressing, Headers, WrongType
from proxy.sandbox.hosts import own_hosts
from proxy.sandbox.options import Mode, SandboxOptions
from proxy.sandbox.records import Origin, Records, RequestRecord
from proxy.sandbox.signing import LinkSigner
from proxy.sandbox.storage import Storage

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# An order on the knobs may have Base64 of media or of raw octets in it. Forms have bounds of their own.
_BODY_BYTES: Final = 20 * 2**20
# The part that is read of a body that no answer needs.
_DISCARD_BYTES: Final = 64 * 2**20
_DISCARD_SECONDS: Final = 10.0
_MISDIRECTED: Final = "This sandbox does not answer to that host. Start it with --host NAME to have it do so.\n"
_RECORD: Final = web.RequestKey("record", int)
_DRESSING: Final = web.RequestKey("dressing", tuple[Dressing, ...])


@dataclass(slots=True)
class State:
    """One account's messages, its faults and its record of requests; `mode` may change between requests."""

    options: SandboxOptions
    storage: Storage
    creation: Creation
    faults: FaultBoard
    records: Records
    signer: LinkSigner
    mode: Mode
    api_url: str = ""
    cdn_url: str = ""

    def now(self) -> float:
        """Return Unix time in seconds, by the sandbox's own clock."""
        return self.options.clock()

    def answers(self, request: web.Request, origin: Origin) -> bool:
        """Return whether a request is for a host of the sandbox's own."""
        address = request.get_extra_info("sockname")
        if address is None:
            # The connection is gone.
            return False
        listen = self.options.cdn_listen if origin is Origin.CDN else self.options.api_listen
        # The address that the request came to is the server's own: a rebound host is a name.
        hosts = own_hosts((listen[0], address[0]), self.options.hosts)
        may_lack = request.version < HttpVersion11
        return hosts.answer(request.headers.getall("Host", []), request.raw_path, may_lack=may_lack)


def dress_also(request: web.Request, *dressing: Dressing) -> None:
    """Note changes of header fields for this request's answer."""
    request[_DRESSING] = (*request.get(_DRESSING, ()), *dressing)


def dressed(request: web.Request, name: str, value: str) -> str | None:
    """Return a field of this request's answer once every change is made, or None if it is dropped."""
    response = web.Response(headers={name: value})
    for fault in request.get(_DRESSING, ()):
        _dress(response, fault)
    return response.headers.get(name)


def split_target(request: web.Request) -> tuple[str, str]:
    """Return the path and the query as sent, octet for octet."""
    path, _, query = request.raw_path.partition("?")
    return path, query


def answer(document: Document, status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    """Make a whole answer from a document."""
    response = web.Response(body=document.octets, status=status, reason=reason_phrase(status), headers=headers)
    response.headers["Content-Type"] = document.content_type
    return response


class _Silence(web.Response):
    """No answer: the connection is gone, closed on purpose or by the client."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        raise ConnectionResetError


def server(
    state: State,
    origin: Origin,
    handler: Handler,
    own: Callable[[], Mapping[str, str]],
    parts: Mapping[str, web.Application] = MappingProxyType({}),
) -> web.Application:
    """Make an application that hands every request to `handler`, and records it with the status of its answer.

    `own` makes the fields that this origin adds to each answer. `parts` are applications under a path of their own,
    whose requests are not recorded. A request for a host that is not the sandbox's own is answered by none of them.
    """

    async def recorded(request: web.Request) -> web.StreamResponse:
        path, query = split_target(request)
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers)
        request[_RECORD] = state.records.open(RequestRecord(origin, request.method, path, query, headers))
        try:
            return await handler(request)
        except ConnectionError:
            return _Silence()

    async def dress(request: web.Request, response: web.StreamResponse) -> None:
        if _RECORD not in request:
            return
        for name, value in own().items():
            response.headers[name] = value
        for fault in request.get(_DRESSING, ()):
            _dress(response, fault)
        state.records.settle(request[_RECORD], response.status)

    @web.middleware
    async def for_own_hosts(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not state.answers(request, origin):
            # RFC 9110 §15.5.20.
            return web.Response(status=421, reason=reason_phrase(421), text=_MISDIRECTED)
        return await handler(request)

    application = web.Application(client_max_size=_BODY_BYTES, middlewares=[_read_out, for_own_hosts])
    application.on_response_prepare.append(dress)
    for path, part in parts.items():
        application.add_subapp(path, part)
    application.router.add_route("*", "/{rest:.*}", recorded)
    return application


@web.middleware
async def _read_out(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Read the rest of a request's body before its answer, which a client that still sends might never see."""
    try:
        response = await handler(request)
    except web.HTTPException:
        await _discard(request)
        raise
    await _discard(request)
    return response


async def _discard(request: web.Request) -> None:
    left = _DISCARD_BYTES
    with contextlib.suppress(TimeoutError, ConnectionError, web.RequestPayloadError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            while left > 0 and (block := await request.content.readany()):
                left -= len(block)


def _dress(response: web.StreamResponse, fault: Dressing) -> None:
    match fault:
        case WrongType(content_type):
            response.headers["Content-Type"] = content_type
        case Headers(put, drop):
            for name in drop:
                response.headers.popall(name, None)
            for name, _ in put:
                response.headers.popall(name, None)
            for name, value in put:
                response.headers.add(name, value)
