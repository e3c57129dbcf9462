"""The fills' use of the shared tier: they look there first, take turns with other nodes, and share what they fetch."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from proxy.cache.body import FileBody, RamBody
from proxy.cache.disk.files import BodyFile
from proxy.cache.entry import Entry
from proxy.cache.redis.outage import Trust
from proxy.cache.stored import StoredResponse
from proxy.cache.tiers import Tiers
from proxy.errors import StoreError
from proxy.model import MediaRef
from proxy.semantics.stored import StoredMetadata

if TYPE_CHECKING:
    from proxy.cache.redis.lease import Turn
    from proxy.cache.redis.log import Position
    from proxy.cache.redis.store import SharedTier

_TURN_SECONDS: Final = 2.0
"""The longest wait for another worker's validation, if no response may be used without one."""
_PAUSE_SECONDS: Final = 0.05


class Sharing:
    """The shared tier in front of one worker's upstream. `usable` tells whether a response may serve unvalidated."""

    def __init__(self, shared: SharedTier, tiers: Tiers, usable: Callable[[StoredMetadata], bool]) -> None:
        self._shared = shared
        self._tiers = tiers
        self._usable = usable

    @property
    def position(self) -> Position | None:
        """The last invalidation of the log that holds here: what is asked for now is younger."""
        return self._shared.follower.position

    def turn(self, ref: MediaRef, stored: StoredResponse | None) -> AbstractAsyncContextManager[Turn[StoredResponse]]:
        """Return what another node has fetched, or the turn to fetch; `stored` is what this one has and may not use."""
        return self._shared.turn(str(ref), partial(self._seek, ref, stored))

    async def _seek(self, ref: MediaRef, stored: StoredResponse | None) -> StoredResponse | None:
        """Return what the shared tier has, if it may be used; small bodies are stored in the tiers here."""
        key, epoch = str(ref), self._tiers.epoch
        found = await self._shared.find(key, epoch)
        if found is None or not self._usable(found.entry.metadata):
            return None
        entry = found.entry
        if stored is not None and stored.entry.generation == entry.generation:
            # The bytes are here.
            freshened = await self._tiers.freshen(ref, entry, epoch)
            return StoredResponse(entry, stored.content, epoch) if freshened else None
        if entry.length > self._tiers.ram_object_bytes:
            return found
        content = await self._shared.read(key, found)
        if content is None:
            return None
        await self._tiers.keep(ref, entry, content)
        return StoredResponse(entry, content, epoch)

    @asynccontextmanager
    async def validation(self, ref: MediaRef, stored: StoredResponse) -> AsyncIterator[StoredResponse | None]:
        """Yield what may be used of a media without asking its upstream, or None and the turn to ask.

        Another worker of the node may have validated since `stored` was found, and one that asks now is waited for.
        """
        validations, key = self._shared.validations, str(ref)
        if self._tiers.current and validations.trust(key, stored.entry) is Trust.FULL:
            # Its own lifetime is over.
            yield None
            return
        clock = asyncio.get_running_loop().time
        deadline = clock() + _TURN_SECONDS
        while True:
            found = await self._tiers.look_again(ref, stored)
            trust = validations.trust(key, found.entry)
            if trust is Trust.FULL:
                yield found if self._usable(found.metadata) else None
                return
            if validations.begin(key, trust):
                break
            if clock() >= deadline:
                yield None
                return
            await asyncio.sleep(_PAUSE_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311 - nothing depends on who guesses it
        try:
            yield None
        finally:
            validations.end(key)

    def takes(self, length: int | None) -> bool:
        """Return whether a body of this length in bytes is shared; None is a length that is not known yet."""
        return self._shared.takes(length)

    async def keep(self, ref: MediaRef, entry: Entry, content: bytes | BodyFile, since: Position | None) -> None:
        """Share a body that is whole and stored here; `since` is the `position` from before it was asked for."""
        if isinstance(content, bytes):
            await self._shared.keep(str(ref), entry, RamBody(content), since)
            return
        disk = self._tiers.disk
        if disk is None or not self._shared.takes(entry.length):
            return
        try:
            file = await disk.open_body(entry)
        except StoreError:
            return
        if file is not None:
            body = FileBody(file, entry.length)
            try:
                await self._shared.keep(str(ref), entry, body, since)
            finally:
                await body.close()

    async def freshen(self, ref: MediaRef, entry: Entry) -> None:
        """Freshen the shared response, as a validation has freshened the one here."""
        await self._shared.freshen(str(ref), entry)

    async def drop(self, ref: MediaRef, generation: str | None = None) -> None:
        """Remove the shared response, or only the one of that generation: the upstream says that it is not good."""
        await self._shared.drop(str(ref), generation)
