"""Deletion of a media, at the provider and in every tier: block the media, ask the provider, settle the block.

1. The block `gone` is written before the provider is asked, and it erases. So nothing stored is served again, even if
   the gateway is killed half-way, and nothing that is being fetched is stored. The block ends by itself after a while.
2. While the block holds, nothing is served, fetched or stored. So a deletion that succeeds prolongs the block and
   erases nothing again, unless the block did not hold to the end: another worker may have been refused, and lifted it.
3. A refusal lifts the block. So does a failure that leaves the outcome unknown. Lifting erases as well, so that bytes
   fetched by a reader that was let in just before the block are not served either.

A deletion runs to its end in a task of its own, whether or not its client still waits.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from proxy.cache.engine import Engine
from proxy.erasure import BlockKind, Reach
from proxy.errors import (
    GatewayError,
    MediaNotFound,
    Overloaded,
    RevocationsFull,
    SharedTierAway,
    StoreError,
    SubaccountRefused,
    UpstreamBusy,
    UpstreamError,
    UpstreamRefused,
    UpstreamRefusedCredentials,
)
from proxy.model import MediaRef
from proxy.telemetry.audit import log_audit
from proxy.upstream.cdn_purge import CdnPurges
from proxy.upstream.client import UpstreamClient
from proxy.upstream.transport import Method

_log: Final = logging.getLogger("media_gateway.web")

MOST: Final = 64
"""Deletions under way at once."""
_SPARE_SECONDS: Final = 60.0
_BUSY: Final = "The gateway cannot delete media at the moment. Try again later."
_CERTAIN: Final = (UpstreamRefused, UpstreamRefusedCredentials, UpstreamBusy)
"""Failures after which the media is certainly as it was. After any other failure its state is unknown."""
_CUT_OFF: Final = "cut-off"


@dataclass(frozen=True, slots=True)
class Asked:
    """A client that asks for a deletion, and the request in which it asks."""

    client_id: str
    request_id: str


@dataclass(slots=True)
class _Running:
    task: asyncio.Task[None]
    asked: list[Asked]


class Deletions:
    """The deletions under way. An async context manager: leaving it waits at most `drain_seconds` for them.

    A media that was deleted stays blocked for `gone_seconds`. The block of a deletion that is cut off half-way
    ends by itself, and earlier.
    """

    def __init__(
        self,
        engine: Engine,
        upstream: UpstreamClient,
        cdn: CdnPurges,
        *,
        gone_seconds: float,
        drain_seconds: float,
    ) -> None:
        self._engine = engine
        self._upstream = upstream
        self._cdn = cdn
        self.gone_seconds = gone_seconds
        self._drain_seconds = drain_seconds
        self._pending_seconds = upstream.longest_call + _SPARE_SECONDS
        self._running: dict[MediaRef, _Running] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = {running.task for running in self._running.values()}
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=self._drain_seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def delete(self, ref: MediaRef, target: str, asked: Asked) -> None:
        """Delete a media; `target` is its path at the provider. Clients that ask meanwhile share the outcome.

        Raises `MediaNotFound` if the provider does not have it, `Overloaded`, `SharedTierAway` or `RevocationsFull` if
        nothing was begun, and the other `UpstreamError`s.
        """
        running = self._running.get(ref)
        if running is None:
            if len(self._running) >= MOST:
                raise Overloaded(_BUSY, note=f"{MOST} deletions are under way")
            task = asyncio.create_task(self._run(ref, target), name=f"delete {ref}")
            task.add_done_callback(lambda _: self._ended(ref))
            running = self._running[ref] = _Running(task, [])
        running.asked.append(asked)
        await asyncio.shield(running.task)

    def _ended(self, ref: MediaRef) -> None:
        running = self._running.pop(ref)
        outcome = _outcome(running.task)
        for asked in running.asked:
            log_audit(
                event="delete",
                client_id=asked.client_id,
                subject=str(ref),
                outcome=outcome,
                request_id=asked.request_id,
            )

    async def _run(self, ref: MediaRef, target: str) -> None:
        account = self._upstream.account(ref.account)
        # Before the block, which erases.
        self._upstream.require_asked(account, target)
        try:
            # An earlier block belongs to a deletion that has succeeded, or that another worker is carrying out.
            blocked = BlockKind.GONE in await self._engine.block_kinds(ref)
            await self._engine.mark_gone(ref, self._pending_seconds)
        except StoreError as error:
            raise refusal_of(error, _BUSY) from error
        try:
            await self._upstream.call(account, Method.DELETE, target)
        except UpstreamError as error:
            # Refused credentials say nothing about the media, and a block would outlive them.
            if isinstance(error, MediaNotFound) and not isinstance(error, SubaccountRefused):
                await self._settle(ref)
            else:
                await self._take_back(ref, blocked=blocked, certain=isinstance(error, _CERTAIN))
            raise
        await self._settle(ref)

    async def _settle(self, ref: MediaRef) -> None:
        """Block the media, which the provider does not have, for as long as a link could open it."""
        try:
            await self._engine.mark_gone(ref, self.gone_seconds)
        except StoreError as error:
            # The first block erased what was stored, and the provider no longer has the media.
            _log.error("%s is deleted, but stays blocked for a short time only: %s", ref, error.note)
            await self._erase(ref)
        self._cdn.purge([Reach.of(ref)])

    async def _take_back(self, ref: MediaRef, *, blocked: bool, certain: bool) -> None:
        """Lift the block, unless there was an earlier one. `certain`: the provider has the media as it was."""
        if not blocked:
            await self._lift(ref)
        elif not certain:
            await self._erase(ref)
        if not certain:
            self._cdn.purge([Reach.of(ref)])

    async def _erase(self, ref: MediaRef) -> None:
        """Erase what was fetched since the block, in case another worker has lifted it meanwhile."""
        try:
            await self._engine.erase(Reach.of(ref))
        except StoreError as error:
            _log.error("%s could not be erased again: %s", ref, error.note)

    async def _lift(self, ref: MediaRef) -> None:
        """Lift the block. One that holds for longer belongs to a deletion by another worker, which has succeeded."""
        try:
            await self._engine.unmark_gone(ref, self._pending_seconds)
        except StoreError as error:
            _log.error("%s stays blocked for up to %.0f s: %s", ref, self._pending_seconds, error.note)


def _outcome(task: asyncio.Task[None]) -> str:
    """Return the outcome of an ended deletion for the audit log: `done`, `cut-off`, or a problem's slug."""
    if task.cancelled():
        return _CUT_OFF
    match task.exception():
        case None:
            return "done"
        case GatewayError() as error:
            return error.kind
        case _:
            return GatewayError.kind


def refusal_of(error: StoreError, otherwise: str) -> GatewayError:
    """Return the error for the client of a change that could not be written down.

    It gives the reason if an operator can act on it, else `otherwise` as its detail.
    """
    match error:
        case SharedTierAway() | RevocationsFull():
            return error
        case _:
            return Overloaded(otherwise, note=error.note)
