"""Requests over aiohttp: no cookies, no proxies, no redirects, addresses checked, its exceptions translated here."""

from __future__ import annotations

import asyncio
import enum
import errno
import os
import select
import socket
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from contextvars import ContextVar
from functools import partial
from types import SimpleNamespace, TracebackType
from typing import Final, Protocol, Self, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from proxy.errors import (
    UpstreamError,
    UpstreamMalformed,
    UpstreamRedirectRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from proxy.model import IPAddress
from proxy.origin import PRESENTED
from proxy.semantics.fields import Fields
from proxy.upstream.addresses import AddressInfo, AddressRefused, local_socket, public_socket
from proxy.upstream.providers import Accounts, literal_address
from proxy.upstream.redirects import Hop
from proxy.upstream.retry import Cause, Setback
from proxy.upstream.slots import Permit, Slots
from proxy.version import version

BUFFER: Final = 262_144
"""Bytes of a body that aiohttp holds before it stops reading (it allows twice as much to be there)."""

_DRAIN_BYTES: Final = 65_536
_DRAIN_SECONDS: Final = 1.0
_KEEPALIVE_SECONDS: Final = 30.0


class Method(enum.StrEnum):
    """A method that the gateway uses upstream."""

    GET = "GET"
    DELETE = "DELETE"


USER_AGENT: Final = f"media-gateway/{version()}"
"""The name by which the gateway asks. Made at the import: finding the version out reads files."""

_SocketFactory = Callable[[AddressInfo], socket.socket]

_permit: ContextVar[Permit] = ContextVar("permit")
"""The permit of the request under way: aiohttp hands nothing of a request's caller to its connector."""


class Asking(Protocol):
    """Listener to the connection of a request."""

    def connecting(self) -> None:
        """Note that a connection is being made, perhaps since one that was there has broken."""
        ...

    def connected(self) -> None:
        """Note that there is a connection, made or taken from the pool."""
        ...


class Transport:
    """Two connection pools: one for the public internet, one for the origins that the settings exempt."""

    def __init__(self, accounts: Accounts, slots: Slots, *, connect_seconds: float) -> None:
        self._slots = slots
        self._accounts = accounts
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds)
        self._stack = AsyncExitStack()
        self._public: aiohttp.ClientSession | None = None
        self._local: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._public = await self._stack.enter_async_context(self._session(public_socket))
        self._local = await self._stack.enter_async_context(self._session(local_socket(self._is_literal)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _is_literal(self, address: IPAddress) -> bool:
        """Return whether an exempt origin is written as that address."""
        return any(literal_address(origin.host) == address for origin in self._accounts.local)

    def _session(self, make_socket: _SocketFactory) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            # aiohttp's own limit is one of a process, and does not count what is idle.
            connector=_Connector(self._slots, keepalive_timeout=_KEEPALIVE_SECONDS, socket_factory=make_socket),
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            read_bufsize=BUFFER,
            headers={"User-Agent": USER_AGENT, **dict(PRESENTED)},
            skip_auto_headers=("Accept",),
            trace_configs=[_connections_told()],
        )

    async def send(
        self, method: Method, hop: Hop, headers: dict[str, str], permit: Permit, asking: Asking
    ) -> aiohttp.ClientResponse:
        """Send one request within the permit, and tell `asking` of its connection. The caller closes the answer.

        Raises `Setback` if no connection came about or it broke before an answer, `UpstreamMalformed` for an answer
        that is not HTTP, `UpstreamRedirectRefused` or `UpstreamUnreachable` for an address that is not public.
        """
        session = self._local if hop.origin in self._accounts.local else self._public
        assert session is not None, "the transport is used within its context"

        async def once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            # aiohttp repeats what HTTP calls idempotent (RFC 9110 §9.2.2) if a connection breaks. A DELETE that was
            # carried out would then seem to find nothing.
            try:
                return await handler(request)
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
                raise _translate(error, hop) from None

        _permit.set(permit)
        try:
            return await session.request(
                method,
                hop.url,
                headers=headers,
                allow_redirects=False,
                trace_request_ctx=asking,
                middlewares=() if method is Method.GET else (once,),
            )
        except (aiohttp.ClientError, OSError) as error:
            # aiohttp's messages hold the URL, and with it a signature: the chain ends here.
            raise _translate(error, hop) from None


def _connections_told() -> aiohttp.TraceConfig:
    """Return a configuration by which each request's `Asking` hears of its connection, with its TLS if it has any."""
    config = aiohttp.TraceConfig()

    async def connecting(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        asking: Asking = context.trace_request_ctx
        asking.connecting()

    async def connected(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        asking: Asking = context.trace_request_ctx
        asking.connected()

    config.on_connection_create_start.append(connecting)
    config.on_connection_create_end.append(connected)
    config.on_connection_reuseconn.append(connected)
    return config


class _Connection(ResponseHandler):
    """A connection that closes at once, and says so."""

    def __init__(self, slots: Slots, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.new = True
        self._slots = slots

    def close(self) -> None:
        """Close without a last word: a peer that owes one, as TLS has it, would keep the connection open."""
        self.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        # The loop closes the socket after this, and another worker may take the slot and connect at once.
        self._loop.call_soon(self._slots.lost, self)


class _Connector(aiohttp.TCPConnector):
    """A pool whose connections each take a slot of an account, that of the call which uses it or used it last.

    It never gives a connection out again on which something came unasked. That would be taken for the answer to the
    next request, which is about another media (RFC 9112 §9.2).

    Leans on these internals of aiohttp's: `_factory`, `_create_connection` and `_release`.
    """

    def __init__(self, slots: Slots, *, keepalive_timeout: float, socket_factory: _SocketFactory) -> None:
        super().__init__(limit=0, keepalive_timeout=keepalive_timeout, socket_factory=socket_factory)
        self._slots = slots
        self._factory = cast("partial[ResponseHandler]", partial(_Connection, slots, self._loop))

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the signature is aiohttp's
    ) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            assert isinstance(protocol, _Connection), "a connection has its protocol until it is released"
            if protocol.new:
                protocol.new = False
                return connection
            try:
                await _permit.get().reuse(protocol)
            except BaseException:
                connection.close()
                raise
            # A connection that was idle may be closing at its other end just now. A GET is sent again then; of a
            # DELETE it could not be told whether it was carried out.
            if req.method == Method.GET and not (protocol.should_close or _has_spoken(protocol.transport)):
                return connection
            connection.close()

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the signature is aiohttp's
    ) -> ResponseHandler:
        permit = _permit.get()
        await permit.opening()
        try:
            protocol = await super()._create_connection(req, traces, timeout)
        except BaseException:
            permit.failed()
            raise
        assert isinstance(protocol, _Connection), "the factory makes no other one"
        if protocol.transport is None:
            # It was lost before this task had its turn.
            permit.failed()
        else:
            permit.opened(protocol)
        return protocol

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        assert isinstance(protocol, _Connection), "the factory makes no other one"
        super()._release(key, protocol, should_close=should_close)
        if protocol.is_connected():
            self._slots.rests(protocol)
        else:
            self._slots.closes(protocol)


def _has_spoken(transport: asyncio.BaseTransport | None) -> bool:
    """Return whether octets, or the end, wait in the socket of an idle connection."""
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is None:
        return True
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    return bool(waiting.poll(0))


def _translate(error: aiohttp.ClientError | OSError, hop: Hop) -> Setback | UpstreamError:
    match error:
        case aiohttp.ConnectionTimeoutError():
            return Setback(UpstreamTimeout(note=f"no connection to {hop.origin} in time"), Cause.UNREACHABLE)
        case aiohttp.ClientSSLError():
            return UpstreamUnreachable(note=f"no TLS with {hop.origin}: {_reason(error)}")
        case aiohttp.ClientConnectorError() if isinstance(error.os_error, AddressRefused):
            refused = UpstreamUnreachable if hop.number == 0 else UpstreamRedirectRefused
            return refused(note=f"{hop.origin} has an address that is not public")
        case aiohttp.ClientConnectionError() | OSError():
            unsent = isinstance(error, aiohttp.ClientConnectorError)
            note = f"{'no connection to' if unsent else 'a broken connection to'} {hop.origin}: {_reason(error)}"
            return Setback(UpstreamUnreachable(note=note), Cause.UNREACHABLE if unsent else Cause.BROKEN)
        case _:
            return UpstreamMalformed(note=f"{hop.origin} answered with broken HTTP: {type(error).__name__}")


def _reason(error: aiohttp.ClientError | OSError) -> str:
    """Return why there is no connection. Neither aiohttp's message nor the URL is repeated."""
    match error:
        case aiohttp.ClientConnectorCertificateError(certificate_error=ssl.SSLCertVerificationError() as cause):
            return f"the certificate is not accepted: {cause.verify_message}"
        case aiohttp.ClientConnectorDNSError():
            return "the name cannot be resolved"
        case aiohttp.ClientConnectorSSLError(os_error=ssl.SSLError(reason=str(reason))):
            return reason.lower().replace("_", " ")
        case aiohttp.ClientConnectorError(os_error=OSError(errno=int(number))) if number in errno.errorcode:
            return os.strerror(number).lower()
        case OSError(errno=int(number)) if number in errno.errorcode:
            return os.strerror(number).lower()
        case _:
            return type(error).__name__


def received(response: aiohttp.ClientResponse) -> Fields:
    """Return the fields of an answer, each byte one character, so that none is lost."""
    return Fields.of((name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers)


async def finish(response: aiohttp.ClientResponse) -> None:
    """Read the rest of an unwanted body, if that is little and comes soon, to keep the connection."""
    left = _DRAIN_BYTES
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while left > 0 and (chunk := await response.content.readany()):
                left -= len(chunk)
    except (aiohttp.ClientError, OSError, RuntimeError):
        pass
    # Closes the connection if the body is not at its end.
    response.release()
