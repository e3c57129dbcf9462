"""Deleting a media at the provider and everywhere here: marked as gone first, then asked for, then settled.

1. The mark is written before the provider is asked, and erases: what was stored is not served again, also where the
   gateway is killed in the middle, and what is being fetched is not kept. It ends by itself after a while.
2. While it holds nothing is served, fetched or stored. So a deletion that succeeds prolongs it and erases nothing
   again, unless it did not hold to the end: another worker may have been refused, and has lifted it.
3. A refusal lifts the mark. So does a failure after which nobody knows; lifting erases, so that nothing that was
   fetched by a reader who was let in just before the mark is served either.

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
from proxy.web.admin.invalidation import refusal_of

_log: Final = logging.getLogger("media_gateway.web")

MOST: Final = 64
"""Deletions under way at once."""
_SPARE_SECONDS: Final = 60.0
_BUSY: Final = "The gateway cannot delete now."
_CERTAIN: Final = (UpstreamRefused, UpstreamRefusedCredentials, UpstreamBusy)
"""After these the media is as it was; after any other failure nobody knows."""
_CUT_OFF: Final = "cut-off"


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for a deletion, and in which request."""

    client_id: str
    request_id: str


@dataclass(slots=True)
class _Running:
    task: asyncio.Task[None]
    asked: list[Asked]


class Deletions:
    """The deletions under way. An async context manager: leaving it waits at most `drain_seconds` for them.

    A media that was deleted stays marked for `tombstone_seconds`. The mark of a deletion that is cut off in the middle
    ends by itself, and earlier.
    """

    def __init__(
        self,
        engine: Engine,
        upstream: UpstreamClient,
        cdn: CdnPurges,
        *,
        tombstone_seconds: float,
        drain_seconds: float,
    ) -> None:
        self._engine = engine
        self._upstream = upstream
        self._cdn = cdn
        self.tombstone_seconds = tombstone_seconds
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
        """Delete a media; `target` is its path at the provider. Whoever asks meanwhile shares the outcome.
        Raises `MediaNotFound` where the provider does not have it, `Overloaded`, `SharedTierAway` or `RevocationsFull`
        where nothing was begun, and the other `UpstreamError`s.
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
        # Before anything is marked, which erases too.
        self._upstream.require_asked(account, target)
        try:
            # A mark that stands already is of a deletion that has succeeded, or that another worker is at.
            marked = BlockKind.GONE in await self._engine.block_kinds(ref)
            await self._engine.mark_gone(ref, self._pending_seconds)
        except StoreError as error:
            raise refusal_of(error, _BUSY) from error
        try:
            await self._upstream.call(account, Method.DELETE, target)
        except UpstreamError as error:
            # Credentials that open nothing today say nothing of the media, which a tombstone would bar tomorrow.
            if isinstance(error, MediaNotFound) and not isinstance(error, SubaccountRefused):
                await self._settle(ref)
            else:
                await self._take_back(ref, marked=marked, certain=isinstance(error, _CERTAIN))
            raise
        await self._settle(ref)

    async def _settle(self, ref: MediaRef) -> None:
        """Keep the media from everyone, as the provider does not have it, for as long as a link could open it."""
        try:
            await self._engine.mark_gone(ref, self.tombstone_seconds)
        except StoreError as error:
            # What was stored went with the first mark, and the provider has nothing any more.
            _log.error("%s is deleted, and stays marked as gone for a short time only: %s", ref, error.note)
            await self._erase(ref)
        self._cdn.purge([Reach.of(ref)])

    async def _take_back(self, ref: MediaRef, *, marked: bool, certain: bool) -> None:
        """Lift the mark, unless one stood before; `certain`: the provider has the media as it was."""
        if not marked:
            await self._lift(ref)
        elif not certain:
            await self._erase(ref)
        if not certain:
            self._cdn.purge([Reach.of(ref)])

    async def _erase(self, ref: MediaRef) -> None:
        """Erase what was fetched since the mark, if another worker has lifted that meanwhile."""
        try:
            await self._engine.erase(Reach.of(ref))
        except StoreError as error:
            _log.error("%s could not be erased again: %s", ref, error.note)

    async def _lift(self, ref: MediaRef) -> None:
        """Take the mark back. One that holds for longer is of a deletion by another worker, which has succeeded."""
        try:
            await self._engine.unmark_gone(ref, self._pending_seconds)
        except StoreError as error:
            _log.error("%s stays marked as gone for up to %.0f s: %s", ref, self._pending_seconds, error.note)


def _outcome(task: asyncio.Task[None]) -> str:
    """What the audit log says of a deletion that has ended: `done`, `cut-off`, or a problem's slug."""
    if task.cancelled():
        return _CUT_OFF
    match task.exception():
        case None:
            return "done"
        case GatewayError() as error:
            return error.kind
        case _:
            return GatewayError.kind
