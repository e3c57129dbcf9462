"""Erasures that a client asks for: each carried out in turn, and told to the audit log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiohttp import web

from proxy.clients import Client
from proxy.erasure import Reach
from proxy.errors import GatewayError, Overloaded, StoreError
from proxy.telemetry.audit import log_audit
from proxy.web.context import EXCHANGE, GATEWAY

_DONE: Final = "done"
_ERASING: Final = frozenset({"purge", "revoke"})
"""What a cache in front has to hear of."""


async def carry_out(
    request: web.Request,
    client: Client,
    event: str,
    reaches: Sequence[Reach],
    change: Callable[[Reach], Awaitable[None]],
) -> web.Response:
    """`change` each of the reaches for a client: 204.

    Raises `Overloaded` at the first that cannot be written down; those before it hold.
    """
    done: list[Reach] = []
    try:
        for reach in reaches:
            try:
                await change(reach)
            except StoreError as error:
                _note(request, client, event, reach, error)
                raise Overloaded("This cannot be written down now.", note=error.note) from error
            done.append(reach)
            _note(request, client, event, reach)
    finally:
        if event in _ERASING:
            request.app[GATEWAY].cdn.purge(done)
    return web.Response(status=204, headers={"Cache-Control": "no-store"})


def _note(request: web.Request, client: Client, event: str, reach: Reach, error: GatewayError | None = None) -> None:
    log_audit(
        event=event,
        client_id=client.id,
        subject=str(reach),
        outcome=_DONE if error is None else error.kind,
        request_id=request[EXCHANGE].request_id,
    )
