"""Invalidations that a client asks for: each is carried out in turn, and written to the audit log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiohttp import web

from proxy.clients import Client
from proxy.erasure import Reach
from proxy.errors import GatewayError, StoreError
from proxy.telemetry.audit import log_audit
from proxy.upstream.cdn_purge import CdnPurges
from proxy.web.exchange import EXCHANGE
from proxy.web.services.deletion import refusal_of

_DONE: Final = "done"
_BUSY: Final = "The gateway cannot write this down at the moment. Try again later."


async def carry_out(
    request: web.Request,
    client: Client,
    event: str,
    reaches: Sequence[Reach],
    change: Callable[[Reach], Awaitable[None]],
    *,
    require_room: Callable[[Sequence[Reach]], Awaitable[None]] | None = None,
    cdn: CdnPurges | None = None,
) -> web.Response:
    """Carry out `change` on each of the reaches for a client, and answer 204.

    `require_room` is asked before the first of several; `cdn` is told what was erased. `event` names the change in the
    audit log. Raises what `refusal_of` returns for the first reach that cannot be written down; those before it hold.
    """
    done: list[Reach] = []
    if require_room is not None and len(reaches) > 1:
        try:
            await require_room(reaches)
        except StoreError as error:
            _note(request, client, event, reaches[0], error)
            raise refusal_of(error, _BUSY) from error
    try:
        for reach in reaches:
            try:
                await change(reach)
            except StoreError as error:
                _note(request, client, event, reach, error)
                raise refusal_of(error, _BUSY) from error
            done.append(reach)
            _note(request, client, event, reach)
    finally:
        if cdn is not None:
            cdn.purge(done)
    return web.Response(status=204, headers={"Cache-Control": "no-store"})


def _note(request: web.Request, client: Client, event: str, reach: Reach, error: GatewayError | None = None) -> None:
    log_audit(
        event=event,
        client_id=client.id,
        subject=str(reach),
        outcome=_DONE if error is None else error.kind,
        request_id=request[EXCHANGE].request_id,
    )
